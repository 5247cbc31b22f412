//! A worker in this process over the memory queue.

use std::sync::Arc;
use std::time::Duration;

use queue::ids::WorkerId;
use queue::memory::MemoryQueue;
use queue::port::{GatewayPort, QueueLimits, WorkerPort};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use workers_batch::Limits;
use workers_engine::fake::{FakeConfig, FakeEngine, silence, speak};
use workers_run::queue_health::QueueHealth;
use workers_run::sessions::Patience;
use workers_run::{Gate, Meter, Parts, WorkerConfig, WorkerError};

pub(crate) struct NoMeter;

impl Meter for NoMeter {
    fn audio_ms(&self, _: u64) {}
    fn requests(&self, _: u64) {}
}

/// Two utterances with a pause between them.
pub(crate) fn sentence() -> Vec<i16> {
    let mut audio = speak(&["good", "morning"]);
    audio.extend(silence(900));
    audio.extend(speak(&["how", "are", "you"]));
    audio
}

pub(crate) fn limits() -> QueueLimits {
    QueueLimits { lease: Duration::from_millis(400), ..QueueLimits::default() }
}

pub(crate) fn config() -> WorkerConfig {
    WorkerConfig {
        id: WorkerId::generate(),
        component: "asr",
        limits: Limits { streams: 4, jobs: 2, ..Limits::default() },
        job_chunks: 4,
        job_samples: 16_000 * 600,
        lease: limits().lease,
        patience: Patience {
            idle: Duration::from_mins(1),
            probe: Duration::from_secs(1),
            quiet: Duration::from_secs(1),
        },
        drain_timeout: Duration::from_secs(4),
    }
}

pub(crate) struct Rig {
    pub(crate) queue: MemoryQueue,
    pub(crate) gate: watch::Sender<Gate>,
    pub(crate) id: WorkerId,
    pub(crate) stop: CancellationToken,
    pub(crate) worker: JoinHandle<Result<(), WorkerError>>,
}

impl Rig {
    pub(crate) fn start() -> Self {
        Self::behind(Gate::Open)
    }

    pub(crate) fn behind(gate: Gate) -> Self {
        Self::all(MemoryQueue::new(limits()), FakeConfig::default(), config(), gate)
    }

    pub(crate) fn with(queue: MemoryQueue, fake: FakeConfig, config: WorkerConfig) -> Self {
        Self::all(queue, fake, config, Gate::Open)
    }

    fn all(queue: MemoryQueue, fake: FakeConfig, config: WorkerConfig, gate: Gate) -> Self {
        let (gate, gate_out) = watch::channel(gate);
        let stop = CancellationToken::new();
        let id = config.id.clone();
        let port: Arc<dyn WorkerPort> = Arc::new(queue.clone());
        let parts = Parts {
            port,
            engine: Box::new(FakeEngine::new(fake)),
            gate: gate_out,
            meter: Arc::new(NoMeter),
            health: QueueHealth::default(),
            about: workers_run::About {
                pod: Some("quickstart-asr-0".to_owned()),
                model_sha256: Some("ab".repeat(32)),
                license: None,
            },
        };
        let worker = tokio::spawn(workers_run::run(parts, config, stop.clone()));
        Self { queue, gate, id, stop, worker }
    }

    pub(crate) fn port(&self) -> Arc<dyn GatewayPort> {
        Arc::new(self.queue.clone())
    }

    /// What the worker says of itself, once a condition holds for it.
    pub(crate) async fn until(&self, what: &str, done: impl Fn(&queue::port::WorkerRecord) -> bool) {
        let look = async {
            loop {
                let records = GatewayPort::workers(&self.queue).await.unwrap();
                if records.iter().any(|r| r.id == self.id && done(r)) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(crate::gateway::PATIENCE, look).await.expect(what);
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.ended().await.unwrap();
    }

    /// How the worker ended.
    pub(crate) async fn ended(self) -> Result<(), WorkerError> {
        tokio::time::timeout(crate::gateway::PATIENCE, self.worker).await.expect("it ends in time").unwrap()
    }
}
