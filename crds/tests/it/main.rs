//! The definition as Kubernetes gets it, and the resource as users write it.

mod charts;
mod rules;

use std::path::Path;

use crds::{Device, SmallestDeployment};
use serde_json::{Value, json};

pub(crate) fn minimal() -> Value {
    json!({
        "apiVersion": "smallest.ai/v1",
        "kind": "SmallestDeployment",
        "metadata": {"name": "speech"},
        "spec": {
            "license": {"secretRef": {"name": "license"}},
            "asr": {"models": [{"name": "m", "url": "https://example.com/m", "sha256": "0".repeat(64)}]},
        },
    })
}

fn read(change: impl FnOnce(&mut Value)) -> Result<SmallestDeployment, Vec<String>> {
    let mut resource = minimal();
    change(&mut resource);
    crds::read(&resource).map_err(|problems| problems.iter().map(ToString::to_string).collect())
}

fn refused(change: impl FnOnce(&mut Value)) -> String {
    read(change).expect_err("it must be refused").join("\n")
}

#[test]
fn the_committed_definition_is_the_generated_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("generated/smallestdeployments.yaml");
    let committed = std::fs::read_to_string(&path).expect("committed definition");
    let generated = serde_yaml::to_string(&crds::crd()).expect("plain data");
    assert!(
        committed == generated,
        "the types changed: cargo run -p crds > crds/generated/smallestdeployments.yaml"
    );
}

#[test]
fn the_committed_reference_is_the_generated_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/resource.md");
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == crds::reference(), "the types changed: make generate");
}

#[test]
fn the_definition_has_what_kubectl_shows() {
    let crd = serde_json::to_value(crds::crd()).expect("plain data");
    assert_eq!(crd["spec"]["group"], "smallest.ai");
    assert_eq!(crd["spec"]["names"]["shortNames"], json!(["sd"]));
    let version = &crd["spec"]["versions"][0];
    let columns: Vec<&str> = version["additionalPrinterColumns"]
        .as_array()
        .expect("columns")
        .iter()
        .filter_map(|column| column["name"].as_str())
        .collect();
    let expected = ["Ready", "Gateway", "ASR", "TTS", "Streams", "Queue", "License", "Model", "Age"];
    assert_eq!(columns, expected);
    // TTS alone has a model too, and both kinds write theirs into the status.
    assert_eq!(version["additionalPrinterColumns"][7]["jsonPath"], ".status.models[0].summary");
    assert!(version["subresources"]["status"].is_object() && version["subresources"]["scale"].is_object());
}

/// Kubernetes refuses a schema that is not structural, and one whose objects have no type.
#[test]
fn every_rule_has_a_message_and_every_field_a_description() {
    fn walk(schema: &Value, path: &str, ours: bool, rules: &mut usize) {
        for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
            assert!(rule["message"].as_str().is_some_and(|text| text.len() > 20), "{path}: {rule}");
            *rules += 1;
        }
        for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            let described = inner["description"].is_string() || !ours;
            assert!(described || matches!(name.as_str(), "spec" | "metadata"), "{path} has no description");
            let known = ["type", "x-kubernetes-int-or-string", "x-kubernetes-preserve-unknown-fields"];
            assert!(known.iter().any(|key| !inner[*key].is_null()), "{path} has no type: {inner}");
            // Types of Kubernetes itself describe themselves elsewhere.
            let foreign = [
                "affinity",
                "behavior",
                "conditions",
                "resources",
                "securityContext",
                "tolerations",
                "updateStrategy",
            ];
            walk(inner, &path, ours && !foreign.contains(&name.as_str()), rules);
        }
        if schema["items"].is_object() {
            walk(&schema["items"], &format!("{path}[]"), ours, rules);
        }
    }
    let crd = serde_json::to_value(crds::crd()).expect("plain data");
    let mut rules = 0;
    walk(&crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"], "", true, &mut rules);
    assert!(rules >= 15, "only {rules} rules are left");
}

#[test]
fn defaults_are_filled_in() {
    let deployment = read(|_| {}).expect("resource");
    let spec = deployment.spec;
    assert_eq!(spec.gateway.service.port, 7100);
    assert_eq!(spec.license.port, 6699);
    assert_eq!(spec.license.grace_period_seconds, 86_400);
    assert_eq!(spec.asr.expect("asr").device, Device::Auto);
    // Which Redis is meant is not written down, or another one could not be named later.
    assert_eq!(spec.redis, crds::Redis::default());
    let redis = read(|r| r["spec"]["redis"] = json!({"embedded": {}})).expect("resource").spec.redis;
    let redis = redis.embedded.expect("embedded Redis");
    assert!(redis.auth.enabled && redis.persistence.is_none() && redis.port == 6379);
    assert!(spec.network_policy.enabled);
}

#[test]
fn what_is_written_is_read_again() {
    let deployment = read(|resource| resource["spec"]["asr"]["slots"] = json!(64)).expect("resource");
    let written = serde_json::to_value(&deployment).expect("plain data");
    assert_eq!(crds::read(&written).expect("resource"), deployment);
}

#[test]
fn values_are_held_to_the_schema() {
    type Change = fn(&mut Value);
    let cases: [(Change, &str); 12] = [
        (|r| r["kind"] = json!("Deployment"), "kind: must be SmallestDeployment"),
        (|r| r["metadata"]["name"] = json!("Speech"), "metadata.name: must be 1 to 63 lower-case"),
        (|r| r["metadata"]["name"] = json!("s".repeat(41)), "must not be longer than 40 characters"),
        (|r| r["spec"]["asr"]["models"] = json!([]), "spec.asr.models: must be at least 1 entries"),
        (|r| r["spec"]["asr"]["models"][0]["url"] = json!("m"), "spec.asr.models[0].url: must match"),
        (
            |r| r["spec"]["gateway"] = json!({"service": {"port": 0}}),
            "spec.gateway.service.port: must be at least 1",
        ),
        (|r| r["spec"]["gateway"] = json!({"service": {"port": "7100"}}), "must be a whole number"),
        (|r| r["spec"]["gateway"] = json!({"service": {"type": "Ingress"}}), "must be one of ClusterIP"),
        (|r| r["spec"]["monitoring"] = json!({"serviceMonitor": "yes"}), "must be true or false"),
        (|r| r["spec"]["license"] = json!({}), "name exactly one license"),
        (|r| r["spec"]["redis"] = json!({"external": {}}), "name exactly one address"),
        (|r| r["spec"]["asr"]["gpu"] = json!({"count": 17}), "spec.asr.gpu.count: must be at most 16"),
    ];
    for (change, expected) in cases {
        let problems = refused(change);
        assert!(problems.contains(expected), "{expected:?} is not in {problems:?}");
    }
}

#[test]
fn fields_of_kubernetes_itself_are_taken() {
    let pod = json!({
        "resources": {"limits": {"cpu": 2, "memory": "4Gi"}},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
        "nodeSelector": {"disk": "fast"},
        "podAnnotations": {"a": "b"},
    });
    let deployment = read(|resource| resource["spec"]["asr"]["pod"] = pod.clone()).expect("resource");
    assert_eq!(deployment.spec.asr.expect("asr").pod.tolerations.len(), 1);
    let problems = refused(|resource| {
        resource["spec"]["asr"]["pod"] = pod;
        resource["spec"]["asr"]["pod"]["tolerations"][0]["kye"] = json!("x");
    });
    assert!(problems.contains("spec.asr.pod.tolerations[0].kye: is no field"), "{problems}");
}
