//! Objects that are not known to be ours: is one of the name there already, and whose is it?
//!
//! Nearly always there is none. But whoever takes a foreign object over takes its fields, and has it deleted with the
//! resource. So most kinds are made by POST, which is refused where there is one; the others are applied without force,
//! which is refused where somebody else holds a field with another value. Only then is the metadata read.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::api::{Api, PatchParams};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{ApplyError, FIELD_MANAGER, Round, as_ours, made, send};
use crate::index::{Index, Kind, Object, is_noted};

const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

impl Round<'_> {
    /// Makes or applies an object that is not known to be ours, unless it is a stranger's.
    pub(super) async fn claim<O>(
        &self,
        api: &Api<O>,
        (kind, name): (Kind, &str),
        object: &O,
    ) -> Result<O, ApplyError>
    where
        O: Object + Resource<Scope = NamespaceResourceScope> + Clone + Debug + Serialize + DeserializeOwned,
    {
        let (answer, is_there): (_, fn(&kube::Error) -> bool) = if made::is_made(kind) {
            // Boxed: it holds an object of its own, for which every turn would have room.
            (Box::pin(made::create(api, object)).await, may_exist)
        } else {
            let unforced = PatchParams { force: false, ..as_ours() };
            (send(api, name, object, &unforced).await, is_collision)
        };
        match answer {
            // Boxed, since it is seldom: every turn would have room for it.
            Err(error) if is_there(&error) => Box::pin(self.take(api, name, object, error)).await,
            answered => Ok(answered?),
        }
    }

    /// Applies by force what is there and the resource's, though the index does not know it: somebody took its labels
    /// off, or the watch is behind.
    async fn take<O>(
        &self,
        api: &Api<O>,
        name: &str,
        object: &O,
        refusal: kube::Error,
    ) -> Result<O, ApplyError>
    where
        O: Object + Resource<Scope = NamespaceResourceScope> + Clone + Debug + Serialize + DeserializeOwned,
    {
        // Without one, what was refused is ours, or the other went meanwhile.
        let Some(found) = api.get_metadata_opt(name).await? else { return Err(refusal.into()) };
        if !self.is_ours(object.meta(), &found.metadata) {
            return Err(ApplyError::Foreign);
        }
        made::convert_from(api, name, &found.metadata).await?;
        Ok(send(api, name, object, &as_ours()).await?)
    }

    /// Is what was found the resource's? It says so itself, by its owner or by our labels. The claim of a model cache has
    /// no owner: without labels it is known by the apiserver's note of what we set.
    fn is_ours(&self, wanted: &ObjectMeta, found: &ObjectMeta) -> bool {
        let owned = found.owner_references.iter().flatten().any(|owner| owner.uid == self.uid);
        let label = found.labels.as_ref().and_then(|labels| labels.get(MANAGED_BY));
        let ours = label.is_some_and(|label| label == FIELD_MANAGER);
        match Index::id(found) {
            Some((key, _)) => owned || (ours && key == *self.key),
            None => owned || (wanted.owner_references.is_none() && is_noted(found)),
        }
    }
}

/// There is one of the name, or may be: a full quota refuses to make what is there too.
fn may_exist(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else { return false };
    status.reason == "AlreadyExists" || (status.code == 403 && status.message.contains("exceeded quota"))
}

/// Something is there that is otherwise: a manager holds one of the fields, or a field cannot be changed.
fn is_collision(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else { return false };
    let causes = status.details.iter().flat_map(|details| &details.causes);
    status.code == 422 || causes.into_iter().any(|cause| cause.reason == "FieldManagerConflict")
}
