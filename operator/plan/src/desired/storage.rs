//! Claims that keep the workers' models.

use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::desired::meta::named;
use crate::names;
use crate::valid::{Valid, ValidWorker};

/// The claim of a worker that asks for one. It has no owner: it stays when the deployment goes, since its models may
/// have taken an hour to come.
pub(super) fn model_claim(valid: &Valid, worker: &ValidWorker) -> Option<PersistentVolumeClaim> {
    let wanted = worker.cache.persistent_volume_claim.as_ref()?;
    let modes: Vec<String> = wanted.access_modes.iter().map(|mode| format!("{mode:?}")).collect();
    let head = named(valid, worker.kind, names::model_claim(&valid.name, worker.kind));
    Some(PersistentVolumeClaim {
        metadata: ObjectMeta { owner_references: None, ..head },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(modes),
            storage_class_name: wanted.storage_class_name.clone(),
            resources: Some(VolumeResourceRequirements {
                requests: worker.cache.size.clone().map(|size| [("storage".to_owned(), size)].into()),
                limits: None,
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    })
}
