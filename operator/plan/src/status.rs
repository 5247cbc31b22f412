//! Plan, children and queue reading → what `status` says, and the Events that a change of it is worth. Pure.

mod found;

use std::time::Duration;

use crds::{SmallestDeployment, SmallestDeploymentStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

pub use found::{ApplyFailure, ApplyFailureKind, Children, Found, Note};

/// The status of a deployment. Its former one is taken from `deployment` itself.
pub fn status(deployment: &SmallestDeployment, _found: &Found<'_>, _now: &Time) -> SmallestDeploymentStatus {
    let former = deployment.status.clone().unwrap_or_default();
    SmallestDeploymentStatus { observed_generation: deployment.metadata.generation, ..former }
}

/// How long until time alone would change the status: whoever writes it looks again then. `None`: only an event
/// changes it.
pub fn look_again(_deployment: &SmallestDeployment, _found: &Found<'_>, _now: &Time) -> Option<Duration> {
    None
}

/// Events that the way from one status to the next is worth.
pub fn notes(_before: Option<&SmallestDeploymentStatus>, _after: &SmallestDeploymentStatus) -> Vec<Note> {
    Vec::new()
}
