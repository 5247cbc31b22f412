//! Measures how fast a cluster reacts to queued work: queue → metric → autoscaler, and 0 → 1.
//!
//! Run against a deployment whose Redis this machine reaches: it queues recordings that nobody waits for, sees when the
//! external metric, the autoscaler and the Deployment show it, cancels the recordings, and prints one line a figure.
//!
//! ```text
//! cargo run --release -p operator-run --example scale_reaction -- --redis-url redis://127.0.0.1:6379 \
//!     --namespace default --deployment quickstart
//! ```

use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use clap::Parser;
use futures::StreamExt as _;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client};
use operator_plan::scale::Metric;
use queue::ids::{GatewayId, JobId};
use queue::job::{BatchJob, CONTRACT_VERSION, RecognizeOptions};
use queue::port::{GatewayPort, QueueLimits};
use queue::redis::{RedisConfig, RedisQueue};
use tokio::time::{Instant, timeout};

/// Longest wait for anything that must come.
const PATIENCE: Duration = Duration::from_mins(1);
/// Between two questions for the metric, which is only there for asking.
const ASK_EVERY: Duration = Duration::from_millis(20);

#[derive(Debug, Parser)]
struct Args {
    /// Namespace of the deployment
    #[arg(long, default_value = "default")]
    namespace: String,
    /// Name of the `SmallestDeployment`
    #[arg(long, default_value = "quickstart")]
    deployment: String,
    /// Component to queue work for
    #[arg(long, default_value = "asr", value_parser = ["asr", "tts"])]
    component: String,
    /// The deployment's Redis
    #[arg(long, env = "REDIS_URL", hide_env_values = true)]
    redis_url: String,
    /// Recordings in the burst
    #[arg(long, default_value_t = 50)]
    burst: u64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let client = Client::try_default().await.context("failed to find a cluster: set KUBECONFIG")?;
    let work = Work::connect(&args).await?;
    let cluster = Cluster { client, args: &args };
    let waiting = work.queue.observe_depth().await?;
    if waiting > 0 {
        bail!("failed to measure: {waiting} recordings wait already");
    }
    let mut jobs = Vec::new();
    let measured = measure(&cluster, &work, &mut jobs).await;
    for job in &jobs {
        work.queue.cancel(job).await?;
    }
    measured
}

async fn measure(cluster: &Cluster<'_>, work: &Work, jobs: &mut Vec<JobId>) -> anyhow::Result<()> {
    if cluster.replicas().await? == 0 {
        let began = Instant::now();
        let (woken, queued) = tokio::join!(timeout(PATIENCE, cluster.awake()), work.submit(1));
        jobs.extend(queued?);
        woken.context("failed to see the component woken")??;
        println!("zero_to_one_patch_seen_ms {}", began.elapsed().as_millis());
    } else {
        println!("zero_to_one_patch_seen_ms - (it has replicas already)");
    }
    let expected = cluster.args.burst + jobs.len() as u64;
    let began = Instant::now();
    let at = async |seen: &str, shown: anyhow::Result<()>| {
        println!("{seen} {}", began.elapsed().as_millis());
        shown
    };
    let metric = async {
        let shown = timeout(PATIENCE, cluster.metric_shows(expected)).await;
        at("burst_to_metric_ms", shown.context("failed to see the metric follow")?).await
    };
    let autoscaler = async {
        let shown = timeout(PATIENCE, cluster.autoscaler_shows()).await;
        at("burst_to_autoscaler_ms", shown.context("failed to see the autoscaler follow")?).await
    };
    let queued = async {
        let queued = work.submit(cluster.args.burst).await;
        println!("burst_queued_ms {}", began.elapsed().as_millis());
        queued
    };
    let (queued, metric, autoscaler) = tokio::join!(queued, metric, autoscaler);
    jobs.extend(queued?);
    metric.and(autoscaler)
}

/// The queue's side.
struct Work {
    queue: Queue,
    gateway: GatewayId,
}

/// The queue with the one more question that is asked here.
struct Queue(RedisQueue);

impl Queue {
    async fn observe_depth(&self) -> anyhow::Result<u64> {
        Ok(GatewayPort::depth(&self.0).await?.batch)
    }

