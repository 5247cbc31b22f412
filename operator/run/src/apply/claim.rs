//! Objects that are not known to be ours: is one of the name there already, and whose is it?
//!
//! Nearly always there is none, and applying makes it. But whoever takes a foreign object over takes its fields, and has
//! it deleted with the resource. So what is not known is applied without force, and the apiserver refuses where somebody
//! else holds a field with another value. Of some kinds a foreign object shares hardly a field with ours and would pass
//! unnoticed: those are looked at first, which costs a read of metadata, once.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::api::{Api, GetParams, PatchParams};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{ApplyError, FIELD_MANAGER, Round, as_ours, send};
use crate::index::{Index, Kind, Object};

const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// Whose an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    /// There is no such object.
    Nobody,
    /// It is the resource's, though the index does not know it: somebody took its labels off, or the watch is behind.
    Resource,
    /// It is somebody else's.
    Stranger,
}

impl Round<'_> {
    /// Applies an object that is not known to be ours, unless it is a stranger's.
    pub(super) async fn claim<O>(
        &self,
        api: &Api<O>,
        (kind, name): (Kind, &str),
        object: &O,
    ) -> Result<O, ApplyError>
    where
        O: Object + Resource<Scope = NamespaceResourceScope> + Clone + Debug + Serialize + DeserializeOwned,
    {
        if self.would_pass_unnoticed(kind, name) {
            // The apiserver's memory will do: what it does not know yet is hardly older than this look.
            match self.owner(api, name, &GetParams::any()).await? {
                Owner::Nobody => {}
                Owner::Resource => return Ok(send(api, name, object, &as_ours()).await?),
                Owner::Stranger => return Err(ApplyError::Foreign),
            }
        }
        let unforced = PatchParams { force: false, ..as_ours() };
        let error = match send(api, name, object, &unforced).await {
            Err(error) if is_collision(&error) => error,
            answered => return Ok(answered?),
        };
        match self.owner(api, name, &GetParams::default()).await? {
            // The object is wrong in itself, or went meanwhile.
            Owner::Nobody => Err(error.into()),
            Owner::Resource => Ok(send(api, name, object, &as_ours()).await?),
            Owner::Stranger => Err(ApplyError::Foreign),
        }
    }

    /// May one of the name be there with which ours would not collide? Of Secrets the index knows the names of all.
    fn would_pass_unnoticed(&self, kind: Kind, name: &str) -> bool {
        match kind {
            Kind::Secret => self.applier.index.secret_version(&self.key.namespace, name).is_some(),
            Kind::ServiceAccount | Kind::ConfigMap | Kind::Service | Kind::PodDisruptionBudget => true,
            // What these select, or what they are, cannot be left out, and only one manager has it its way.
            Kind::PersistentVolumeClaim
            | Kind::NetworkPolicy
            | Kind::StatefulSet
            | Kind::Deployment
            | Kind::HorizontalPodAutoscaler
            | Kind::ServiceMonitor => false,
        }
    }

    async fn owner<O>(&self, api: &Api<O>, name: &str, params: &GetParams) -> kube::Result<Owner>
    where
        O: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        let found = api.get_metadata_opt_with(name, params).await?;
        Ok(found.map_or(Owner::Nobody, |found| self.owner_of(&found.metadata)))
    }

    fn owner_of(&self, metadata: &ObjectMeta) -> Owner {
        let owned = metadata.owner_references.iter().flatten().any(|owner| owner.uid == self.uid);
        let label = metadata.labels.as_ref().and_then(|labels| labels.get(MANAGED_BY));
        let labelled = label.is_some_and(|label| label == FIELD_MANAGER)
            && Index::id(metadata).is_some_and(|(key, _)| key == *self.key);
        if owned || labelled { Owner::Resource } else { Owner::Stranger }
    }
}

/// Something is there that is otherwise: a manager holds one of the fields, or a field cannot be changed.
fn is_collision(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else { return false };
    let causes = status.details.iter().flat_map(|details| &details.causes);
    status.code == 422 || causes.into_iter().any(|cause| cause.reason == "FieldManagerConflict")
}
