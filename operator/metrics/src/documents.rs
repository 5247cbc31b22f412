//! What is answered: discovery, `OpenAPI` and values, as JSON. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use crate::source::MetricValue;
use crate::{GROUP, VERSION};

/// `/apis`.
pub fn groups() -> Value {
    json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": [named_group()] })
}

/// `/apis/external.metrics.k8s.io`.
pub fn group() -> Value {
    let mut group = named_group();
    group["kind"] = json!("APIGroup");
    group["apiVersion"] = json!("v1");
    group
}

fn named_group() -> Value {
    let version = json!({ "groupVersion": group_version(), "version": VERSION });
    json!({ "name": GROUP, "versions": [version], "preferredVersion": version })
}

/// `/apis/external.metrics.k8s.io/v1beta1`: every metric is a resource.
pub fn resources(names: &[&str]) -> Value {
    let resource = |name: &&str| {
        json!({
            "name": name,
            "singularName": "",
            "namespaced": true,
            "kind": "ExternalMetricValueList",
            "verbs": ["get"],
        })
    };
    json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": group_version(),
        "resources": names.iter().map(resource).collect::<Vec<_>>(),
    })
}

/// `/openapi/v2`: there is nothing to describe that `kubectl explain` could show.
pub fn openapi_v2() -> Value {
    json!({ "swagger": "2.0", "info": info(), "paths": {} })
}

/// `/openapi/v3`: where the group is described.
pub fn openapi_v3() -> Value {
    let path = format!("apis/{GROUP}/{VERSION}");
    json!({ "paths": { path.clone(): { "serverRelativeURL": format!("/openapi/v3/{path}?hash={VERSION}") } } })
}

/// `/openapi/v3/apis/external.metrics.k8s.io/v1beta1`.
pub fn openapi_v3_group() -> Value {
    json!({ "openapi": "3.0.0", "info": info(), "paths": {} })
}

/// Values of a metric.
pub fn values(metric: &str, values: Vec<MetricValue>) -> Value {
    let item = |value: MetricValue| {
        json!({
            "metricName": metric,
            "metricLabels": value.labels,
            "timestamp": Time(value.at),
            "value": quantity(value.milli),
        })
    };
    json!({
        "kind": "ExternalMetricValueList",
        "apiVersion": group_version(),
        "metadata": {},
        "items": values.into_iter().map(item).collect::<Vec<_>>(),
    })
}

/// A number as a quantity: whole where it is whole, else in thousandths.
fn quantity(milli: u64) -> String {
    if milli.is_multiple_of(1_000) { (milli / 1_000).to_string() } else { format!("{milli}m") }
}

fn group_version() -> String {
    format!("{GROUP}/{VERSION}")
}

fn info() -> Value {
    json!({ "title": "Smallest external metrics", "version": VERSION })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_exact() {
        for (milli, text) in [(0, "0"), (1_000, "1"), (1_500, "1500m"), (1, "1m"), (12_000_000, "12000")] {
            assert_eq!(quantity(milli), text);
        }
    }

    #[test]
    fn values_look_as_the_autoscaler_reads_them() {
        let at = "2026-01-02T03:04:05Z".parse().unwrap();
        let labels = [("deployment".to_owned(), "quickstart".to_owned())].into();
        let list = values("smallest_load", vec![MetricValue { labels, milli: 2_500, at }]);
        assert_eq!(list["apiVersion"], "external.metrics.k8s.io/v1beta1");
        assert_eq!(
            list["items"][0],
            json!({
                "metricName": "smallest_load",
                "metricLabels": { "deployment": "quickstart" },
                "timestamp": "2026-01-02T03:04:05Z",
                "value": "2500m",
            })
        );
    }

    #[test]
    fn discovery_names_every_metric() {
        let list = resources(&["smallest_load", "smallest_queue_depth"]);
        assert_eq!(list["resources"][1]["name"], "smallest_queue_depth");
        assert_eq!(groups()["groups"][0]["preferredVersion"]["groupVersion"], list["groupVersion"]);
    }
}