    async fn cancel(&self, job: &JobId) -> anyhow::Result<()> {
        Ok(GatewayPort::cancel(&self.0, job).await?)
    }
}

impl Work {
    async fn connect(args: &Args) -> anyhow::Result<Self> {
        let config = RedisConfig {
            url: args.redis_url.clone(),
            deployment: format!("{}/{}", args.namespace, args.deployment),
            component: if args.component == "tts" { "tts" } else { "asr" },
            limits: QueueLimits::default(),
        };
        let queue = RedisQueue::connect(&config).await.context("failed to reach the deployment's Redis")?;
        Ok(Self { queue: Queue(queue), gateway: GatewayId::generate() })
    }

    async fn submit(&self, count: u64) -> anyhow::Result<Vec<JobId>> {
        let mut jobs = Vec::new();
        for _ in 0..count {
            let job = self.job();
            self.queue.0.submit(&job, Bytes::from_static(&[0; 3_200])).await?;
            jobs.push(job.id);
        }
        Ok(jobs)
    }

    fn job(&self) -> BatchJob {
        let options = RecognizeOptions {
            model: None,
            language: "en".to_owned(),
            lookahead: None,
            word_timestamps: false,
            endpointing_ms: 500,
        };
        BatchJob {
            version: CONTRACT_VERSION,
            id: JobId::generate(),
            gateway: self.gateway.clone(),
            options,
            samples: 1_600,
            accepted_at_ms: 0,
            deadline_ms: u64::MAX / 2,
            traceparent: None,
        }
    }
}

/// The cluster's side.
struct Cluster<'a> {
    client: Client,
    args: &'a Args,
}

impl Cluster<'_> {
    fn object(&self) -> String {
        format!("{}-{}", self.args.deployment, self.args.component)
    }

    async fn replicas(&self) -> anyhow::Result<i32> {
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), &self.args.namespace);
        let found = api.get(&self.object()).await.context("failed to find the component's Deployment")?;
        Ok(found.spec.and_then(|spec| spec.replicas).unwrap_or(1))
    }

    async fn awake(&self) -> anyhow::Result<()> {
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), &self.args.namespace);
        let only = watcher::Config::default().fields(&format!("metadata.name={}", self.object()));
        let mut seen = watcher(api, only).applied_objects().boxed();
        while let Some(deployment) = seen.next().await {
            if deployment?.spec.and_then(|spec| spec.replicas).unwrap_or(0) > 0 {
                return Ok(());
            }
        }
        bail!("failed to watch the Deployment")
    }

    async fn metric_shows(&self, expected: u64) -> anyhow::Result<()> {
        let Args { namespace, deployment, component, .. } = self.args;
        let path = format!(
            "/apis/external.metrics.k8s.io/v1beta1/namespaces/{namespace}/{}?labelSelector=deployment%3D{deployment}%2Ccomponent%3D{component}",
            Metric::Load.name()
        );
        let mut ask = tokio::time::interval(ASK_EVERY);
        loop {
            ask.tick().await;
            let request = http::Request::get(&path).body(Vec::new())?;
            let list: serde_json::Value = self.client.request(request).await?;
            let value = list["items"][0]["value"].as_str().unwrap_or_default();
            if value.parse::<u64>().is_ok_and(|value| value >= expected) {
                return Ok(());
            }
        }
    }

    /// Until the autoscaler's status speaks of a load, or it has asked for more replicas.
    async fn autoscaler_shows(&self) -> anyhow::Result<()> {
        let api: Api<HorizontalPodAutoscaler> = Api::namespaced(self.client.clone(), &self.args.namespace);
        let only = watcher::Config::default().fields(&format!("metadata.name={}", self.object()));
        let mut seen = watcher(api, only).applied_objects().boxed();
        let mut before = None;
        while let Some(autoscaler) = seen.next().await {
            let Some(status) = autoscaler?.status else { continue };
            let now = (status.current_metrics, status.desired_replicas);
            match &before {
                None => before = Some(now),
                Some(before) if *before != now => return Ok(()),
                Some(_) => {}
            }
        }
        bail!("failed to watch the autoscaler")
    }
}
