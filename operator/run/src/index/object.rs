//! The kinds of objects that a deployment consists of, and what is kept of each. Pure.

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{
    ConfigMap, Container, PersistentVolumeClaim, Pod, PodSpec, PodTemplateSpec, Probe, Secret, Service,
    ServiceAccount, Volume,
};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::PartialObjectMeta;
use operator_plan::Children;

use super::shelf::Shelf;

/// Annotations that status or scaling reads; all others are dropped.
const KEPT_ANNOTATIONS: [&str; 2] =
    ["controller.kubernetes.io/pod-deletion-cost", "deployment.kubernetes.io/revision"];
const COMPONENT: &str = "app.kubernetes.io/component";

/// A kind of object that the operator makes. In the order of making.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    /// Identity of pods.
    ServiceAccount,
    /// Generated secrets.
    Secret,
    /// Configuration.
    ConfigMap,
    /// Model caches.
    PersistentVolumeClaim,
    /// Addresses.
    Service,
    /// Who may talk to whom.
    NetworkPolicy,
    /// The embedded Redis.
    StatefulSet,
    /// Gateway and workers.
    Deployment,
    /// Evictions.
    PodDisruptionBudget,
    /// Scaling.
    HorizontalPodAutoscaler,
    /// Monitoring.
    ServiceMonitor,
}

/// An object that belongs to a deployment.
pub(crate) trait Object: Resource<DynamicType = ()> + Sized {
    /// Its kind, if the operator makes it itself.
    const KIND: Option<Kind>;

    /// How to make one of its metadata, where nothing else is kept of the kind.
    const OF_METADATA: Option<fn(ObjectMeta) -> Self> = None;

    /// Keeps what status reads; true when that changed.
    fn keep(self, _slots: &mut Slots) -> bool {
        false
    }

    /// Forgets it.
    fn forget(_slots: &mut Slots, _name: &str) {}

    /// Names of those that are kept.
    fn names(_slots: &Slots) -> Vec<String> {
        Vec::new()
    }
}

/// What status reads of one deployment's objects, by name.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    deployments: Shelf<Deployment>,
    stateful_sets: Shelf<StatefulSet>,
    pods: Shelf<Pod>,
    autoscalers: Shelf<HorizontalPodAutoscaler>,
    claims: Shelf<PersistentVolumeClaim>,
    services: Shelf<Service>,
}

impl Kind {
    /// As users write it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ServiceAccount => "ServiceAccount",
            Self::Secret => "Secret",
            Self::ConfigMap => "ConfigMap",
            Self::PersistentVolumeClaim => "PersistentVolumeClaim",
            Self::Service => "Service",
            Self::NetworkPolicy => "NetworkPolicy",
            Self::StatefulSet => "StatefulSet",
            Self::Deployment => "Deployment",
            Self::PodDisruptionBudget => "PodDisruptionBudget",
            Self::HorizontalPodAutoscaler => "HorizontalPodAutoscaler",
            Self::ServiceMonitor => "ServiceMonitor",
        }
    }
}

impl Slots {
    pub(super) fn is_empty(&self) -> bool {
        let Self { deployments, stateful_sets, pods, autoscalers, claims, services } = self;
        deployments.is_empty()
            && stateful_sets.is_empty()
            && pods.is_empty()
            && autoscalers.is_empty()
            && claims.is_empty()
            && services.is_empty()
    }

    pub(super) fn children(&self) -> Children {
        Children {
            deployments: self.deployments.read().collect(),
            stateful_sets: self.stateful_sets.read().collect(),
            pods: self.pods.read().collect(),
            horizontal_pod_autoscalers: self.autoscalers.read().collect(),
            persistent_volume_claims: self.claims.read().collect(),
            service: self.services.read().find(is_entry),
        }
    }
}

/// The Service that clients talk to: the gateway's, and not one without an address of its own.
fn is_entry(service: &Service) -> bool {
    let component = service.metadata.labels.as_ref().and_then(|labels| labels.get(COMPONENT));
    let address = service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref());
    component.is_some_and(|component| component == "gateway") && address != Some("None")
}

