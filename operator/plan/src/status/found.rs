//! What goes into a status: the outcome of the plan, what became of applying it, the objects as the cluster has
//! them, and what the queue tells. Whoever reads the cluster fills these; nothing here asks for anything.

use crds::ScaleDecision;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Service};

use crate::plan::Plan;
use crate::reading::QueueView;
use crate::validate::Invalid;

/// Everything a status is made from, beside the resource itself.
#[derive(Debug, Clone, Copy)]
pub struct Found<'a> {
    /// The plan, or why there is none.
    pub outcome: Result<&'a Plan, &'a Invalid>,
    /// What became of applying the plan; `Ok` too when there was nothing to change.
    pub applied: Result<(), &'a ApplyFailure>,
    /// The objects of the deployment. Those just applied must be as the apiserver's answer has them: a cache
    /// that has not seen them yet would pass off the old rollout as the new one.
    pub children: &'a Children,
    /// What the queue tells.
    pub queue: &'a QueueView,
    /// What the scaler did of itself, in any order.
    pub decisions: &'a [ScaleDecision],
}

/// The objects of one deployment, by kind, as the cluster has them. Their labels tell the component.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Children {
    /// Gateway and workers.
    pub deployments: Vec<Deployment>,
    /// The embedded Redis.
    pub stateful_sets: Vec<StatefulSet>,
    /// Pods of all components.
    pub pods: Vec<Pod>,
    /// What scales them.
    pub horizontal_pod_autoscalers: Vec<HorizontalPodAutoscaler>,
    /// Model caches and the volume of the embedded Redis.
    pub persistent_volume_claims: Vec<PersistentVolumeClaim>,
    /// The Service that clients talk to.
    pub service: Option<Service>,
}

/// Why an object could not be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to apply {object}: {message}")]
pub struct ApplyFailure {
    /// What kind of failure it is.
    pub kind: ApplyFailureKind,
    /// The object, such as `Deployment quickstart-asr`.
    pub object: String,
    /// What the apiserver said, or what kept it from answering.
    pub message: String,
}

/// Kinds of failures to apply an object; they differ in who has to do something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApplyFailureKind {
    /// The operator lacks the right.
    Forbidden,
    /// A quota of the namespace is used up.
    QuotaExceeded,
    /// An admission webhook or policy refuses the object.
    AdmissionDenied,
    /// The namespace is being deleted.
    NamespaceTerminating,
    /// An object of this name was there before, and is somebody else's.
    Foreign,
    /// Somebody else wrote at the same moment.
    Overtaken,
    /// The apiserver takes the object for invalid.
    Invalid,
    /// The cluster lacks the namespace or the kind of object.
    NotFound,
    /// The apiserver did not answer, or asked to come back later.
    Unavailable,
}

/// An Event to publish on the resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// `Normal` or `Warning`.
    pub type_: &'static str,
    /// A stable word, the reason of a condition.
    pub reason: String,
    /// For people; at most 1,024 bytes.
    pub message: String,
}

impl ApplyFailure {
    /// Tells the kind of failure from the apiserver's answer: its HTTP `code`, and the `reason` and `message` of
    /// the `Status` object (Kubernetes API conventions, "Response Status Kind").
    pub fn from_answer(object: impl Into<String>, code: u16, reason: &str, message: &str) -> Self {
        let kind = match code {
            _ if message.contains("exceeded quota") => ApplyFailureKind::QuotaExceeded,
            _ if message.contains("because it is being terminated") => ApplyFailureKind::NamespaceTerminating,
            _ if message.contains("denied the request") || message.contains("ValidatingAdmissionPolicy") => {
                ApplyFailureKind::AdmissionDenied
            }
            401 | 403 => ApplyFailureKind::Forbidden,
            404 => ApplyFailureKind::NotFound,
            409 => ApplyFailureKind::Overtaken,
            400 | 413 | 415 | 422 => ApplyFailureKind::Invalid,
            _ if matches!(reason, "Invalid" | "BadRequest") => ApplyFailureKind::Invalid,
            _ => ApplyFailureKind::Unavailable,
        };
        Self { kind, object: object.into(), message: message.to_owned() }
    }

    /// An object of this name was there before the resource, and is not the resource's.
    pub fn foreign(object: impl Into<String>) -> Self {
        let message = "one of this name was there before and is not this resource's".to_owned();
        Self { kind: ApplyFailureKind::Foreign, object: object.into(), message }
    }

    /// The apiserver did not answer at all.
    pub fn unanswered(object: impl Into<String>, message: impl Into<String>) -> Self {
        Self { kind: ApplyFailureKind::Unavailable, object: object.into(), message: message.into() }
    }

    /// A stable word for conditions, metrics and events.
    pub fn reason(&self) -> &'static str {
        match self.kind {
            ApplyFailureKind::Forbidden => "ApplyForbidden",
            ApplyFailureKind::QuotaExceeded => "QuotaExceeded",
            ApplyFailureKind::AdmissionDenied => "AdmissionDenied",
            ApplyFailureKind::NamespaceTerminating => "NamespaceTerminating",
            ApplyFailureKind::Foreign => "ApplyConflict",
            ApplyFailureKind::Overtaken => "ApplyOvertaken",
            ApplyFailureKind::Invalid => "ApplyInvalid",
            ApplyFailureKind::NotFound => "ApplyNotFound",
            ApplyFailureKind::Unavailable => "ApiUnavailable",
        }
    }

    /// Another attempt is likely to succeed, and nobody needs to do anything.
    pub(super) fn is_transient(&self) -> bool {
        matches!(self.kind, ApplyFailureKind::Unavailable | ApplyFailureKind::Overtaken)
    }

    /// What people can do about it.
    pub(super) fn advice(&self) -> &'static str {
        match self.kind {
            ApplyFailureKind::Forbidden => "give the operator the right, as its chart's ClusterRole does",
            ApplyFailureKind::QuotaExceeded => "raise the namespace's ResourceQuota or ask for less",
            ApplyFailureKind::AdmissionDenied => {
                "a policy of the cluster refuses it: change the spec or the policy"
            }
            ApplyFailureKind::NamespaceTerminating => "the namespace is being deleted",
            ApplyFailureKind::Foreign => {
                "give the resource another name, delete that object, or hand it over with the labels \
                 app.kubernetes.io/managed-by=smallest-operator and app.kubernetes.io/instance=NAME of the resource"
            }
            ApplyFailureKind::Invalid => "change the field that is named",
            ApplyFailureKind::NotFound => "create the namespace, or install the kind of object",
            ApplyFailureKind::Unavailable | ApplyFailureKind::Overtaken => "it is tried again",
        }
    }
}
