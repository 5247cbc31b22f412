//! Queued work: how long until a sleeping component is woken, and until the metric and the autoscaler show a burst.
//!
//! Comes in: a deployment whose ASR sleeps when idle, and a way to its Redis. Each round queues one recording and
//! sees the Deployment patched; then, while no worker serves yet, queues a burst and sees the external metric and the
//! autoscaler follow; then takes all back, and waits until the component sleeps again. Times are this program's:
//! from before the first recording is handed to Redis until a watch, or an answer, shows the change.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client};
use queue::ids::JobId;
use tokio::time::{Instant, timeout};

use crate::figures::Figure;
use crate::work::Work;

/// Longest wait for anything that must come.
const PATIENCE: Duration = Duration::from_mins(2);
/// Between two questions for the metric, which is only there for asking.
const ASK_EVERY: Duration = Duration::from_millis(20);
/// What the autoscaler goes by.
const METRIC: &str = "smallest_load";
/// Goals, ms.
const WOKEN_MS: f64 = 200.0;
const SEEN_MS: f64 = 2_000.0;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Namespace of the deployment
    #[arg(long, default_value = "default")]
    namespace: String,
    /// Name of the `SmallestDeployment`
    #[arg(long, default_value = "quickstart")]
    deployment: String,
    /// The deployment's Redis
    #[arg(long, env = "REDIS_URL", hide_env_values = true)]
    redis_url: String,
    /// Recordings in a burst
    #[arg(long, default_value_t = 50)]
    burst: u64,
    /// How often everything is measured
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// How often the cluster's autoscaler looks, for the table
    #[arg(long, default_value = "unknown", value_name = "PERIOD")]
    autoscaler_period: String,
}

/// What one round took, ms.
struct Round {
    woken: f64,
    metric: f64,
    autoscaler: f64,
}

/// Measures so many rounds.
pub(crate) async fn measure(args: &Args, client: &Client) -> anyhow::Result<Vec<Figure>> {
    let work = Work::connect(&args.redis_url, &format!("{}/{}", args.namespace, args.deployment)).await?;
    let waiting = work.waiting().await?;
    ensure!(waiting == 0, "failed to measure: {waiting} recordings wait already");
    let seen = Seen { client: client.clone(), args };
    let mut rounds = Vec::new();
    for number in 1..=args.rounds {
        let mut replicas = seen.replicas();
        seen.until(&mut replicas, "sleeps", |replicas| replicas == 0).await?;
        timeout(PATIENCE, work.alone()).await.context("failed to see the workers gone")??;
        let mut jobs = Vec::new();
        // Another number than before: what an autoscaler says of the former round is not taken for this one.
        let burst = args.burst + 10 * (number as u64 % 2);
        let round = round(&seen, &work, (replicas, burst, &mut jobs)).await;
        work.cancel(&jobs).await?;
        let round = round?;
        let Round { woken, metric, autoscaler } = round;
        println!("round {number}: woken {woken:.0} ms, metric {metric:.0} ms, autoscaler {autoscaler:.0} ms");
        rounds.push(round);
    }
    let values = |of: fn(&Round) -> f64| rounds.iter().map(of).collect::<Vec<_>>();
    let autoscaler = format!("queued burst to autoscaler (looks every {})", args.autoscaler_period);
    let figures = [
        Figure::spread("queued to 0 -> 1 patch", &values(|round| round.woken), "ms", Some(WOKEN_MS)),
        Figure::spread("queued burst to metric", &values(|round| round.metric), "ms", Some(SEEN_MS)),
        Figure::spread(&autoscaler, &values(|round| round.autoscaler), "ms", Some(SEEN_MS)),
    ];
    Ok(figures.into_iter().flatten().collect())
}

async fn round(
    seen: &Seen<'_>,
    work: &Work,
    (mut replicas, burst, jobs): (Replicas, u64, &mut Vec<JobId>),
) -> anyhow::Result<Round> {
    let began = Instant::now();
    let (awake, queued) = tokio::join!(
        timed(began, seen.until(&mut replicas, "is awake", |replicas| replicas > 0)),
        work.queue(1)
    );
    jobs.extend(queued?);
    let woken = awake?;
    let expected = burst + jobs.len() as u64;
    let began = Instant::now();
    let (queued, metric, autoscaler) = tokio::join!(
        work.queue(burst),
        timed(began, seen.metric(expected)),
        timed(began, seen.autoscaler(expected)),
    );
    jobs.extend(queued?);
    Ok(Round { woken, metric: metric?, autoscaler: autoscaler? })
}

