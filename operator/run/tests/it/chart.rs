//! What the operator's chart sets, the operator reads. Helm is not needed here: tools/charts.sh keeps
//! `charts/smallest-operator/tests/<case>/expected.yaml` as the chart renders them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize as _;
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn case(name: &str) -> PathBuf {
    root().join("charts/smallest-operator/tests").join(name)
}

/// The objects of a case; none when the case is an error.
fn rendered(case: &Path) -> Vec<Value> {
    let text = fs::read_to_string(case.join("expected.yaml")).unwrap_or_default();
    let documents = serde_yaml::Deserializer::from_str(&text);
    documents.map(|document| Value::deserialize(document).expect("Helm renders YAML")).collect()
}

/// Names of all environment variables that any case sets on the operator.
fn environment() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(case("")).expect("cases of the chart") {
        for object in rendered(&entry.expect("entry").path()) {
            let env = object["spec"]["template"]["spec"]["containers"][0]["env"].as_array().cloned();
            names.extend(env.into_iter().flatten().filter_map(|one| one["name"].as_str().map(str::to_owned)));
        }
    }
    names
}

#[test]
fn every_variable_of_the_chart_is_one_that_the_operator_knows() {
    let (_, help, _) = crate::run(&["--help"]);
    let names = environment();
    assert!(names.contains("SMALLEST_IMAGE_GATEWAY") && names.len() > 10, "the cases are gone: {names:?}");
    let unknown: Vec<&String> = names
        .iter()
        .filter(|name| !help.contains(&format!("[env: {name}=")) && !help.contains(&format!("`{name}`")))
        .collect();
    assert!(unknown.is_empty(), "the chart sets what `smallest-operator --help` does not name: {unknown:?}");
}

/// A right: group, resource, verb.
type Right = (String, String, String);

/// The rights of a role, by its name.
fn granted(objects: &[Value], name: &str) -> BTreeSet<Right> {
    let role = objects.iter().find(|object| object["rules"].is_array() && object["metadata"]["name"] == name);
    let rules = role.expect("the chart has the role")["rules"].as_array().cloned().unwrap_or_default();
    let mut rights = BTreeSet::new();
    for rule in &rules {
        let all = |field: &str| {
            rule[field].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned)
        };
        for group in all("apiGroups") {
            for resource in all("resources") {
                rights.extend(all("verbs").map(|verb| (group.clone(), resource.clone(), verb)));
            }
        }
    }
    rights
}

/// The rights of the table in docs/operator.md: `| group | resources | verbs (why) |`.
fn documented() -> BTreeSet<Right> {
    let text = fs::read_to_string(root().join("docs/operator.md")).expect("docs/operator.md");
    let table =
        text.split("## Rights").nth(1).and_then(|rest| rest.split("\n## ").next()).expect("its section");
    let mut rights = BTreeSet::new();
    for line in table.lines().filter(|line| line.starts_with("| `") || line.starts_with("| core")) {
        let cells: Vec<String> = line.split('|').map(|cell| cell.trim().replace('`', "")).collect();
        let group = if cells[1] == "core" { "" } else { &cells[1] };
        let verbs = cells[3].split('(').next().unwrap_or_default();
        for resource in cells[2].split(',') {
            let right = |verb: &str| (group.to_owned(), resource.trim().to_owned(), verb.trim().to_owned());
            rights.extend(verbs.split(',').map(right));
        }
    }
    rights
}

#[test]
fn the_chart_grants_the_documented_rights_and_no_others() {
    let documented = documented();
    assert!(documented.len() > 40, "the table is gone: {documented:?}");
    assert_eq!(granted(&rendered(&case("default")), "smallest-operator"), documented);
    assert_eq!(granted(&rendered(&case("namespaced")), "smallest-operator-objects"), documented);
    // Definitions belong to no namespace, and only one of them is looked at.
    let definitions = rendered(&case("default"));
    let right = |verb: &str| {
        ("apiextensions.k8s.io".to_owned(), "customresourcedefinitions".to_owned(), verb.to_owned())
    };
    let role = "smallest-operator-definitions";
    assert_eq!(granted(&definitions, role), ["get", "list", "watch"].map(right).into());
    let named =
        definitions.iter().find(|object| object["rules"].is_array() && object["metadata"]["name"] == role);
    let named = &named.expect("the role")["rules"][0]["resourceNames"];
    assert_eq!(*named, serde_json::json!(["servicemonitors.monitoring.coreos.com"]));
    assert!(rendered(&case("namespaced")).iter().all(|object| object["metadata"]["name"] != role));
}
