//! Nothing is written while nothing changes: the operator leaves the versions of all objects as they are, though it
//! looks again and again. What the cluster's own controllers note in a status is theirs.
//!
//! A machine so busy that a pod or a metric does not answer in time is no rest, and the resource's status has to tell of
//! it: that one write is let through where kubelet or autoscaler say the same by themselves, and is told in the output.
//! No other object may be written even then.

use anyhow::{Context, bail, ensure};
use crds::SmallestDeployment;
use e2e::cluster::load::{LiveStream, finish_all};
use e2e::cluster::resource::fake;
use e2e::cluster::space::{deletion_cost, selector};
use e2e::cluster::{Cluster, PATIENCE, Space, in_namespace, wait};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

use crate::watches::{self, News, Sign, Watches};

/// Seconds without a write; `E2E_REST_SECONDS` makes them fewer, for a quick look.
const REST_SECONDS: u64 = 600;
/// After this long without a change the deployment counts as at rest.
const SETTLED: Duration = Duration::from_secs(10);
/// It must come to rest within this time.
const SETTLES_WITHIN: Duration = Duration::from_secs(90);
/// The cluster says what disturbs the service at most this long before or after the resource tells of it.
const SHOWN_WITHIN: Duration = Duration::from_secs(15);

/// How the resource tells that something did not answer in time, and who of the cluster must say so too.
const DISTURBED: [(&str, &[Sign]); 3] = [
    ("MetricUnavailable", &[Sign::Metric]),
    ("ProbeFailing", &[Sign::Probe]),
    // The autoscaler's questions go to Redis, and Redis has probes of its own.
    ("RedisUnreachable", &[Sign::Metric, Sign::Probe]),
];
/// So many may come in all; an operator that changes its mind all the time would have more.
const DISTURBANCES: usize = 6;

