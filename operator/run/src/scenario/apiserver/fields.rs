//! Who holds which field, as far as the apiserver in memory knows: what the operator never applied is somebody else's,
//! field by field. Pure.

use serde_json::{Value, json};

use super::wire::status;

/// What is said to an apply without force of fields that somebody else has with other values; `None` where there are
/// none.
pub(super) fn refusal(known: &Value, query: &str, body: &Value) -> Option<Value> {
    if query.contains("force=true") || !known["applied"].is_null() {
        return None;
    }
    let mut fields = Vec::new();
    collect(known, body, "", &mut fields);
    if fields.is_empty() {
        return None;
    }
    let mut refusal = status(409, "Conflict", "Apply failed with conflicts with \"kubectl\"");
    let causes = fields.iter().map(|field| json!({ "reason": "FieldManagerConflict", "field": field }));
    refusal["details"] = json!({ "causes": causes.collect::<Vec<_>>() });
    Some(refusal)
}

fn collect(known: &Value, wanted: &Value, path: &str, fields: &mut Vec<String>) {
    match (known, wanted) {
        (Value::Null, _) => {}
        // A selector is one field, whatever is in it.
        (Value::Object(known), Value::Object(wanted)) if !path.ends_with(".selector") => {
            for (name, wanted) in wanted {
                let path = format!("{path}.{name}");
                collect(known.get(name).unwrap_or(&Value::Null), wanted, &path, fields);
            }
        }
        (known, wanted) if known != wanted => fields.push(path.to_owned()),
        _ => {}
    }
}
