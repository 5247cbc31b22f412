//! A Deployment or `StatefulSet` → how many replicas are wanted, there, ready and of the newest kind.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, StatefulSet};

use super::reason;
use super::text::piece;
use super::trouble::Trouble;

/// The replicas of one component.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Workload {
    /// `Deployment quickstart-asr`.
    pub(super) name: String,
    pub(super) wanted: u32,
    pub(super) exist: u32,
    pub(super) ready: u32,
    /// Of the newest pod template.
    pub(super) updated: u32,
    /// Kubernetes' controller has seen the newest template: the numbers speak of it.
    pub(super) seen: bool,
    /// Kubernetes' controller waits no longer.
    pub(super) overdue: bool,
    /// Pods cannot even be made.
    pub(super) failure: Option<Trouble>,
    /// Label selector of its pods.
    pub(super) selector: Option<String>,
}

impl Workload {
    /// Nothing is left to do.
    pub(super) fn complete(&self) -> bool {
        self.current()
            && self.updated >= self.wanted
            && self.ready >= self.wanted
            && self.exist == self.wanted
    }

    /// No replica is of an older pod template.
    pub(crate) fn current(&self) -> bool {
        self.seen && self.exist <= self.updated
    }

    /// Replicas of an older pod template.
    pub(super) fn previous(&self) -> u32 {
        self.exist.saturating_sub(self.updated)
    }
}

impl From<&Deployment> for Workload {
    fn from(deployment: &Deployment) -> Self {
        let name = format!("Deployment {}", deployment.metadata.name.as_deref().unwrap_or_default());
        let spec = deployment.spec.as_ref();
        let status = deployment.status.clone().unwrap_or_default();
        let conditions = status.conditions.as_deref().unwrap_or_default();
        Self {
            wanted: number(spec.map_or(Some(0), |spec| spec.replicas.or(Some(1)))),
            exist: number(status.replicas),
            ready: number(status.ready_replicas),
            updated: number(status.updated_replicas),
            seen: seen(deployment.metadata.generation, status.observed_generation),
            overdue: conditions.iter().any(overdue),
            failure: conditions.iter().find_map(|condition| failure(&name, condition)),
            selector: spec.and_then(|spec| spec.selector.match_labels.as_ref()).map(selector),
            name,
        }
    }
}

impl From<&StatefulSet> for Workload {
    fn from(set: &StatefulSet) -> Self {
        let spec = set.spec.as_ref();
        let status = set.status.clone().unwrap_or_default();
        Self {
            name: format!("StatefulSet {}", set.metadata.name.as_deref().unwrap_or_default()),
            wanted: number(spec.map_or(Some(0), |spec| spec.replicas.or(Some(1)))),
            exist: number(Some(status.replicas)),
            ready: number(status.ready_replicas),
            updated: number(status.updated_replicas),
            seen: seen(set.metadata.generation, status.observed_generation),
            overdue: false,
            failure: None,
            selector: spec.and_then(|spec| spec.selector.match_labels.as_ref()).map(selector),
        }
    }
}

/// A number of replicas; what is absent or negative is none.
fn number(replicas: Option<i32>) -> u32 {
    replicas.and_then(|replicas| u32::try_from(replicas).ok()).unwrap_or(0)
}

fn seen(generation: Option<i64>, observed: Option<i64>) -> bool {
    observed.is_some_and(|observed| observed >= generation.unwrap_or(observed))
}

fn selector(labels: &BTreeMap<String, String>) -> String {
    let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    labels.join(",")
}

fn overdue(condition: &DeploymentCondition) -> bool {
    condition.type_ == "Progressing"
        && condition.status == "False"
        && condition.reason.as_deref() == Some("ProgressDeadlineExceeded")
}

/// The `ReplicaSet` cannot make pods.
fn failure(name: &str, condition: &DeploymentCondition) -> Option<Trouble> {
    if condition.type_ != "ReplicaFailure" || condition.status != "True" {
        return None;
    }
    let said = condition.message.as_deref().unwrap_or_default();
    let (reason, advice) = if said.contains("exceeded quota") {
        ("QuotaExceeded", "raise the namespace's ResourceQuota or ask for less")
    } else if said.contains("violates PodSecurity") {
        (reason::POD_SECURITY_VIOLATION, "change pod.securityContext, or the namespace's pod-security label")
    } else {
        (reason::REPLICA_FAILURE, "the apiserver refuses the pods")
    };
    Some(Trouble::failing(
        reason,
        format!("{name} cannot make pods: {}; {advice}", piece(&without_pod(said))),
    ))
}

/// `pods "quickstart-asr-5d4b-x2x9q" is forbidden: …` without the name, which is another one at each attempt.
fn without_pod(said: &str) -> String {
    match said.strip_prefix("pods \"").and_then(|rest| rest.split_once('"')) {
        Some((_, rest)) => format!("pods{}", rest.replacen(" is ", " are ", 1)),
        None => said.to_owned(),
    }
}
