//! What the operator's chart sets, the operator reads. Helm is not needed here: tools/charts.sh keeps
//! `charts/smallest-operator/tests/<case>/expected.yaml` as the chart renders them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde::Deserialize as _;
use serde_json::Value;

/// Names of all environment variables that any case sets on the operator.
fn environment() -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../charts/smallest-operator/tests");
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(folder).expect("cases of the chart") {
        let Ok(rendered) = fs::read_to_string(entry.expect("entry").path().join("expected.yaml")) else {
            continue;
        };
        for document in serde_yaml::Deserializer::from_str(&rendered) {
            let object = Value::deserialize(document).expect("Helm renders YAML");
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
