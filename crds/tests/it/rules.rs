//! Every rule of the schema, both ways: what it refuses and with which message, and what it lets through. A rule
//! without a case here fails the last test.

use std::collections::BTreeSet;

use crds::SmallestDeployment;
use serde_json::{Value, json};

use crate::minimal;

/// A rule over one resource: its message contains the text, the first fragment breaks it, the second does not.
/// Fragments are merged into `spec` of a minimal resource; `null` removes a field.
fn cases() -> Vec<(&'static str, Value, Value)> {
    let model = |name: &str| json!({"name": name, "url": "https://example.com/m", "sha256": "0".repeat(64)});
    let secret = || json!({"name": "s"});
    let worker = |fields: Value| {
        let mut worker = json!({"models": [model("m")]});
        merge(&mut worker, &fields);
        json!({ "asr": worker })
    };
    let redis = |external: Value| json!({"redis": {"external": external}});
    vec![
        (
            "ask for at least one service",
            json!({"asr": null}),
            json!({"asr": null, "tts": {"models": [model("m")]}}),
        ),
        (
            "license.port is a port of a worker",
            json!({"license": {"port": 2233}}),
            json!({"license": {"port": 7000}}),
        ),
        (
            "license.port is a port of a worker",
            json!({"license": {"port": 7001}, "tts": {"models": [model("m")], "metricsPort": 7001}}),
            json!({"license": {"port": 7001}, "tts": {"models": [model("m")], "metricsPort": 7002}}),
        ),
        (
            "name exactly one license",
            json!({"license": {"offline": {"secretRef": secret()}}}),
            json!({"license": {"secretRef": null, "offline": {"secretRef": secret()}}}),
        ),
        ("name exactly one license", json!({"license": {"secretRef": null}}), json!({})),
        (
            "gateway takes replicas (a fixed number) or scaling",
            json!({"gateway": {"replicas": 1, "scaling": {}}}),
            json!({"gateway": {"scaling": {}}}),
        ),
        (
            "loadBalancerSourceRanges needs type LoadBalancer",
            json!({"gateway": {"service": {"loadBalancerSourceRanges": ["10.0.0.0/8"]}}}),
            json!({"gateway": {"service": {"type": "LoadBalancer", "loadBalancerSourceRanges": ["10.0.0.0/8", "2001:db8::/32"]}}}),
        ),
        (
            "externalTrafficPolicy needs type NodePort or LoadBalancer",
            json!({"gateway": {"service": {"externalTrafficPolicy": "Local"}}}),
            json!({"gateway": {"service": {"type": "NodePort", "externalTrafficPolicy": "Local"}}}),
        ),
        (
            "auth cannot ask for API keys and allow anonymous callers",
            json!({"gateway": {"auth": {"allowAnonymous": true, "secretRef": secret()}}}),
            json!({"gateway": {"auth": {"secretRef": secret()}}}),
        ),
        (
            "must stay below terminationGracePeriodSeconds",
            json!({"gateway": {"lifecycle": {"drainSeconds": 55, "preStopSeconds": 5}}}),
            json!({"gateway": {"lifecycle": {"drainSeconds": 54, "preStopSeconds": 5}}}),
        ),
        (
            "minReplicas must not be above maxReplicas",
            worker(json!({"scaling": {"minReplicas": 5, "maxReplicas": 4}})),
            worker(json!({"scaling": {"minReplicas": 4, "maxReplicas": 4}})),
        ),
        (
            "workers take replicas (a fixed number) or scaling",
            worker(json!({"replicas": 1, "scaling": {}})),
            worker(json!({"replicas": 1})),
        ),
        (
            "device cpu uses no GPU",
            worker(json!({"device": "cpu", "gpu": {}})),
            worker(json!({"device": "cuda", "gpu": {"count": 2, "resourceName": "nvidia.com/mig-1g.10gb"}})),
        ),
        (
            "two models share a name",
            worker(json!({"models": [model("a"), model("a")]})),
            worker(json!({"models": [model("a"), model("b")]})),
        ),
        (
            "port and metricsPort must differ",
            worker(json!({"port": 9000, "metricsPort": 9000})),
            worker(json!({"port": 9000, "metricsPort": 9001})),
        ),
        (
            "updateStrategy.rollingUpdate needs type RollingUpdate",
            worker(json!({"updateStrategy": {"type": "Recreate", "rollingUpdate": {"maxSurge": 0}}})),
            worker(json!({"updateStrategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "50%"}}})),
        ),
        (
            "name at most one of emptyDir",
            worker(json!({"cache": {"existingClaim": "c", "hostPath": {"path": "/m"}}})),
            worker(json!({"cache": {"existingClaim": "c"}})),
        ),
        (
            "size belongs to emptyDir and persistentVolumeClaim",
            worker(json!({"cache": {"size": "5Gi", "hostPath": {"path": "/m"}}})),
            worker(json!({"cache": {"size": "5Gi", "emptyDir": {}}})),
        ),
        (
            "a new claim needs a size",
            worker(json!({"cache": {"persistentVolumeClaim": {}}})),
            worker(
                json!({"cache": {"size": "5Gi", "persistentVolumeClaim": {"accessModes": ["ReadWriteOnce"]}}}),
            ),
        ),
        (
            "name one Redis only",
            json!({"redis": {"embedded": {}, "external": {"url": "redis://r"}}}),
            redis(json!({"url": "redis://r"})),
        ),
        (
            "name exactly one address of the external Redis",
            redis(json!({"url": "redis://r", "urlSecretRef": secret()})),
            redis(json!({"urlSecretRef": secret()})),
        ),
        (
            "url must not hold a password",
            redis(json!({"url": "redis://:pw@r"})),
            redis(json!({"url": "redis://r", "passwordSecretRef": secret()})),
        ),
        (
            "urlSecretRef holds user and password itself",
            redis(json!({"urlSecretRef": secret(), "passwordSecretRef": secret()})),
            redis(json!({"url": "redis://r", "usernameSecretRef": secret(), "passwordSecretRef": secret()})),
        ),
        (
            "a user needs a password",
            redis(json!({"url": "redis://r", "usernameSecretRef": secret()})),
            redis(json!({"url": "redis://r", "passwordSecretRef": secret()})),
        ),
        (
            "tls needs an address that begins with rediss",
            redis(json!({"url": "redis://r", "tls": {}})),
            redis(json!({"url": "rediss://r", "tls": {}})),
        ),
        (
            "an image needs a tag or a digest",
            json!({"images": {"gateway": "registry.example:5000/gateway"}}),
            json!({"images": {"gateway": "registry.example:5000/gateway:1.2"}}),
        ),
        (
            "an image needs a tag or a digest",
            json!({"images": {"redis": format!("redis@sha256:{}", "0".repeat(63))}}),
            json!({"images": {"redis": format!("redis:7@sha256:{}", "0".repeat(64))}}),
        ),
    ]
}

/// A rule over a change: message, before, the change that it refuses, the change that it lets through.
fn changes() -> Vec<(&'static str, Value, Value, Value)> {
    let embedded = |fields: Value| json!({"redis": {"embedded": fields}});
    let claim = |claim: Value, size: &str| {
        let model = json!({"name": "m", "url": "https://example.com/m", "sha256": "0".repeat(64)});
        json!({"asr": {"models": [model], "cache": {"size": size, "persistentVolumeClaim": claim}}})
    };
    vec![
        (
            "persistence cannot be turned on or off",
            json!({}),
            embedded(json!({"persistence": {"size": "1Gi"}})),
            embedded(json!({"port": 6380})),
        ),
        (
            "persistence cannot be turned on or off",
            embedded(json!({"persistence": {"size": "1Gi"}})),
            json!({}),
            json!({"redis": {"external": {"url": "redis://r"}}}),
        ),
        (
            "persistence cannot be changed once the volume is there",
            embedded(json!({"persistence": {"size": "1Gi", "storageClassName": "fast"}})),
            embedded(json!({"persistence": {"size": "1Gi", "storageClassName": "slow"}})),
            embedded(json!({"port": 6380, "persistence": {"size": "1Gi", "storageClassName": "fast"}})),
        ),
        (
            "storageClassName cannot be changed",
            claim(json!({"storageClassName": "fast"}), "1Gi"),
            claim(json!({}), "1Gi"),
            claim(json!({"storageClassName": "fast"}), "2Gi"),
        ),
        (
            "accessModes cannot be changed",
            claim(json!({"accessModes": ["ReadWriteOnce"]}), "1Gi"),
            claim(json!({"accessModes": ["ReadWriteMany"]}), "1Gi"),
            claim(json!({"accessModes": ["ReadWriteOnce"]}), "2Gi"),
        ),
    ]
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
    for (message, bad, good) in cases() {
        let refused = read(&bad).expect_err(&format!("{bad} must be refused with {message:?}"));
        assert!(refused.contains(message), "{bad}: {message:?} is not in {refused:?}");
        if let Err(problems) = read(&good) {
            panic!("{good} must be accepted: {problems}");
        }
    }
}

#[test]
fn a_change_that_would_break_a_running_service_is_refused() {
    for (message, before, bad, good) in changes() {
        let before = read(&before).expect("resource before the change");
        let change = |after: &Value| {
            let after = read(after).expect("resource after the change");
            after.validate_cel_update(&before).map_err(|errors| {
                errors.iter().map(|error| error.message.clone()).collect::<Vec<_>>().join("\n")
            })
        };
        let refused = change(&bad).expect_err(&format!("{bad} must be refused with {message:?}"));
        assert!(refused.contains(message), "{bad}: {message:?} is not in {refused:?}");
        change(&good).unwrap_or_else(|problems| panic!("{good} must be accepted: {problems}"));
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
    let cases = cases();
    let changes = changes();
    let tried: Vec<&str> = cases.iter().map(|case| case.0).chain(changes.iter().map(|case| case.0)).collect();
    for message in found {
        let known = tried.iter().any(|text| message.contains(text))
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
    bounded(&spec["asr"]["properties"]["models"]["items"]["properties"]["name"], "maxLength");
    let external = &spec["redis"]["properties"]["external"]["properties"];
    bounded(&external["url"], "maxLength");
    let service = &spec["gateway"]["properties"]["service"]["properties"];
    bounded(&service["loadBalancerSourceRanges"], "maxItems");
    bounded(&spec["images"]["properties"]["gateway"], "maxLength");
    let claim = &spec["asr"]["properties"]["cache"]["properties"]["persistentVolumeClaim"]["properties"];
    bounded(&claim["storageClassName"], "maxLength");
    bounded(&claim["accessModes"], "maxItems");
}
