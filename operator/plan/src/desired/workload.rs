//! Components → Deployments, and the `StatefulSet` of the embedded Redis.

use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment, StatefulSet,
    StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetSpec,
};
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::component::{Component, ComponentKind};
use crate::desired::meta::{meta, selector};
use crate::desired::pod::{Source, template};
use crate::desired::{probes, volumes};
use crate::valid::{Valid, ValidEmbedded};

/// Old versions to go back to.
const HISTORY: i32 = 3;
/// What a rollout may take beyond the start of its programs: scheduling and pulling images, seconds.
const ROLLOUT_SECONDS: u32 = 600;
/// Size of the volume of a persistent Redis when none is named.
const REDIS_VOLUME: &str = "8Gi";

/// The Deployment of a gateway or of workers.
pub(super) fn deployment(source: Source<'_>, component: &Component) -> Deployment {
    let valid = source.valid;
    let kind = component.kind;
    let deadline = probes::startup_seconds(valid, kind).saturating_add(ROLLOUT_SECONDS);
    // Where the autoscaler decides, the number is not ours: writing it would undo what it decided.
    let replicas = valid.scaling(kind).is_none().then(|| i32::from(component.replicas));
    Deployment {
        metadata: meta(valid, kind),
        spec: Some(DeploymentSpec {
            replicas,
            selector: selector(valid, kind),
            template: template(source, component),
            strategy: Some(strategy(valid, kind)),
            revision_history_limit: Some(HISTORY),
            progress_deadline_seconds: Some(deadline as i32),
            ..DeploymentSpec::default()
        }),
        status: None,
    }
}

/// A new pod is ready before an old one goes, unless the resource says otherwise.
fn strategy(valid: &Valid, kind: ComponentKind) -> DeploymentStrategy {
    let given = valid.worker(kind).and_then(|worker| worker.update_strategy.clone());
    let mut strategy = given.unwrap_or_default();
    if strategy.type_.as_deref() == Some("Recreate") {
        return strategy;
    }
    strategy.type_ = Some("RollingUpdate".to_owned());
    let RollingUpdateDeployment { max_surge, max_unavailable } = strategy.rolling_update.unwrap_or_default();
    // Kubernetes' own default for one left out is a quarter; ours goes with what was written.
    let max_unavailable = max_unavailable.unwrap_or(IntOrString::Int(0));
    let none = matches!(&max_unavailable, IntOrString::Int(0));
    let max_surge = max_surge.unwrap_or(IntOrString::Int(i32::from(none)));
    strategy.rolling_update =
        Some(RollingUpdateDeployment { max_surge: Some(max_surge), max_unavailable: Some(max_unavailable) });
    strategy
}

/// The `StatefulSet` of the embedded Redis.
pub(super) fn stateful_set(
    source: Source<'_>,
    component: &Component,
    embedded: &ValidEmbedded,
) -> StatefulSet {
    let valid = source.valid;
    StatefulSet {
        metadata: meta(valid, ComponentKind::Redis),
        spec: Some(StatefulSetSpec {
            replicas: Some(1),
            service_name: Some(component.name.clone()),
            selector: selector(valid, ComponentKind::Redis),
            template: template(source, component),
            // With one pod the order means nothing, but an ordered set waits for ever for a broken pod to be well
            // before it replaces it.
            pod_management_policy: Some("Parallel".to_owned()),
            revision_history_limit: Some(HISTORY),
            volume_claim_templates: volume_claims(valid, embedded),
            persistent_volume_claim_retention_policy: embedded.persistence.as_ref().map(|_| retention()),
            ..StatefulSetSpec::default()
        }),
        status: None,
    }
}

/// What was in flight is of no use to another Redis, and nobody would look for its volume: it goes with the Redis, and
/// stays while that is only stopped.
fn retention() -> StatefulSetPersistentVolumeClaimRetentionPolicy {
    StatefulSetPersistentVolumeClaimRetentionPolicy {
        when_deleted: Some("Delete".to_owned()),
        when_scaled: Some("Retain".to_owned()),
    }
}

fn volume_claims(valid: &Valid, embedded: &ValidEmbedded) -> Option<Vec<PersistentVolumeClaim>> {
    let persistence = embedded.persistence.as_ref()?;
    let size = persistence.size.clone().unwrap_or_else(|| Quantity(REDIS_VOLUME.to_owned()));
    let metadata = ObjectMeta {
        name: Some(volumes::data_volume().to_owned()),
        labels: meta(valid, ComponentKind::Redis).labels,
        ..ObjectMeta::default()
    };
    let spec = PersistentVolumeClaimSpec {
        access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
        storage_class_name: persistence.storage_class_name.clone(),
        resources: Some(VolumeResourceRequirements {
            requests: Some([("storage".to_owned(), size)].into()),
            limits: None,
        }),
        ..PersistentVolumeClaimSpec::default()
    };
    Some(vec![PersistentVolumeClaim { metadata, spec: Some(spec), status: None }])
}
