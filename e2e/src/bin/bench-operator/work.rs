//! The queue's side: recordings that nobody waits for, put into a deployment's Redis and taken out again.

use std::time::Duration;

use anyhow::Context as _;
use queue::ids::{GatewayId, JobId};
use queue::job::{BatchJob, CONTRACT_VERSION, RecognizeOptions};
use queue::port::{GatewayPort as _, QueueLimits};
use queue::redis::{RedisConfig, RedisQueue};

/// Samples of a recording: a tenth of a second of silence.
const SAMPLES: u32 = 1_600;

/// Between two questions who works; nothing tells when the last one goes.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// Queued work.
pub(crate) struct Work {
    queue: RedisQueue,
    gateway: GatewayId,
}

impl Work {
    /// Connects to the Redis of a deployment, named `namespace/name`.
    pub(crate) async fn connect(url: &str, deployment: &str) -> anyhow::Result<Self> {
        let config = RedisConfig {
            url: url.to_owned(),
            root_certificates: None,
            deployment: deployment.to_owned(),
            component: "asr",
            limits: QueueLimits::default(),
        };
        let queue = RedisQueue::connect(&config).await.context("failed to reach the deployment's Redis")?;
        Ok(Self { queue, gateway: GatewayId::generate() })
    }

    /// Recordings that no worker has claimed.
    pub(crate) async fn waiting(&self) -> anyhow::Result<u64> {
        Ok(self.queue.depth().await?.batch)
    }

    /// Waits until no worker is registered: one that is on its way out may still take work, and nobody has to be woken.
    pub(crate) async fn alone(&self) -> anyhow::Result<()> {
        let mut ask = tokio::time::interval(ASK_EVERY);
        while !self.queue.workers().await?.is_empty() {
            ask.tick().await;
        }
        Ok(())
    }

    /// Queues so many recordings.
    pub(crate) async fn queue(&self, count: u64) -> anyhow::Result<Vec<JobId>> {
        let mut jobs = Vec::new();
        for _ in 0..count {
            let job = self.job();
            self.queue.submit(&job, vec![0_u8; SAMPLES as usize * 2].into()).await?;
            jobs.push(job.id);
        }
        Ok(jobs)
    }

    /// Takes them out again.
    pub(crate) async fn cancel(&self, jobs: &[JobId]) -> anyhow::Result<()> {
        for job in jobs {
            self.queue.cancel(job).await?;
        }
        Ok(())
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
            samples: SAMPLES.into(),
            accepted_at_ms: 0,
            deadline_ms: u64::MAX / 2,
            traceparent: None,
        }
    }
}
