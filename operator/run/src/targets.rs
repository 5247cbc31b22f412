//! What the queues and the scaler are told of a deployment: plan, objects and children in, targets out. Pure.

use std::collections::BTreeMap;

use crds::SmallestDeployment;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use operator_plan::{Children, ComponentKind, Desired, Plan, Secrets};

use crate::index::{Kind, Live};
use crate::scale::{PodCost, QueueTarget, Replicas, ScaleTarget, ScaledComponent};

const COMPONENT: &str = "app.kubernetes.io/component";
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
/// Components that scale, by the label of their pods, which is the name of their main container too.
const SCALED: [(ComponentKind, &str); 3] =
    [(ComponentKind::Gateway, "gateway"), (ComponentKind::Asr, "asr"), (ComponentKind::Tts, "tts")];

/// Where the queue of a plan is; `None` when its address is in a Secret that is not there.
pub(crate) fn queue(plan: &Plan, secrets: &Secrets, children: &Children) -> Option<QueueTarget> {
    let kinds = plan.components.iter().map(|component| component.kind);
    let components = kinds.filter(|kind| matches!(kind, ComponentKind::Asr | ComponentKind::Tts)).collect();
    let embedded = plan.components.iter().any(|component| component.kind == ComponentKind::Redis);
    let mut ready = children.stateful_sets.iter().filter_map(|set| set.status.as_ref()?.ready_replicas);
    Some(QueueTarget {
        url: plan.queue_url(secrets)?,
        root_certificates: plan
            .queue_authority
            .as_ref()
            .and_then(|authority| secrets.get(authority))
            .cloned(),
        scope: plan.deployment.clone(),
        components,
        up: !embedded || ready.any(|replicas| replicas > 0),
        started: SCALED.into_iter().map(|(kind, label)| (kind, started(children, label))).collect(),
    })
}

/// Pods of a component that were ready once and still run. They need not be ready now: without Redis a gateway is not,
/// and holds its streams all the same.
fn started(children: &Children, component: &str) -> u32 {
    let has_started = |pod: &&Pod| {
        let containers = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
        let mut main = containers.filter(|container| container.name == component);
        pod.metadata.deletion_timestamp.is_none() && main.any(|main| main.started == Some(true))
    };
    let pods = children.pods.iter().filter(|pod| is_of(&pod.metadata, component)).filter(has_started);
    u32::try_from(pods.count()).unwrap_or(u32::MAX)
}

/// How the components of a deployment scale now, those that do. What is `owned` was seen before the children: versions
/// may be older than what they stand for, never newer.
pub(crate) fn scale(
    deployment: &SmallestDeployment,
    plan: &Plan,
    desired: &Desired,
    (owned, children): (&BTreeMap<(Kind, String), Live>, &Children),
) -> ScaleTarget {
    let spec = &deployment.spec;
    let scaling = |kind| match kind {
        ComponentKind::Asr => spec.asr.as_ref()?.scaling.as_ref(),
        ComponentKind::Tts => spec.tts.as_ref()?.scaling.as_ref(),
        _ => spec.gateway.scaling.as_ref(),
    };
    let scaled = |(kind, label): (ComponentKind, &str)| {
        let mut made = desired.deployments.iter().filter(|made| is_of(&made.metadata, label));
        let name = made.next()?.metadata.name.clone()?;
        let mut live = children.deployments.iter().filter(|live| live.metadata.name.as_ref() == Some(&name));
        let replicas = live.next().and_then(|live| live.spec.as_ref()?.replicas);
        let version = owned.get(&(Kind::Deployment, name.clone())).and_then(Live::version).unwrap_or(0);
        let pods = children.pods.iter().filter(|pod| is_of(&pod.metadata, label)).filter_map(cost);
        Some(ScaledComponent {
            kind,
            deployment: name,
            bounds: plan.bounds(kind)?.clone(),
            idle_seconds: scaling(kind)?.idle_seconds,
            replicas: replicas
                .and_then(|replicas| u32::try_from(replicas).ok())
                .map(|number| Replicas { number, version }),
            pods: pods.collect(),
        })
    };
    ScaleTarget { components: SCALED.into_iter().filter_map(scaled).collect() }
}

fn is_of(metadata: &ObjectMeta, component: &str) -> bool {
    metadata.labels.as_ref().and_then(|labels| labels.get(COMPONENT)).is_some_and(|label| label == component)
}

/// A pod that is not on its way out.
fn cost(pod: &Pod) -> Option<PodCost> {
    if pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let annotation = pod.metadata.annotations.as_ref().and_then(|annotations| annotations.get(DELETION_COST));
    Some(PodCost { name: pod.metadata.name.clone()?, cost: annotation.and_then(|cost| cost.parse().ok()) })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(started: Option<bool>, deleted: Option<&str>) -> Pod {
        serde_json::from_value(json!({
            "metadata": { "labels": { (COMPONENT): "asr" }, "deletionTimestamp": deleted },
            "status": { "containerStatuses": [
                { "name": "asr", "started": started, "ready": false, "image": "", "imageID": "", "restartCount": 0 },
            ] },
        }))
        .expect("a pod")
    }

    #[test]
    fn pods_that_have_started_count_until_they_go() {
        let pods = vec![
            pod(Some(true), None),
            pod(Some(false), None),
            pod(None, None),
            pod(Some(true), Some("2026-11-23T06:00:00Z")),
            Pod::default(),
        ];
        let children = Children { pods, ..Children::default() };
        assert_eq!((started(&children, "asr"), started(&children, "gateway")), (1, 0));
    }
}
