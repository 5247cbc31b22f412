//! One pod, as the kubelet and the scheduler report it → what keeps it from serving.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ContainerStatus, PersistentVolumeClaim, Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::container::{self, PATIENCE_SECONDS, Seat, name};
use super::model;
use super::text::piece;
use super::trouble::Trouble;
use super::{reason, schedule};
use crate::component::ComponentKind;
use crate::names;
use crate::reading::WorkerReading;

/// What is known beside the pod itself.
#[derive(Clone, Copy)]
pub(super) struct Around<'a> {
    pub(super) kind: ComponentKind,
    pub(super) claims: &'a [PersistentVolumeClaim],
    pub(super) workers: &'a [WorkerReading],
    pub(super) now: &'a Time,
}

/// The pod belongs to the component and is not on its way out.
pub(super) fn belongs(pod: &Pod, kind: ComponentKind) -> bool {
    let label = pod.metadata.labels.as_ref().and_then(|labels| labels.get(names::LABEL_COMPONENT));
    let belongs = label.is_some_and(|label| label == names::component(kind));
    belongs && pod.metadata.deletion_timestamp.is_none()
}

/// The pod has ended for good, as when it was evicted.
pub(super) fn failed(pod: &Pod) -> bool {
    pod.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Failed"))
}

/// What keeps a pod from serving; `None` when it does.
pub(super) fn trouble(pod: &Pod, around: Around<'_>) -> Option<Trouble> {
    let pod_name = name(pod);
    let Some(status) = &pod.status else {
        return Some(Trouble::waiting(reason::POD_STARTING, format!("pod {pod_name} is new")));
    };
    if failed(pod) {
        let word = status.reason.as_deref().unwrap_or("Failed");
        let said = piece(status.message.as_deref().unwrap_or("Kubernetes gives no reason"));
        return Some(Trouble::failing(
            reason::POD_FAILED,
            format!("pod {pod_name} has failed ({word}): {said}"),
        ));
    }
    if let Some(placed) = condition(pod, "PodScheduled").filter(|placed| placed.status == "False") {
        return Some(schedule::trouble(pod, placed, around.claims));
    }
    let set_up = awaits_set_up(pod, around.now);
    if let Some(trouble) = set_up.and_then(|waits| schedule::on_node(pod, waits, around.claims)) {
        return Some(trouble);
    }
    let containers = statuses(pod).filter_map(|status| in_container(pod, status, around));
    if let Some(worst) = containers.min_by_key(|trouble| trouble.class) {
        return Some(worst);
    }
    if ready(pod) {
        return None;
    }
    let containers_ready = statuses(pod).count() > 0 && statuses(pod).all(|status| status.ready);
    if condition(pod, "Ready").is_some() && containers_ready {
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or("unknown");
        let text =
            format!("pod {pod_name} is not ready although its containers are: does node {node} answer?");
        return Some(Trouble::failing(reason::NODE_NOT_READY, text));
    }
    Some(Trouble::waiting(reason::POD_STARTING, format!("pod {pod_name} is starting")))
}

/// How long the pod has had a node that has not set it up, seconds: neither its volumes are mounted, nor is its network
/// there. Once it was, `None`: what comes after that, containers tell.
fn awaits_set_up(pod: &Pod, now: &Time) -> Option<i64> {
    condition(pod, "PodReadyToStartContainers").filter(|set_up| set_up.status == "False")?;
    let never = statuses(pod).all(|status| {
        status.restart_count == 0 && status.state.as_ref().is_none_or(|state| state.waiting.is_some())
    });
    let placed = condition(pod, "PodScheduled").filter(|placed| placed.status == "True")?;
    let since = placed.last_transition_time.as_ref().filter(|_| never)?;
    Some(now.0.duration_since(since.0).as_secs())
}

/// How long until the patience with a pod that has just been placed, or a program that has just started, ends.
pub(super) fn patience(pod: &Pod, now: &Time) -> Option<Duration> {
    let set_up = awaits_set_up(pod, now).map(|waits| schedule::MOUNT_PATIENCE_SECONDS - waits);
    let waits = statuses(pod).filter(|status| !status.ready && status.started == Some(true));
    let left =
        waits.filter_map(|status| container::age_seconds(status, now)).map(|age| PATIENCE_SECONDS - age);
    left.chain(set_up)
        .filter(|left| *left > 0)
        .min()
        .and_then(|left| u64::try_from(left).ok())
        .map(Duration::from_secs)
}

/// The kubelet says that the pod serves.
pub(super) fn ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|ready| ready.status == "True")
}

fn in_container(pod: &Pod, status: &ContainerStatus, around: Around<'_>) -> Option<Trouble> {
    let found = container::trouble(Seat { kind: around.kind, pod, status }, around.now)?;
    // A worker says best itself how far it is, and why it cannot go on.
    let runs = status.state.as_ref().is_some_and(|state| state.running.is_some());
    let main = status.name == names::component(around.kind);
    let worker = around.workers.iter().find(|worker| worker.pod.as_deref() == pod.metadata.name.as_deref());
    let told = worker.filter(|worker| runs && main && worker.pod.is_some()).and_then(model::trouble);
    // But how it ended the last time counts for more than that it starts once more.
    let again = status.last_state.as_ref().is_some_and(|state| state.terminated.is_some());
    Some(told.filter(|told| told.fails() || !again).unwrap_or(found))
}

fn statuses(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.iter();
    status.flat_map(|status| {
        status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten())
    })
}

fn condition<'a>(pod: &'a Pod, type_: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.iter().flatten().find(|condition| condition.type_ == type_)
}
