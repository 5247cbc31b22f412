//! Objects made by POST: the apiserver reads no YAML and merges no fields, and refuses where there is one of the name.
//!
//! It notes what an object is made with as ours, but as an update's, which a later apply does not take back: a port that
//! is wanted no more would stay. So before its first apply the note is turned into an apply's. A mark on the object tells
//! what it was made as: who begins to lead and wants the same has nothing to write.

use std::fmt::Debug;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{FIELD_MANAGER, as_ours, send};
use crate::index::{Kind, Object, as_applied, made_with};

/// Annotation of an object that was made by POST: a digest of what was asked for. The first apply takes it away.
const MADE_AS: &str = "smallest.ai/made-as";
/// Bytes of the digest that the mark shows; it tells versions of one object apart, and keeps nobody out.
const MARK_BYTES: usize = 8;

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
    let mut marked = object.clone();
    let mark = Wanted::of(object)?.mark()?;
    marked.meta_mut().annotations.get_or_insert_default().insert(MADE_AS.to_owned(), mark);
    let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    let answer = api.create(&params, &marked).await?;
    Ok(match O::OF_METADATA {
        Some(read) => read(answer.meta().clone()),
        None => answer,
    })
}

/// Applies what was made by POST. Where it is still what is wanted, and nobody has taken a field of it, nothing is written;
/// otherwise what it was made with counts as applied first.
pub(super) async fn apply_once<O>(api: &Api<O>, name: &str, object: &O) -> kube::Result<O>
where
    O: Object + Clone + Debug + Serialize + DeserializeOwned,
{
    if let Some(found) = api.get_opt(name).await? {
        if Wanted::of(object)?.is(&found)? {
            return Ok(found);
        }
        convert_from(api, name, found.meta()).await?;
    }
    send(api, name, object, &as_ours()).await
}

/// What it was made with counts as applied, from metadata that was just read. Whoever writes the object meanwhile makes it
/// a conflict, which is tried again: the version goes with it.
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

/// What an object is to be, as it is sent.
struct Wanted {
    object: Value,
    /// Content that no digest may tell of.
    secret: Option<Value>,
}

impl Wanted {
    fn of<O: Object + Serialize>(object: &O) -> kube::Result<Self> {
        let mut object = serde_json::to_value(object).map_err(kube::Error::SerdeError)?;
        let is_secret = O::KIND == Some(Kind::Secret);
        let secret = is_secret.then(|| object.get_mut("data").map(Value::take).unwrap_or_default());
        Ok(Self { object, secret })
    }

    fn mark(&self) -> kube::Result<String> {
        let sent = serde_json::to_vec(&self.object).map_err(kube::Error::SerdeError)?;
        let digest = Sha256::digest(sent);
        Ok(digest.iter().take(MARK_BYTES).fold(String::new(), |mark, byte| format!("{mark}{byte:02x}")))
    }

    /// Was it made as this, and is every field of it still ours? Whoever changes a field takes it.
    fn is<O: Object + Serialize>(&self, found: &O) -> kube::Result<bool> {
        let mark = found.meta().annotations.as_ref().and_then(|annotations| annotations.get(MADE_AS));
        if mark != Some(&self.mark()?) || !made_with(found.meta(), &self.object) {
            return Ok(false);
        }
        Ok(self.secret.is_none() || Self::of(found)?.secret == self.secret)
    }
}