/// Implements [`Object`] for kinds that status reads: slot, what to trim, and what counts when two are compared, if
/// it is less than all.
macro_rules! kept {
    ($type:ty, $kind:expr, $slot:ident, $trim:expr, $plain:expr) => {
        impl Object for $type {
            const KIND: Option<Kind> = $kind;

            fn keep(mut self, slots: &mut Slots) -> bool {
                trim(&mut self.metadata);
                let trim: fn(&mut Self) = $trim;
                trim(&mut self);
                let name = self.metadata.name.clone().unwrap_or_default();
                slots.$slot.put(name, &self, $plain)
            }

            fn forget(slots: &mut Slots, name: &str) {
                slots.$slot.remove(name);
            }

            fn names(slots: &Slots) -> Vec<String> {
                slots.$slot.names()
            }
        }
    };
}

kept!(
    Deployment,
    Some(Kind::Deployment),
    deployments,
    |object| {
        if let Some(spec) = &mut object.spec {
            spec.template = PodTemplateSpec::default();
        }
    },
    |_| None
);
kept!(
    StatefulSet,
    Some(Kind::StatefulSet),
    stateful_sets,
    |object| {
        if let Some(spec) = &mut object.spec {
            spec.template = PodTemplateSpec::default();
            spec.volume_claim_templates = None;
        }
    },
    |_| None
);
kept!(Pod, None, pods, |pod| pod.spec = pod.spec.take().map(trim_pod), |_| None);
// What an autoscaler measured last changes every 15 seconds; it is kept, but wakes nobody.
kept!(HorizontalPodAutoscaler, Some(Kind::HorizontalPodAutoscaler), autoscalers, |_| {}, |object| {
    let mut plain = object.clone();
    if let Some(status) = &mut plain.status {
        status.current_metrics = None;
    }
    Some(plain)
});
kept!(PersistentVolumeClaim, Some(Kind::PersistentVolumeClaim), claims, |_| {}, |_| None);
kept!(Service, Some(Kind::Service), services, |_| {}, |_| None);

/// Implements [`Object`] for kinds that only have to exist.
macro_rules! exists {
    ($($type:ident),*) => { $(
        impl Object for $type {
            const KIND: Option<Kind> = Some(Kind::$type);
            const OF_METADATA: Option<fn(ObjectMeta) -> Self> =
                Some(|metadata| Self { metadata, ..Self::default() });
        }
        impl Object for PartialObjectMeta<$type> {
            const KIND: Option<Kind> = Some(Kind::$type);
        }
    )* };
}

exists!(ServiceAccount, Secret, ConfigMap, NetworkPolicy, PodDisruptionBudget);

/// Leaves of the metadata what somebody reads. The version is kept apart: a new version alone is no news.
fn trim(metadata: &mut ObjectMeta) {
    metadata.managed_fields = None;
    metadata.resource_version = None;
    if let Some(annotations) = &mut metadata.annotations {
        annotations.retain(|name, _| KEPT_ANNOTATIONS.contains(&name.as_str()));
    }
}

fn trim_pod(spec: PodSpec) -> PodSpec {
    let container = |container: Container| Container {
        name: container.name,
        image: container.image,
        resources: container.resources,
        restart_policy: container.restart_policy,
        // How long a start may take; not what is asked.
        startup_probe: container.startup_probe.map(|probe| Probe {
            exec: None,
            grpc: None,
            http_get: None,
            tcp_socket: None,
            ..probe
        }),
        ..Container::default()
    };
    // Status names the claim that a pod waits for.
    let claimed = |volumes: Vec<Volume>| {
        volumes.into_iter().filter(|volume| volume.persistent_volume_claim.is_some()).collect()
    };
    PodSpec {
        node_name: spec.node_name,
        termination_grace_period_seconds: spec.termination_grace_period_seconds,
        volumes: spec.volumes.map(claimed),
        containers: spec.containers.into_iter().map(container).collect(),
        init_containers: spec
            .init_containers
            .map(|containers| containers.into_iter().map(container).collect()),
        ..PodSpec::default()
    }
}
