//! Every rule of the schema, both ways: what it refuses and with which message, and what it lets through. A rule
//! without a case in `tests/rules.yaml` fails the last test but one.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crds::SmallestDeployment;
use serde_json::{Value, json};

use crate::minimal;

/// A list of `tests/rules.yaml`.
fn data(list: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rules.yaml");
    let all: Value = serde_yaml::from_str(&fs::read_to_string(path).expect("rules.yaml")).expect("YAML");
    all[list].as_array().expect("list").clone()
}

fn message(case: &Value) -> &str {
    case["message"].as_str().expect("message")
}

fn merge(into: &mut Value, fragment: &Value) {
    let (Value::Object(fields), Value::Object(given)) = (&mut *into, fragment) else {
        *into = fragment.clone();
        return;
    };
    for (name, value) in given {
        if value.is_null() {
            fields.remove(name);
        } else {
            merge(fields.entry(name).or_insert(Value::Null), value);
        }
    }
}

fn with(fragment: &Value) -> Value {
    let mut resource = minimal();
    merge(&mut resource["spec"], fragment);
    resource
}

fn read(fragment: &Value) -> Result<SmallestDeployment, String> {
    crds::read(&with(fragment))
        .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}

#[test]
fn every_rule_refuses_what_it_should_and_nothing_else() {
    for case in data("rules") {
        let (message, bad, good) = (message(&case), &case["bad"], &case["good"]);
        let refused = read(bad).expect_err(message);
        assert!(refused.contains(message), "{bad}: {message:?} is not in {refused:?}");
        assert_eq!(read(good).err(), None, "{good} must be accepted");
    }
}

#[test]
fn a_change_that_would_break_a_running_service_is_refused() {
    for case in data("changes") {
        let (message, bad, good) = (message(&case), &case["bad"], &case["good"]);
        let before = read(&case["before"]).expect("resource before the change");
        let change = |after: &Value| {
            let after = read(after).expect("resource after the change");
            after.validate_cel_update(&before).map_err(|errors| {
                errors.iter().map(|error| error.message.clone()).collect::<Vec<_>>().join("\n")
            })
        };
        let refused = change(bad).expect_err(message);
        assert!(refused.contains(message), "{bad}: {message:?} is not in {refused:?}");
        assert_eq!(change(good).err(), None, "{good} must be accepted");
    }
}

#[test]
fn a_name_from_which_no_pod_could_be_named_is_refused() {
    let mut resource = minimal();
    resource["metadata"]["name"] = json!("s".repeat(40));
    crds::read(&resource).expect("40 characters are fine");
    resource["metadata"]["name"] = json!("s".repeat(41));
    let problems = crds::read(&resource).expect_err("41 are too many");
    assert!(problems.iter().any(|problem| problem.message.contains("longer than 40 characters")));
}

/// A Service's name begins with a letter, also where a pod's need not. The rule is asked by itself: whoever reads a
/// resource without an apiserver refuses such a name before.
#[test]
fn a_name_from_which_no_service_could_be_named_is_refused() {
    let named = |name: &str| {
        let mut resource = minimal();
        resource["metadata"]["name"] = json!(name);
        resource
    };
    for name in ["2nd", "speech.v2", "speech-", "-speech", "Speech", "speech_2"] {
        let refused = crds::read(&named(name)).expect_err(name);
        assert!(refused.iter().any(|problem| problem.path == "metadata.name"), "{name}: {refused:?}");
        let resource: SmallestDeployment = serde_json::from_value(named(name)).expect("a resource");
        let refused = resource.validate_cel().expect_err(name);
        assert!(refused.iter().any(|error| error.message.contains("a letter first")), "{name}: {refused:?}");
    }
    for name in ["s", "s2", "speech-2", "speech--2"] {
        crds::read(&named(name)).expect(name);
    }
}

/// Messages of all rules of the schema.
fn messages(schema: &Value, found: &mut BTreeSet<String>) {
    match schema {
        Value::Object(fields) => {
            for rule in fields.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten()
            {
                found.insert(rule["message"].as_str().expect("message").to_owned());
            }
            fields.values().for_each(|inner| messages(inner, found));
        }
        Value::Array(items) => items.iter().for_each(|inner| messages(inner, found)),
        _ => {}
    }
}

#[test]
fn no_rule_is_without_a_case() {
    let mut found = BTreeSet::new();
    messages(&serde_json::to_value(crds::crd()).expect("plain data"), &mut found);
    let cases = [data("rules"), data("changes")].concat();
    for message in found {
        let known = cases.iter().any(|case| message.contains(self::message(case)))
            || message.contains("the name must not be longer");
        assert!(known, "no case tries the rule {message:?}");
    }
}

/// The apiserver refuses a schema whose rules could cost too much: what a rule looks at has a bound.
#[test]
fn what_rules_look_at_is_bounded() {
    let schema = serde_json::to_value(crds::crd()).expect("plain data");
    let spec =
        &schema["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
    let bounded = |field: &Value, bound: &str| assert!(field[bound].is_u64(), "{field} has no {bound}");
    bounded(&spec["asr"]["properties"]["models"], "maxItems");
    bounded(&spec["asr"]["properties"]["models"]["items"]["properties"]["sha256"], "maxLength");
    let external = &spec["redis"]["properties"]["external"]["properties"];
    bounded(&external["url"], "maxLength");
    let service = &spec["gateway"]["properties"]["service"]["properties"];
    bounded(&service["loadBalancerSourceRanges"], "maxItems");
    bounded(&spec["images"]["properties"]["gateway"], "maxLength");
    let schedules = &spec["asr"]["properties"]["scaling"]["properties"]["schedules"];
    bounded(schedules, "maxItems");
    for field in ["name", "timeZone", "start", "end"] {
        bounded(&schedules["items"]["properties"][field], "maxLength");
    }
    let claim = &spec["asr"]["properties"]["cache"]["properties"]["persistentVolumeClaim"]["properties"];
    bounded(&claim["storageClassName"], "maxLength");
    bounded(&claim["accessModes"], "maxItems");
}
