//! Deleting a deployment takes everything along but the model cache; the volume of its Redis too.

use crate::stories::{NO_STORAGE, cannot};
use crds::SmallestDeployment;
use e2e::cluster::PATIENCE;
use e2e::cluster::resource::fake;
use e2e::cluster::{Cluster, Namespaced, Space, in_namespace, needs, wait};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::ResourceExt;
use kube::api::DeleteParams;
use libtest_mimic::Completion;
use serde_json::json;

pub(crate) async fn nothing_stays_but_the_model_cache(cluster: &Cluster) -> anyhow::Result<Completion> {
    if !needs::default_storage(cluster).await? {
        return cannot(cluster, NO_STORAGE);
    }
    in_namespace(cluster, "deletion", async |space| {
        let cache = json!({"size": "1Gi", "persistentVolumeClaim": {"accessModes": ["ReadWriteOnce"]}});
        let scaling = json!({"minReplicas": 1, "maxReplicas": 2});
        let mut changes = json!({"asr": {"cache": cache, "scaling": scaling}, "gateway": {"replicas": 2}});
        changes["redis"] = json!({"embedded": {"persistence": {"size": "64Mi"}}});
        space.deploy(&fake("demo", &changes)?).await?;
        space.ready("demo").await?;
        let both = claims(space).await?;
        anyhow::ensure!(both.len() == 2, "the cache and Redis have a claim each: {both:?}");

        space.api::<SmallestDeployment>().delete("demo", &DeleteParams::default()).await?;
        everything_gone(space).await?;
        let api = space.api::<PersistentVolumeClaim>();
        let one = |all: &[&PersistentVolumeClaim]| all.len() == 1;
        let left = wait::until_all(&api, "", "the volume of Redis goes too", PATIENCE, one).await?;
        let name = left.first().map(ResourceExt::name_any).unwrap_or_default();
        anyhow::ensure!(!name.contains("redis"), "the cache stays: {name}");
        // A namespace goes only while every API of the cluster answers discovery, the operator's own too.
        space.dissolve().await
    })
    .await?;
    Ok(Completion::Completed)
}

/// Waits until nothing is left of deployment `demo` but claims.
pub(crate) async fn everything_gone(space: &Space<'_>) -> anyhow::Result<()> {
    gone::<Deployment>(space).await?;
    gone::<StatefulSet>(space).await?;
    gone::<HorizontalPodAutoscaler>(space).await?;
    gone::<PodDisruptionBudget>(space).await?;
    gone::<NetworkPolicy>(space).await?;
    gone::<Service>(space).await?;
    gone::<ConfigMap>(space).await?;
    gone::<Secret>(space).await?;
    gone::<ServiceAccount>(space).await?;
    gone::<Pod>(space).await
}

/// Waits until nothing of a kind is left of the deployment.
async fn gone<K>(space: &Space<'_>) -> anyhow::Result<()>
where
    K: Namespaced,
{
    let what = format!("no {} of the deployment is left", K::kind(&()));
    wait::until_all(&space.api::<K>(), "app.kubernetes.io/instance=demo", &what, PATIENCE, |all: &[&K]| {
        all.is_empty()
    })
    .await?;
    Ok(())
}

/// Names of the claims in the story's namespace.
pub(crate) async fn claims(space: &Space<'_>) -> anyhow::Result<Vec<String>> {
    let list = space.api::<PersistentVolumeClaim>().list(&kube::api::ListParams::default()).await?;
    Ok(list.items.iter().map(ResourceExt::name_any).collect())
}