pub(crate) async fn nothing_is_written_while_nothing_changes(cluster: &Cluster) -> anyhow::Result<()> {
    let rest = match std::env::var("E2E_REST_SECONDS") {
        Ok(seconds) => seconds.parse().context("E2E_REST_SECONDS is a number")?,
        Err(_) => REST_SECONDS,
    };
    in_namespace(cluster, "at-rest", async |space| {
        let scaling = json!({"minReplicas": 2, "maxReplicas": 3, "targetActiveRequests": 4});
        // More of a busy processor than the pods of the stories beside it have.
        let pod = json!({"resources": {"requests": {"cpu": "100m"}}});
        let mut changes = json!({
            "asr": {"scaling": scaling, "pod": pod}, "gateway": {"pod": pod}, "redis": {"embedded": pod},
        });
        // Both workers share it, so they must be on one node.
        if cluster.own {
            changes["asr"]["cache"] =
                json!({"size": "64Mi", "persistentVolumeClaim": {"accessModes": ["ReadWriteOnce"]}});
        }
        space.deploy(&fake("demo", &changes)?).await?;
        space.ready("demo").await?;
        worked(space).await?;
        Rest::begin(space).await?.lasts(Duration::from_secs(rest)).await
    })
    .await
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

/// A deployment that has come to rest.
struct Rest {
    watches: Watches,
    /// What the cluster said last of each kind of disturbance.
    signs: Vec<(Sign, String, Instant)>,
    disturbances: usize,
}

impl Rest {
    /// Waits until nothing has been written for a while.
    async fn begin(space: &Space<'_>) -> anyhow::Result<Self> {
        let mut rest = Self { watches: watches::all(space), signs: Vec::new(), disturbances: 0 };
        let by = Instant::now() + SETTLES_WITHIN;
        while let Some(news) = rest.next(Instant::now() + SETTLED).await? {
            ensure!(Instant::now() < by, "it did not come to rest in {SETTLES_WITHIN:?}; at last: {news:?}");
        }
        Ok(rest)
    }

    /// Nothing is written for so long. While something disturbs the service the clock stands.
    async fn lasts(mut self, mut left: Duration) -> anyhow::Result<()> {
        loop {
            let began = Instant::now();
            match self.next_write(began + left).await? {
                None => return Ok(()),
                Some(News::Status(resource)) => {
                    left = left.saturating_sub(began.elapsed());
                    self.disturbed(&resource).await?;
                }
                Some(other) => bail!("written at rest: {other:?}"),
            }
        }
    }

    /// A status was written: the cluster must show why, and until the service answers again nothing but statuses may be.
    async fn disturbed(&mut self, resource: &SmallestDeployment) -> anyhow::Result<()> {
        let Some((reason, by)) = disturbance(resource) else {
            bail!("written at rest: {:?}", resource.status)
        };
        self.disturbances += 1;
        ensure!(
            self.disturbances <= DISTURBANCES,
            "{reason} once more; it was told {DISTURBANCES} times before"
        );
        let mut troubled = true;
        let (shown_by, ends_by) = (Instant::now() + SHOWN_WITHIN, Instant::now() + SETTLES_WITHIN + PATIENCE);
        let (mut written, mut statuses, mut signs) = (Instant::now(), 1, 0);
        let mut quiet_by = written + SETTLED;
        let mut shown = self.shown(by);
        loop {
            ensure!(
                Instant::now() < ends_by,
                "{reason} does not end: {statuses} statuses, the last {:?} ago and {}; {signs} signs of the cluster",
                written.elapsed(),
                if troubled { "troubled" } else { "healthy" }
            );
            let until = if shown.is_none() { shown_by } else { quiet_by };
            match self.next(until).await? {
                Some(News::Status(resource)) => {
                    troubled = disturbance(&resource).is_some();
                    (written, statuses) = (Instant::now(), statuses + 1);
                    quiet_by = written + SETTLED;
                }
                Some(News::Write(what)) => bail!("written while {reason}: {what}"),
                // What the cluster says after that is no write: it may speak of a busy machine as long as it likes.
                Some(News::Sign(..)) => signs += 1,
                None if shown.is_none() => {
                    bail!("the resource tells of {reason}, and nothing in the cluster shows it")
                }
                // Nothing is written for a while: it is at rest again, or the disturbance lasts.
                None if !troubled => break,
                None => quiet_by = Instant::now() + SETTLED,
            }
            shown = shown.or_else(|| self.shown(by));
        }
        eprintln!("at rest: the clock stood for {reason}; the cluster said: {}", shown.unwrap_or_default());
        Ok(())
    }

    /// What the cluster said of late.
    fn shown(&self, by: &[Sign]) -> Option<String> {
        let late = |at: &Instant| at.elapsed() < SHOWN_WITHIN;
        let mut signs = self.signs.iter().filter(|(sign, _, at)| by.contains(sign) && late(at));
        signs.next().map(|(_, said, _)| said.clone())
    }

    /// The next write, if one comes in time.
    async fn next_write(&mut self, until: Instant) -> anyhow::Result<Option<News>> {
        loop {
            match self.next(until).await? {
                Some(News::Sign(..)) => {}
                other => return Ok(other),
            }
        }
    }

    /// What happens next, if something does in time; signs are kept.
    async fn next(&mut self, until: Instant) -> anyhow::Result<Option<News>> {
        match timeout_at(until, self.watches.next()).await {
            Err(_) => Ok(None),
            Ok(None) => bail!("the watches ended"),
            Ok(Some(news)) => {
                if let News::Sign(sign, said) = &news {
                    self.signs.retain(|(kept, ..)| kept != sign);
                    self.signs.push((*sign, said.clone(), Instant::now()));
                }
                Ok(Some(news))
            }
        }
    }
}

/// The disturbance that a resource tells of, and who must say so too.
fn disturbance(resource: &SmallestDeployment) -> Option<(&'static str, &'static [Sign])> {
    // Conditions tell of it, and components of their pods.
    let told = format!("{:?}", resource.status);
    DISTURBED.into_iter().find(|(reason, _)| told.contains(&format!("reason: {reason:?}")))
}
