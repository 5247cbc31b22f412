//! Nothing is written while nothing changes: the operator leaves the versions of all objects as they are, though it
//! looks again and again. What the cluster's own controllers note in a status is theirs.

use anyhow::{Context, bail};
use crds::SmallestDeployment;
use e2e::cluster::bring_up::OPERATOR;
use e2e::cluster::resource::fake;
use e2e::cluster::{Cluster, Space, in_namespace};
use futures::future::BoxFuture;
use futures::stream::SelectAll;
use futures::{Stream, StreamExt};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{WatchEvent, WatchParams};
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::json;
use std::fmt::Debug;
use std::pin::Pin;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Seconds without a write; `E2E_REST_SECONDS` makes them more, such as 600 every night.
const REST_SECONDS: u64 = 60;
/// After this long without a change the deployment counts as at rest.
const SETTLED: Duration = Duration::from_secs(10);
/// It must come to rest within this time.
const SETTLES_WITHIN: Duration = Duration::from_secs(90);

type Writes = SelectAll<Pin<Box<dyn Stream<Item = anyhow::Result<String>> + Send>>>;

pub(crate) async fn nothing_is_written_while_nothing_changes(cluster: &Cluster) -> anyhow::Result<()> {
    let rest = match std::env::var("E2E_REST_SECONDS") {
        Ok(seconds) => seconds.parse().context("E2E_REST_SECONDS is a number")?,
        Err(_) => REST_SECONDS,
    };
    in_namespace(cluster, "at-rest", async |space| {
        let scaling = json!({"minReplicas": 1, "maxReplicas": 2, "targetActiveRequests": 4});
        space.deploy(&fake("demo", &json!({"asr": {"scaling": scaling}}))?).await?;
        space.ready("demo").await?;
        let mut writes = watch_everything(space).await?;
        settle(&mut writes).await?;
        let deadline = Instant::now() + Duration::from_secs(rest);
        match timeout_at(deadline, writes.next()).await {
            Err(_) => Ok(()),
            Ok(Some(write)) => bail!("written at rest: {}", write?),
            Ok(None) => bail!("the watches ended"),
        }
    })
    .await
}

/// Waits until nothing has been written for a while.
async fn settle(writes: &mut Writes) -> anyhow::Result<()> {
    let deadline = Instant::now() + SETTLES_WITHIN;
    let mut last = "nothing".to_owned();
    while Instant::now() < deadline {
        match timeout_at(Instant::now() + SETTLED, writes.next()).await {
            Err(_) => return Ok(()),
            Ok(Some(write)) => last = write?,
            Ok(None) => bail!("the watches ended"),
        }
    }
    bail!("it did not come to rest within {} s; last written: {last}", SETTLES_WITHIN.as_secs())
}

/// Everything that is written to objects of the namespace from now on.
async fn watch_everything(space: &Space<'_>) -> anyhow::Result<Writes> {
    let starting: Vec<BoxFuture<'_, anyhow::Result<_>>> = vec![
        Box::pin(writes::<SmallestDeployment>(space)),
        Box::pin(writes::<Deployment>(space)),
        Box::pin(writes::<StatefulSet>(space)),
        Box::pin(writes::<HorizontalPodAutoscaler>(space)),
        Box::pin(writes::<PodDisruptionBudget>(space)),
        Box::pin(writes::<NetworkPolicy>(space)),
        Box::pin(writes::<Service>(space)),
        Box::pin(writes::<ConfigMap>(space)),
        Box::pin(writes::<Secret>(space)),
        Box::pin(writes::<ServiceAccount>(space)),
        Box::pin(writes::<Pod>(space)),
    ];
    Ok(futures::future::try_join_all(starting).await?.into_iter().collect())
}

/// Writes of one kind; a plain watch from the current version on, so that nothing is shown twice.
async fn writes<K>(
    space: &Space<'_>,
) -> anyhow::Result<Pin<Box<dyn Stream<Item = anyhow::Result<String>> + Send>>>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + Send
        + DeserializeOwned
        + 'static,
{
    let api = space.api::<K>();
    let list = api.list_metadata(&kube::api::ListParams::default()).await?;
    let version = list.metadata.resource_version.context("a list has a version")?;
    // Longer than the longest rest would need the list once more.
    let params = WatchParams::default().timeout(294);
    let events = api.watch(&params, &version).await?;
    let kind = K::kind(&());
    let told = events.filter_map(move |event| {
        let kind = kind.clone();
        async move {
            match event {
                Ok(
                    WatchEvent::Added(object) | WatchEvent::Modified(object) | WatchEvent::Deleted(object),
                ) => {
                    let by = object.managed_fields().iter().max_by_key(|entry| entry.time.clone());
                    let by = by.and_then(|entry| entry.manager.clone()).unwrap_or_default();
                    (by == OPERATOR).then(|| Ok(format!("{kind} {}: {object:?}", object.name_any())))
                }
                Ok(WatchEvent::Bookmark(_)) => None,
                Ok(WatchEvent::Error(answer)) => {
                    Some(Err(anyhow::anyhow!("the watch of {kind}: {answer:?}")))
                }
                Err(error) => Some(Err(error.into())),
            }
        }
    });
    Ok(Box::pin(told))
}
