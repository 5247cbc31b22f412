//! What tells a Prometheus operator where metrics are: one `ServiceMonitor` for all components.

use serde_json::{Value, json};

use crate::desired::meta::of_deployment;
use crate::desired::pod::Source;
use crate::names;

/// The `ServiceMonitor` of a deployment, if it is asked for and the cluster knows the kind.
pub(super) fn service_monitor(source: Source<'_>) -> Option<Value> {
    let Source { valid, cluster, .. } = source;
    if !valid.monitoring.service_monitor || !cluster.service_monitors {
        return None;
    }
    Some(json!({
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "ServiceMonitor",
        "metadata": of_deployment(valid, valid.name.clone()),
        "spec": {
            "selector": { "matchLabels": {
                names::LABEL_NAME: names::APPLICATION,
                names::LABEL_INSTANCE: valid.name,
                names::LABEL_METRICS: "true",
            }},
            "endpoints": [{ "port": "metrics", "path": "/metrics" }],
        },
    }))
}
