//! What the plan no longer has is deleted: objects with our labels, owned by the resource, and not wanted.
//!
//! A Redis of before stays until no pod uses it any more ([`operator_plan::held`]): the news of the rollout's end, or of
//! the last pod's, is what wakes the turn that deletes it. And never a `PersistentVolumeClaim`: models that took hours
//! to download go only when the user deletes them, and the volume of a Redis is its `StatefulSet`'s.

use std::collections::BTreeSet;
use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::Resource;
use kube::api::{Api, DeleteParams, Preconditions, PropagationPolicy};
use serde::de::DeserializeOwned;

use super::{Applier, NotApplied, ServiceMonitor};
use crate::index::{Kind, Live, describe};
use crate::scale::Key;

impl Applier {
    /// Deletes what the owner of this uid has and does not want, last made first.
    pub(super) async fn prune(
        &self,
        key: &Key,
        uid: &str,
        wanted: &BTreeSet<(Kind, String)>,
    ) -> Result<(), NotApplied> {
        let owned = self.index.owned(key);
        // As the answers to apply have them: a Deployment that has just been changed is not rolled out.
        let held = operator_plan::held(&key.name, &self.index.children(key));
        let surplus = owned.iter().rev().filter(|(object, live)| {
            object.0 != Kind::PersistentVolumeClaim
                && live.owner.as_deref() == Some(uid)
                && !wanted.contains(*object)
                && !held.contains(&object.1)
        });
        for ((kind, name), live) in surplus {
            self.delete(key, *kind, (name, live))
                .await
                .map_err(|error| NotApplied::of_call(&describe(*kind, name), &error))?;
            tracing::info!(deployment = %key, object = describe(*kind, name), "deleted: the plan has it no more");
        }
        Ok(())
    }

    async fn delete(&self, key: &Key, kind: Kind, object: (&str, &Live)) -> kube::Result<()> {
        match kind {
            Kind::ServiceAccount => self.delete_as::<ServiceAccount>(key, object).await,
            Kind::Secret => self.delete_as::<Secret>(key, object).await,
            Kind::ConfigMap => self.delete_as::<ConfigMap>(key, object).await,
            Kind::PersistentVolumeClaim => Ok(()),
            Kind::Service => self.delete_as::<Service>(key, object).await,
            Kind::NetworkPolicy => self.delete_as::<NetworkPolicy>(key, object).await,
            Kind::StatefulSet => self.delete_as::<StatefulSet>(key, object).await,
            Kind::Deployment => self.delete_as::<Deployment>(key, object).await,
            Kind::PodDisruptionBudget => self.delete_as::<PodDisruptionBudget>(key, object).await,
            Kind::HorizontalPodAutoscaler => self.delete_as::<HorizontalPodAutoscaler>(key, object).await,
            Kind::ServiceMonitor => self.delete_as::<ServiceMonitor>(key, object).await,
        }
    }

    async fn delete_as<K>(&self, key: &Key, (name, live): (&str, &Live)) -> kube::Result<()>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), &key.namespace);
        // Somebody may have made another one of this name meanwhile.
        let preconditions = Preconditions { uid: Some(live.uid.clone()), resource_version: None };
        let params = DeleteParams {
            preconditions: Some(preconditions),
            propagation_policy: Some(PropagationPolicy::Background),
            ..DeleteParams::default()
        };
        match api.delete(name, &params).await {
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
            other => other.map(drop),
        }
    }
}
