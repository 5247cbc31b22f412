//! Nothing is written while nothing changes: the operator leaves the versions of all objects as they are, though it
//! looks again and again. What the cluster's own controllers note in a status is theirs.

use anyhow::{Context, anyhow, bail};
use crds::SmallestDeployment;
use e2e::cluster::bring_up::OPERATOR;
use e2e::cluster::load::{LiveStream, finish_all};
use e2e::cluster::resource::fake;
use e2e::cluster::space::{deletion_cost, selector};
use e2e::cluster::{Cluster, PATIENCE, Space, in_namespace, wait};
use futures::future::ready;
use futures::stream::SelectAll;
use futures::{Stream, StreamExt};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::json;
use std::fmt::Debug;
use std::pin::Pin;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Seconds without a write; `E2E_REST_SECONDS` makes them fewer, for a quick look.
const REST_SECONDS: u64 = 600;
/// After this long without a change the deployment counts as at rest.
const SETTLED: Duration = Duration::from_secs(10);
/// It must come to rest within this time.
const SETTLES_WITHIN: Duration = Duration::from_secs(90);

/// How the resource tells that something did not answer in time, though nothing is wrong with it.
const DISTURBED: [&str; 3] = ["RedisUnreachable", "MetricUnavailable", "ProbeFailing"];
/// So many may come in all; an operator that changes its mind all the time would have more.
const DISTURBANCES: usize = 6;

type Writes = SelectAll<Pin<Box<dyn Stream<Item = anyhow::Result<String>> + Send>>>;

pub(crate) async fn nothing_is_written_while_nothing_changes(cluster: &Cluster) -> anyhow::Result<()> {
    let rest = match std::env::var("E2E_REST_SECONDS") {
        Ok(seconds) => seconds.parse().context("E2E_REST_SECONDS is a number")?,
        Err(_) => REST_SECONDS,
    };
    in_namespace(cluster, "at-rest", async |space| {
        let scaling = json!({"minReplicas": 2, "maxReplicas": 3, "targetActiveRequests": 4});
        // More of a busy processor than the pods of the stories beside it have.
        let pod = json!({"resources": {"requests": {"cpu": "100m"}}});
        let changes = json!({
            "asr": {"scaling": scaling, "pod": pod}, "gateway": {"pod": pod}, "redis": {"embedded": pod},
        });
        space.deploy(&fake("demo", &changes)?).await?;
        space.ready("demo").await?;
        worked(space).await?;
        rests(space, Duration::from_secs(rest)).await
    })
    .await
}

/// Nothing is written for so long. What a busy machine does to the service is no rest: the clock stands until it is over.
async fn rests(space: &Space<'_>, rest: Duration) -> anyhow::Result<()> {
    let mut writes = watch_everything(space);
    let (mut left, mut disturbances) = (rest, 0);
    loop {
        settle(&mut writes).await?;
        let began = Instant::now();
        let write = match timeout_at(began + left, writes.next()).await {
            Err(_) => return Ok(()),
            Ok(Some(write)) => write?,
            Ok(None) => bail!("the watches ended"),
        };
        left = left.saturating_sub(began.elapsed());
        disturbances += 1;
        let Some(reason) = disturbance(&write).filter(|_| disturbances <= DISTURBANCES) else {
            bail!("written at rest: {write}")
        };
        eprintln!("at rest: {reason}, after {:.0} s; the clock stands", began.elapsed().as_secs_f64());
        space
            .until("demo", "the machine lets the service answer again", |found: &SmallestDeployment| {
                let conditions = found.status.iter().flat_map(|status| &status.conditions);
                conditions.into_iter().all(|one| !DISTURBED.contains(&one.reason.as_str()))
            })
            .await?;
    }
}

/// The disturbance that a write of the resource tells of.
fn disturbance(write: &str) -> Option<&'static str> {
    let told = |reason: &&str| write.contains(&format!("reason: {reason:?}"));
    DISTURBED.into_iter().find(told).filter(|_| write.starts_with("SmallestDeployment "))
}

/// Has some work come and go, so that every hand of the operator has written: also the one that orders the pods by what
/// they hold.
async fn worked(space: &Space<'_>) -> anyhow::Result<()> {
    let streams = LiveStream::open_many(&space.service("demo").await?, 3);
    let (pods, workers) = (space.api::<Pod>(), selector("demo", "asr"));
    let some = |pods: &[&Pod]| pods.iter().any(|pod| deletion_cost(pod) > 0);
    wait::until_all(&pods, &workers, "the costs of the pods are written", PATIENCE, some).await?;
    finish_all(streams).await?;
    let none = |pods: &[&Pod]| pods.len() == 2 && pods.iter().all(|pod| deletion_cost(pod) == 0);
    wait::until_all(&pods, &workers, "empty pods cost nothing again", PATIENCE, none).await?;
    Ok(())
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
fn watch_everything(space: &Space<'_>) -> Writes {
    [
        writes::<SmallestDeployment>(space),
        writes::<Deployment>(space),
        writes::<StatefulSet>(space),
        writes::<HorizontalPodAutoscaler>(space),
        writes::<PodDisruptionBudget>(space),
        writes::<NetworkPolicy>(space),
        writes::<Service>(space),
        writes::<ConfigMap>(space),
        writes::<Secret>(space),
        writes::<ServiceAccount>(space),
        writes::<Pod>(space),
    ]
    .into_iter()
    .collect()
}

/// Writes of one kind that are the operator's. A watch that ends is gone on with from where it was; one that had to
/// list anew might have missed a write.
fn writes<K>(space: &Space<'_>) -> Pin<Box<dyn Stream<Item = anyhow::Result<String>> + Send>>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + Send
        + DeserializeOwned
        + 'static,
{
    let mut lists = 0;
    let told =
        watcher(space.api::<K>(), watcher::Config::default()).default_backoff().filter_map(move |event| {
            lists += usize::from(matches!(event, Ok(Event::Init)));
            let told = match event {
                Ok(Event::Apply(object) | Event::Delete(object)) => by_the_operator(&object),
                Ok(Event::Init) if lists > 1 => Some(Err(anyhow!("{} were listed anew", K::plural(&())))),
                // The watcher tries again by itself.
                Ok(Event::Init | Event::InitApply(_) | Event::InitDone) | Err(_) => None,
            };
            ready(told)
        });
    Box::pin(told)
}

/// What was written, if the operator wrote last, under whichever of its names: some fields it holds under names that
/// begin with its own.
fn by_the_operator<K: Resource<DynamicType = ()> + Debug>(object: &K) -> Option<anyhow::Result<String>> {
    let last = object.managed_fields().iter().max_by_key(|entry| entry.time.clone());
    let by = last.and_then(|entry| entry.manager.as_deref());
    by.is_some_and(|by| by.starts_with(OPERATOR))
        .then(|| Ok(format!("{} {}: {object:?}", K::kind(&()), object.name_any())))
}
