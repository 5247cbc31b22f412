//! How many pods may be evicted at a time, for whoever empties a node.

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::component::Component;
use crate::desired::meta::{meta, selector};
use crate::valid::Valid;

/// One pod at a time, where there can be several. A single pod gets none: a budget could only keep its node from
/// ever being emptied. For the same reason pods that are broken anyway do not count.
pub(super) fn budget(valid: &Valid, component: &Component) -> Option<PodDisruptionBudget> {
    let most = match valid.scaling(component.kind) {
        Some(scaling) => scaling.max_replicas,
        None => u32::from(component.replicas),
    };
    let spec = PodDisruptionBudgetSpec {
        max_unavailable: Some(IntOrString::Int(1)),
        selector: Some(selector(valid, component.kind)),
        unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
        ..PodDisruptionBudgetSpec::default()
    };
    let budget =
        PodDisruptionBudget { metadata: meta(valid, component.kind), spec: Some(spec), status: None };
    (most > 1).then_some(budget)
}