/// Milliseconds until it came.
async fn timed(began: Instant, came: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<f64> {
    came.await.map(|()| began.elapsed().as_secs_f64() * 1e3)
}

/// Numbers of replicas, from a watch.
type Replicas = BoxStream<'static, i32>;

/// The cluster's side.
struct Seen<'a> {
    client: Client,
    args: &'a Args,
}

impl Seen<'_> {
    /// Of the Deployment and of its autoscaler.
    fn name(&self) -> String {
        format!("{}-asr", self.args.deployment)
    }

    fn only(&self) -> watcher::Config {
        watcher::Config::default().fields(&format!("metadata.name={}", self.name()))
    }

    /// Replicas that are asked for, as they change.
    fn replicas(&self) -> Replicas {
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), &self.args.namespace);
        let seen = watcher(api, self.only()).default_backoff().applied_objects();
        seen.filter_map(async |deployment| deployment.ok()?.spec?.replicas).boxed()
    }

    async fn until(
        &self,
        replicas: &mut Replicas,
        what: &str,
        wanted: impl Fn(i32) -> bool,
    ) -> anyhow::Result<()> {
        let shown = async {
            while let Some(number) = replicas.next().await {
                if wanted(number) {
                    return Ok(());
                }
            }
            bail!("failed to watch the Deployment")
        };
        timeout(PATIENCE, shown)
            .await
            .with_context(|| format!("failed to see that {} {what}", self.name()))?
    }

    async fn metric(&self, expected: u64) -> anyhow::Result<()> {
        let Args { namespace, deployment, .. } = self.args;
        let path = format!(
            "/apis/external.metrics.k8s.io/v1beta1/namespaces/{namespace}/{METRIC}?labelSelector=deployment%3D{deployment}%2Ccomponent%3Dasr"
        );
        let mut ask = tokio::time::interval(ASK_EVERY);
        let shown = async {
            loop {
                ask.tick().await;
                let request = http::Request::get(&path).body(Vec::new())?;
                let list: serde_json::Value = self.client.request(request).await?;
                if number(list["items"][0]["value"].as_str()) >= Some(expected) {
                    return Ok(());
                }
            }
        };
        timeout(PATIENCE, shown).await.context("failed to see the metric follow")?
    }

    /// Until the autoscaler's status tells the value.
    async fn autoscaler(&self, expected: u64) -> anyhow::Result<()> {
        let api: Api<HorizontalPodAutoscaler> = Api::namespaced(self.client.clone(), &self.args.namespace);
        let mut seen = watcher(api, self.only()).default_backoff().applied_objects().boxed();
        let shown = async {
            while let Some(autoscaler) = seen.next().await {
                if autoscaler.is_ok_and(|autoscaler| tells(&autoscaler, expected)) {
                    return Ok(());
                }
            }
            bail!("failed to watch the autoscaler")
        };
        timeout(PATIENCE, shown).await.context("failed to see the autoscaler follow")?
    }
}

/// An autoscaler notes the average a replica, in thousandths where it is no whole number, which are rounded down here.
fn tells(autoscaler: &HorizontalPodAutoscaler, expected: u64) -> bool {
    let Some(status) = &autoscaler.status else { return false };
    let replicas = u64::try_from(status.current_replicas.unwrap_or(1)).unwrap_or(0).max(1);
    let metrics = status.current_metrics.iter().flatten().filter_map(|metric| metric.external.as_ref());
    let averages = metrics.filter(|seen| seen.metric.name == METRIC).map(|seen| &seen.current.average_value);
    let mut averages =
        averages.filter_map(|average| number(average.as_ref().map(|average| average.0.as_str())));
    averages.any(|average| (expected / replicas..=expected.div_ceil(replicas)).contains(&average))
}

/// Whole numbers, and thousandths such as `2500m`, rounded down.
fn number(text: Option<&str>) -> Option<u64> {
    let text = text?;
    text.strip_suffix('m')
        .map_or_else(|| text.parse().ok(), |milli| milli.parse::<u64>().ok().map(|n| n / 1_000))
}
