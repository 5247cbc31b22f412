//! Children of unexpected shapes: whatever a cluster hands out, a status comes out, within its bounds.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{cases, given, judge, status};

/// Read once: every run takes one of them.
static CASES: LazyLock<Vec<(String, String)>> = LazyLock::new(cases);

/// One change of a document: where, and to what.
type Change = (prop::sample::Index, prop::sample::Index, u8);

/// Paths of everything in a document.
fn paths(value: &Value, at: &str, all: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"));
                all.push(path.clone());
                paths(value, &path, all);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                let path = format!("{at}/{index}");
                all.push(path.clone());
                paths(value, &path, all);
            }
        }
        _ => {}
    }
}

fn change(documents: &mut [Value], (document, place, how): &Change) {
    let document = document.get_mut(documents);
    // What is given beside objects is made by the test alone.
    if document["kind"] == "Given" {
        return;
    }
    let mut all = Vec::new();
    paths(document, "", &mut all);
    if all.is_empty() {
        return;
    }
    let path = place.get(&all).clone();
    let (parent, name) = path.rsplit_once('/').expect("a path has a parent");
    if how % 8 == 0 {
        if let Some(Value::Object(fields)) = document.pointer_mut(parent) {
            fields.remove(&name.replace("~1", "/").replace("~0", "~"));
        }
        return;
    }
    if name == "kind" {
        return;
    }
    let Some(value) = document.pointer_mut(&path) else { return };
    *value = match how % 8 {
        1 => Value::Null,
        2 => json!(i32::MIN),
        3 => json!(i32::MAX),
        4 => json!("ü{}\u{0}\n".repeat(700)),
        5 => json!(""),
        6 => json!([]),
        _ => json!("False"),
    };
}

/// The reason of a condition, as the Kubernetes API has it.
fn is_reason(reason: &str) -> bool {
    let begins = reason.starts_with(|c: char| c.is_ascii_alphabetic());
    let ends = reason.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    begins
        && ends
        && reason.len() <= 1_024
        && reason.chars().all(|c| c.is_ascii_alphanumeric() || "_,:".contains(c))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_shape_of_children_is_a_reason_to_fail(
        case in any::<prop::sample::Index>(),
        changes in prop::collection::vec(any::<Change>(), 1..12),
    ) {
        let (name, input) = case.get(&CASES);
        let mut documents = given::documents(input).expect("case");
        for one in &changes {
            change(&mut documents, one);
        }
        // What the types do not take, a watch does not hand out either.
        let Ok(objects) = given::from_documents(&documents) else { return Ok(()) };
        let after = status(&objects);
        judge(&objects, |found, now| operator_plan::look_again(&objects.deployment, found, now));
        let types: BTreeSet<&str> = after.conditions.iter().map(|condition| condition.type_.as_str()).collect();
        prop_assert_eq!(types.len(), after.conditions.len(), "{}", name);
        prop_assert!(types.contains("Ready") && types.contains("Progressing") && types.contains("Degraded"));
        prop_assert!(!(types.contains("Reconciling") && types.contains("Stalled")));
        for condition in &after.conditions {
            prop_assert!(condition.message.len() <= 1_024, "{}", name);
            prop_assert!(is_reason(&condition.reason), "{}: {:?}", name, condition.reason);
        }
        prop_assert!(after.scale_decisions.len() <= 5);
        for note in operator_plan::notes(objects.deployment.status.as_ref(), &after) {
            prop_assert!(note.message.len() <= 1_024 && is_reason(&note.reason));
        }
    }
}
