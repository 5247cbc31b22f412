//! Who holds which field, as far as the apiserver in memory knows: what the operator never applied is somebody else's,
//! field by field. Pure.

use serde_json::{Map, Value, json};

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

/// The set of fields of an object, as a note names it: lists are one field, and what says which object it is is none.
pub(super) fn set_of(object: &Value) -> Value {
    let mut set = below(object);
    let fields = set.as_object_mut().expect("an object has fields");
    fields.retain(|field, _| !["f:apiVersion", "f:kind", "f:applied"].contains(&field.as_str()));
    let metadata = fields.get_mut("f:metadata").and_then(Value::as_object_mut).expect("it has metadata");
    metadata.retain(|field, _| !["f:name", "f:namespace"].contains(&field.as_str()));
    set
}

fn below(value: &Value) -> Value {
    let fields = value.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
    Value::Object(fields.map(|(name, value)| (format!("f:{name}"), below(value))).collect::<Map<_, _>>())
}

/// Takes out of a set what somebody changes or removes.
pub(super) fn lose(set: &mut Value, before: &Value, after: &Value) {
    let (Value::Object(set), Value::Object(before)) = (set, before) else { return };
    for (name, before) in before {
        let after = after.get(name).unwrap_or(&Value::Null);
        if before.is_object() && after.is_object() {
            lose(set.get_mut(&format!("f:{name}")).unwrap_or(&mut Value::Null), before, after);
        } else if before != after {
            set.remove(&format!("f:{name}"));
        }
    }
}
