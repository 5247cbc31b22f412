//! The cluster around the operator: the definition, a license, resources, and what came of them.

use std::fmt::Debug;
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use crds::SmallestDeployment;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::PartialObjectMeta;
use kube::runtime::wait::{await_condition, conditions};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::time::timeout;

/// Namespace that everything is made in.
const NAMESPACE: &str = "bench-operator";
/// Resources created at a time.
const CREATORS: usize = 16;
const OURS: &str = "app.kubernetes.io/managed-by=smallest-operator";

/// The definition, the namespace and the license.
pub(crate) async fn prepare(client: &Client) -> anyhow::Result<()> {
    no_other_operator(client).await?;
    let apply = PatchParams::apply("bench-operator").force();
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let definition = crds::crd();
    definitions.patch(&definition.name_any(), &apply, &Patch::Apply(&definition)).await?;
    let name = definition.name_any();
    let established = await_condition(definitions, &name, conditions::is_crd_established());
    timeout(Duration::from_mins(1), established).await.context("the definition is not established")??;
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE } });
    namespaces.patch(NAMESPACE, &apply, &Patch::Apply(&namespace)).await?;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), NAMESPACE);
    let license = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "license" },
        "stringData": { "license.jwt": "a license that nobody checks here" },
    });
    secrets.patch("license", &apply, &Patch::Apply(&license)).await?;
    Ok(())
}

/// Another operator would do the work that is measured; and the one that is measured would do its.
async fn no_other_operator(client: &Client) -> anyhow::Result<()> {
    let leases: Api<Lease> = Api::all(client.clone());
    let named = ListParams::default().fields("metadata.name=smallest-operator");
    for lease in leases.list(&named).await?.items {
        let spec = lease.spec.as_ref();
        let holder = spec.and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default();
        let namespace = lease.namespace().unwrap_or_default();
        ensure!(
            holder.is_empty(),
            "an operator runs in namespace {namespace}: choose a cluster without, or delete its Lease if it is gone"
        );
    }
    Ok(())
}

/// Creates the resources, all at once.
pub(crate) async fn create(client: &Client, count: usize) -> anyhow::Result<()> {
    let api: Api<SmallestDeployment> = Api::namespaced(client.clone(), NAMESPACE);
    let creations = (0..count).map(|n| {
        let api = api.clone();
        async move { api.create(&PostParams::default(), &resource(n)?).await.map_err(anyhow::Error::from) }
    });
    stream::iter(creations).buffer_unordered(CREATORS).try_for_each(|_| async { Ok(()) }).await
}

/// A resource as the quickstart has it.
fn resource(n: usize) -> anyhow::Result<SmallestDeployment> {
    Ok(serde_json::from_value(json!({
        "apiVersion": "smallest.ai/v1", "kind": "SmallestDeployment",
        "metadata": { "name": format!("bench-{n:04}"), "namespace": NAMESPACE },
        "spec": {
            "license": { "offline": { "secretRef": { "name": "license" } } },
            "gateway": { "auth": { "allowAnonymous": true } },
            "asr": {
                "models": [{
                    "name": "demo", "url": "file:///usr/share/smallest/models/demo-asr", "sha256": "0".repeat(64),
                }],
            },
        },
    }))?)
}

/// Waits until the operator says of all resources that it has dealt with them. The status is written after the
/// objects, so all of them stand then.
pub(crate) async fn applied(client: &Client, count: usize, deadline: Duration) -> anyhow::Result<()> {
    let api: Api<SmallestDeployment> = Api::namespaced(client.clone(), NAMESPACE);
    let events = watcher(api, watcher::Config::default()).default_backoff().applied_objects();
    let mut done = std::collections::BTreeSet::new();
    let all = async {
        let mut events = pin!(events);
        while let Some(resource) = events.next().await {
            let Ok(resource) = resource else { continue };
            let status = resource.status.as_ref();
            if status.is_some_and(|status| status.observed_generation == resource.metadata.generation) {
                done.insert(resource.name_any());
            }
            if done.len() == count {
                return;
            }
        }
    };
    let in_time = timeout(deadline, all).await.is_ok();
    ensure!(in_time, "after {} s {} of {count} resources are applied", deadline.as_secs(), done.len());
    Ok(())
}

/// Objects that the operator made.
pub(crate) async fn objects(client: &Client) -> anyhow::Result<usize> {
    let counts = [
        count::<ServiceAccount>(client).await?,
        count::<Secret>(client).await?,
        count::<ConfigMap>(client).await?,
        count::<Service>(client).await?,
        count::<NetworkPolicy>(client).await?,
        count::<StatefulSet>(client).await?,
        count::<Deployment>(client).await?,
        count::<PodDisruptionBudget>(client).await?,
        count::<HorizontalPodAutoscaler>(client).await?,
    ];
    Ok(counts.iter().sum())
}

async fn count<K>(client: &Client) -> anyhow::Result<usize>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned,
{
    let api: Api<PartialObjectMeta<K>> = Api::namespaced(client.clone(), NAMESPACE);
    Ok(api.list(&ListParams::default().labels(OURS)).await?.items.len())
}

/// Removes the namespace and everything in it. The definition stays: others may use it.
pub(crate) async fn clean(client: &Client) -> anyhow::Result<()> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    match namespaces.delete(NAMESPACE, &DeleteParams::background()).await {
        Err(kube::Error::Api(answer)) if answer.is_not_found() => Ok(()),
        other => Ok(other.map(drop)?),
    }
}
