//! How many pods may be evicted at a time, for whoever empties a node.

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::component::Component;
use crate::desired::meta::{meta, selector};
use crate::scale::Timetable;
use crate::valid::Valid;

/// One pod at a time, where there can be several. A single pod gets none: a budget could only keep its node from
/// ever being emptied. For the same reason pods that are broken anyway do not count.
pub(super) fn budget(valid: &Valid, component: &Component) -> Option<PodDisruptionBudget> {
    // At any time of the day: a budget that comes and goes with a schedule would be one more write for nothing.
    let most =
        valid.timetable(component.kind).map_or(u32::from(component.replicas), Timetable::most_replicas);
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
