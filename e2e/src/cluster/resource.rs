//! Resources of the stories: a small deployment with the fake engine, and what a story wants changed of it.

use crate::demo_model;
use serde_json::{Value, json};

/// The worker with the fake engine, as `tools/images.sh` makes it for tests.
pub const FAKE_WORKER: &str = concat!("quay.io/smallestinc/lightning-asr-fake:", env!("CARGO_PKG_VERSION"));
/// The Secret with the license.
pub const LICENSE: &str = "license";

/// A deployment with the fake engine: one gateway, one worker, everything as small as a test wants it. `changes`
/// is merged into its spec (RFC 7386: null takes a field away).
pub fn fake(name: &str, changes: &Value) -> anyhow::Result<Value> {
    let mut resource = json!({
        "apiVersion": "smallest.ai/v1",
        "kind": "SmallestDeployment",
        "metadata": {"name": name},
        "spec": {
            "license": {"offline": {"secretRef": {"name": LICENSE}}, "resources": little()},
            "gateway": {
                "auth": {"allowAnonymous": true}, "lifecycle": quick(), "pod": {"resources": little()},
            },
            "asr": {
                "models": [model()?], "device": "cpu", "slots": 4, "threads": 1, "lifecycle": quick(),
                "pod": {"resources": little()},
            },
            "redis": {"embedded": {"resources": little()}},
            "images": {"worker": FAKE_WORKER},
        },
    });
    merge(&mut resource["spec"], changes);
    Ok(resource)
}

/// The model that every worker image holds.
pub fn model() -> anyhow::Result<Value> {
    Ok(json!({
        "name": "demo-asr",
        "url": "file:///usr/share/smallest/models/demo-asr",
        "sha256": cli::model::digest(&demo_model())?,
    }))
}

/// So little that the pods of all stories find room on one small node.
pub fn little() -> Value {
    json!({"requests": {"cpu": "5m", "memory": "16Mi"}, "limits": {"memory": "512Mi"}})
}

/// Pods that end soon.
pub fn quick() -> Value {
    json!({"drainSeconds": 5, "preStopSeconds": 1, "terminationGracePeriodSeconds": 10})
}

/// Merges a patch into a value as a JSON merge patch does.
pub fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in fields {
        if value.is_null() {
            if let Some(object) = target.as_object_mut() {
                object.remove(key);
            }
        } else {
            merge(&mut target[key], value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_adds_changes_and_takes_away() {
        let mut value = json!({"a": {"b": 1, "c": 2}, "d": 3});
        merge(&mut value, &json!({"a": {"b": null, "e": {"f": 5}}, "d": 4}));
        assert_eq!(value, json!({"a": {"c": 2, "e": {"f": 5}}, "d": 4}));
    }
}
