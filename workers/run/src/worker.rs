//! A worker at work: the loops between queue and engine, from ready to drained.
//!
//! Journey: `config → load → warm up → ready → [work] → drain`. In: a queue, a warmed-up engine, a gate that says
//! whether new work may be taken, and a token that asks to stop. Out: nothing, or why the engine died.
//! Must not know: where the model came from, command lines.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use queue::ids::WorkerId;
use queue::port::{Served, WorkerPort};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use workers_batch::{Limits, Occupant};
use workers_engine::{Engine, EngineInfo};

use crate::engine_thread::{self, EngineExit, EngineHandle, EngineThread};
use crate::jobs::Jobs;
use crate::queue_health::QueueHealth;
use crate::register::About;
use crate::sessions::{Patience, Sessions};
use crate::{beat, drain, inbox, pull, reply};

/// Whether new work may be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gate {
    /// It may.
    Open,
    /// The license says no, or nothing yet: what runs goes on, nothing new is claimed.
    Closed {
        /// Why, for logs.
        reason: String,
    },
}

/// How a worker works.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// Its name.
    pub id: WorkerId,
    /// What it serves: `asr` or `tts`.
    pub component: &'static str,
    /// Bounds of the batcher; `streams` and `jobs` are the slots.
    pub limits: Limits,
    /// Chunks that a batch job advances in one step.
    pub job_chunks: usize,
    /// Samples of all claimed batch jobs; one job may exceed it alone.
    pub job_samples: u64,
    /// The queue's lease.
    pub lease: Duration,
    /// When a session counts as abandoned.
    pub patience: Patience,
    /// Longest drain.
    pub drain_timeout: Duration,
}

/// Counts what was recognized, for the license.
pub trait Meter: Send + Sync {
    /// So much audio was recognized.
    fn audio_ms(&self, ms: u64);
    /// So many requests were answered.
    fn requests(&self, count: u64);
}

/// What all loops share.
pub(crate) struct Shared {
    pub(crate) port: Arc<dyn WorkerPort>,
    pub(crate) config: WorkerConfig,
    pub(crate) engine: EngineHandle,
    pub(crate) info: EngineInfo,
    pub(crate) served: Served,
    pub(crate) meter: Arc<dyn Meter>,
    pub(crate) gate: watch::Receiver<Gate>,
    pub(crate) health: QueueHealth,
    pub(crate) about: About,
    /// Permits for sessions and jobs.
    pub(crate) stream_permits: Arc<Semaphore>,
    pub(crate) job_permits: Arc<Semaphore>,
    /// No new work.
    pub(crate) draining: CancellationToken,
    /// No work at all.
    pub(crate) stopped: CancellationToken,
    /// Told when work ended.
    pub(crate) less: Notify,
    sessions: Mutex<Sessions>,
    jobs: Mutex<Jobs>,
}

impl Shared {
    pub(crate) fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn jobs(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn id(&self) -> &WorkerId {
        &self.config.id
    }

    /// Forgets a session and frees its slot.
    pub(crate) fn drop_session(&self, occupant: Occupant) -> Option<crate::sessions::Entry> {
        let entry = self.sessions().remove(occupant);
        self.engine.close(occupant);
        self.tell_less();
        entry
    }

    /// Forgets a job and frees its slot.
    pub(crate) fn drop_job(&self, occupant: Occupant) -> Option<crate::jobs::JobEntry> {
        let entry = self.jobs().remove(occupant);
        self.engine.close(occupant);
        self.tell_less();
        entry
    }

    /// Shows how much is left, and wakes who waits for less.
    pub(crate) fn tell_less(&self) {
        self.show_active();
        self.less.notify_waiters();
    }

    pub(crate) fn show_active(&self) {
        let (sessions, jobs) = (self.sessions().len(), self.jobs().len());
        crate::metrics::active(sessions, jobs);
    }

    pub(crate) fn idle(&self) -> bool {
        self.sessions().is_empty() && self.jobs().is_empty()
    }
}

/// Why a worker ended other than by being asked to.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The engine's thread could not be started.
    #[error("failed to start the engine thread")]
    StartThread(#[source] std::io::Error),
    /// The device failed for good.
    #[error("failed to go on: the device will not recover in this process: {detail}")]
    Engine {
        /// The library's message.
        detail: String,
    },
}

impl WorkerError {
    /// A stable word for metrics and logs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::StartThread(_) => "StartThread",
            Self::Engine { .. } => "Engine",
        }
    }
}

/// What a worker stands between.
pub struct Parts {
    /// The queue.
    pub port: Arc<dyn WorkerPort>,
    /// The engine, warmed up.
    pub engine: Box<dyn Engine>,
    /// Whether new work may be taken.
    pub gate: watch::Receiver<Gate>,
    /// Who counts.
    pub meter: Arc<dyn Meter>,
    /// Told whether the queue can be reached.
    pub health: QueueHealth,
    /// What its registration says.
    pub about: About,
}

/// Works until `stop` is cancelled and everything is drained, or until the engine dies.
pub async fn run(parts: Parts, config: WorkerConfig, stop: CancellationToken) -> Result<(), WorkerError> {
    let info = parts.engine.info().clone();
    let EngineThread { handle, ticks, mut exit } =
        engine_thread::start(parts.engine, config.limits.clone()).map_err(WorkerError::StartThread)?;
    let served = Served {
        model: info.model.clone(),
        languages: info.languages.clone(),
        lookaheads: info.lookaheads.iter().map(|l| *l as u32).collect(),
    };
    let shared = Arc::new(Shared {
        port: parts.port,
        stream_permits: Arc::new(Semaphore::new(config.limits.streams)),
        job_permits: Arc::new(Semaphore::new(config.limits.jobs)),
        config,
        engine: handle,
        info,
        served,
        meter: parts.meter,
        gate: parts.gate,
        health: parts.health,
        about: parts.about,
        draining: CancellationToken::new(),
        stopped: CancellationToken::new(),
        less: Notify::new(),
        sessions: Mutex::new(Sessions::default()),
        jobs: Mutex::new(Jobs::default()),
    });
    // The first heartbeat registers the worker before it claims anything.
    beat::once(&shared).await;
    let mut pullers = JoinSet::new();
    pullers.spawn(pull::sessions(shared.clone()));
    pullers.spawn(pull::jobs(shared.clone()));
    let mut carriers = JoinSet::new();
    carriers.spawn(inbox::read(shared.clone()));
    carriers.spawn(reply::carry(shared.clone(), ticks));
    carriers.spawn(beat::keep(shared.clone()));
    let ended = tokio::select! {
        () = stop.cancelled() => None,
        exit = &mut exit => Some(exit.unwrap_or(EngineExit::Fatal {
            detail: "the engine thread panicked; its message is above".to_owned(),
            suspects: Vec::new(),
        })),
    };
    let result = match ended {
        None => drain::drain(&shared, &mut pullers, exit).await,
        Some(EngineExit::Stopped) => Ok(()),
        Some(EngineExit::Fatal { detail, suspects }) => {
            drain::abandon(&shared, &mut pullers, &suspects).await;
            Err(WorkerError::Engine { detail })
        }
    };
    shared.stopped.cancel();
    carriers.join_all().await;
    result
}
