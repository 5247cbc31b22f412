//! From one Redis to another: what the pods of before still need stays until the last of them is gone. Pure.
//!
//! An external Redis may be one that nobody reaches. Its pods are never ready then, and those of before go on serving,
//! as long as their own Redis stands, with the way to it and the Secret that they start again with. So what belonged to
//! the Redis of before is deleted only after the rollout, and policies lead to it as long as it is there. Both follow
//! from what the cluster has: an operator that starts in the middle decides the same.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::{NetworkPolicyEgressRule, NetworkPolicyPeer};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::component::ComponentKind;
use crate::desired::Desired;
use crate::names;
use crate::status::{Children, Workload};

impl Desired {
    /// Leaves the way to a Redis open that is there and that the plan has no more. Its own policy says who comes in,
    /// and by which port.
    #[must_use]
    pub fn with_way_to_former(mut self, children: &Children) -> Self {
        let wanted = |set: &&StatefulSet| {
            self.stateful_sets.iter().any(|wanted| wanted.metadata.name == set.metadata.name)
        };
        for former in children.stateful_sets.iter().filter(|set| !wanted(set)) {
            let Some(spec) = &former.spec else { continue };
            let peer = NetworkPolicyPeer {
                pod_selector: Some(spec.selector.clone()),
                ..NetworkPolicyPeer::default()
            };
            let rule = NetworkPolicyEgressRule { to: Some(vec![peer]), ports: None };
            let policies = self.network_policies.iter_mut();
            // What is somebody else's is never deleted, and would hold the way open for ever.
            for policy in policies.filter(|policy| owner(&policy.metadata) == owner(&former.metadata)) {
                policy.spec.get_or_insert_default().egress.get_or_insert_default().push(rule.clone());
            }
        }
        self
    }
}

/// Names of the objects of a deployment that must not be deleted yet, although the plan has them no more: those of a
/// Redis that pods of before still use.
pub fn held(deployment: &str, children: &Children) -> Vec<String> {
    let rolled_out = children.deployments.iter().all(|deployment| Workload::from(deployment).current());
    let counts = children.deployments.iter().filter_map(|deployment| deployment.status.as_ref()?.replicas);
    let counted = usize::try_from(counts.sum::<i32>()).unwrap_or(0);
    let mut pods = children.pods.iter().filter(|pod| serves(pod));
    // News of pods and of Deployments come by ways of their own: pods that the Deployments count no more may be seen
    // ending a moment later.
    let running = pods.clone().filter(|pod| !has_ended(pod)).count();
    if rolled_out && running <= counted && !pods.any(|pod| pod.metadata.deletion_timestamp.is_some()) {
        return Vec::new();
    }
    vec![names::object(deployment, ComponentKind::Redis), names::redis_login(deployment).name]
}

/// A gateway or worker. One that is on its way out has streams to finish, though its Deployment counts it no more.
fn serves(pod: &Pod) -> bool {
    let component = pod.metadata.labels.as_ref().and_then(|labels| labels.get(names::LABEL_COMPONENT));
    component.is_none_or(|component| component != names::component(ComponentKind::Redis))
}

/// Such as one that was evicted: its Deployment does not count it, and it lies there until somebody removes it.
fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

fn owner(metadata: &ObjectMeta) -> Option<&str> {
    let mut owners = metadata.owner_references.iter().flatten();
    owners.find(|owner| owner.controller == Some(true)).map(|owner| owner.uid.as_str())
}
