//! Objects made by POST: the apiserver reads no YAML and merges no fields, and refuses where there is one of the name.
//!
//! It notes what an object is made with as ours, but as an update's, which a later apply does not take back: a port that
//! is wanted no more would stay. So before its first apply the note is turned into an apply's.

use std::fmt::Debug;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::FIELD_MANAGER;
use crate::index::{Kind, Object, as_applied};

/// Are objects of this kind made by POST?
pub(super) fn is_made(kind: Kind) -> bool {
    match kind {
        Kind::ServiceAccount
        | Kind::Secret
        | Kind::ConfigMap
        | Kind::PersistentVolumeClaim
        | Kind::Service
        | Kind::NetworkPolicy
        | Kind::PodDisruptionBudget
        | Kind::HorizontalPodAutoscaler => true,
        // Replicas go from manager to manager. Of somebody else's kind the cluster may have another version: a field
        // that it does not know an apply is refused for, and a POST loses without a word.
        Kind::StatefulSet | Kind::Deployment | Kind::ServiceMonitor => false,
    }
}

/// Makes an object, if there is none of the name. `PostParams` cannot ask for metadata alone; of the answer no more is
/// kept.
pub(super) async fn create<O>(api: &Api<O>, object: &O) -> kube::Result<O>
where
    O: Object + Clone + Debug + Serialize + DeserializeOwned,
{
    let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    let answer = api.create(&params, object).await?;
    Ok(match O::OF_METADATA {
        Some(read) => read(answer.meta().clone()),
        None => answer,
    })
}

/// What an object was made with counts as applied from now on. One that is gone meanwhile needs nothing.
pub(super) async fn convert<O>(api: &Api<O>, name: &str) -> kube::Result<()>
where
    O: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    match api.get_metadata_opt(name).await? {
        Some(found) => convert_from(api, name, &found.metadata).await,
        None => Ok(()),
    }
}

/// As [`convert`], from metadata that was just read. Whoever writes the object meanwhile makes it a conflict, which is
/// tried again: the version goes with it.
pub(super) async fn convert_from<O>(api: &Api<O>, name: &str, metadata: &ObjectMeta) -> kube::Result<()>
where
    O: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let Some(entries) = as_applied(metadata) else { return Ok(()) };
    let head = json!({ "resourceVersion": metadata.resource_version, "managedFields": entries });
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    match api.patch_metadata(name, &params, &Patch::Merge(json!({ "metadata": head }))).await {
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        answered => answered.map(drop),
    }
}
