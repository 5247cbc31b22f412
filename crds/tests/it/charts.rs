//! What chart `smallest` renders is what the schema and its rules accept. Helm is not needed here: tools/charts.sh
//! keeps `charts/smallest/tests/<case>/expected.yaml` as the chart renders them.

use std::fs;
use std::path::Path;

use serde::Deserialize as _;
use serde_json::Value;

fn deployments(text: &str) -> Vec<Value> {
    let documents = serde_yaml::Deserializer::from_str(text);
    let values = documents.map(|document| Value::deserialize(document).expect("Helm renders YAML"));
    values.filter(|value| value["kind"] == "SmallestDeployment").collect()
}

#[test]
fn every_release_is_one_resource_that_the_schema_accepts() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/smallest/tests");
    let mut wrong = Vec::new();
    let mut count = 0;
    for entry in fs::read_dir(&folder).expect("cases of the chart") {
        let case = entry.expect("entry").path();
        let Ok(rendered) = fs::read_to_string(case.join("expected.yaml")) else { continue };
        let found = deployments(&rendered);
        let [deployment] = found.as_slice() else {
            panic!("{} has {} SmallestDeployments", case.display(), found.len());
        };
        if let Err(problems) = crds::read(deployment) {
            wrong.push(format!("{}: {problems:?}", case.display()));
        }
        count += 1;
    }
    assert!(count >= 10, "the cases are gone: {count} found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
