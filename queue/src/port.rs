//! The two sides of the contract as traits: what a gateway and what a worker may ask of the queue.
//!
//! Implemented by `memory` (tests, and proof of the contract) and `redis` (the real one); one test suite
//! runs against both. Blocking calls take the longest wait and return early as soon as something is there:
//! nobody polls.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::ids::{GatewayId, JobId, SessionId, WorkerId};
use crate::job::{BatchJob, BatchReply, RecognizeOptions, WorkError};
pub use crate::registry::{GatewayRecord, LicenseRecord, WorkerPhase, WorkerRecord};
use crate::session::{Epoch, Segment, Session, SessionState, ToGateway, ToWorker};

/// Bounds and leases; one value for a deployment, the same on both sides.
#[derive(Debug, Clone)]
pub struct QueueLimits {
    /// A claim whose worker has not sent a heartbeat for this long is taken by another worker.
    pub lease: Duration,
    /// Claims of one job (of one session since its last commit, orderly returns not counted), then it goes to
    /// the dead letters.
    pub max_attempts: u32,
    /// Waiting batch jobs, then [`QueueError::Full`].
    pub max_batch_depth: u64,
    /// Waiting sessions, then [`QueueError::Full`].
    pub max_session_depth: u64,
    /// Life of a batch job's audio and entry.
    pub batch_ttl: Duration,
    /// Life of a session's state after its last change.
    pub session_ttl: Duration,
    /// Entries kept in an inbox; older ones are trimmed (a worker then asks for a replay).
    pub inbox_entries: u64,
    /// Dead letters kept.
    pub dead_letters: u64,
}

impl Default for QueueLimits {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(5),
            max_attempts: 3,
            max_batch_depth: 1_000,
            max_session_depth: 1_000,
            batch_ttl: Duration::from_hours(1),
            session_ttl: Duration::from_mins(10),
            inbox_entries: 65_536,
            dead_letters: 1_000,
        }
    }
}

/// How much waits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Depth {
    /// Batch jobs no worker has claimed.
    pub batch: u64,
    /// Sessions no worker has claimed.
    pub sessions: u64,
    /// Age of the oldest unclaimed batch job, milliseconds; 0 when none waits.
    pub batch_oldest_ms: u64,
    /// Age of the oldest unclaimed session, milliseconds; 0 when none waits.
    pub session_oldest_ms: u64,
}

impl Depth {
    /// Something waits.
    pub fn any(&self) -> bool {
        self.batch + self.sessions > 0
    }
}

/// A batch job held by a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimedJob {
    /// The job.
    pub job: BatchJob,
    /// 1 on the first attempt.
    pub attempt: u32,
    /// Queue-internal name of the claim (a stream entry id).
    pub claim: String,
}

/// A session held by a worker.
#[derive(Debug, Clone, PartialEq)]
pub struct ClaimedSession {
    /// What is known of it, with the epoch of this claim.
    pub state: SessionState,
    /// Queue-internal name of the claim (a stream entry id).
    pub claim: String,
}

/// What a worker still holds; its heartbeat keeps these claims.
#[derive(Debug, Clone, Default)]
pub struct Held {
    /// Claims of batch jobs.
    pub jobs: Vec<String>,
    /// Claims of sessions.
    pub sessions: Vec<String>,
}

/// What a heartbeat found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lost {
    /// Claims of batch jobs that another worker took meanwhile: drop them without a reply.
    pub jobs: Vec<String>,
    /// Claims of sessions that another worker took meanwhile.
    pub sessions: Vec<String>,
}

/// The gateway's side.
#[async_trait]
pub trait GatewayPort: Send + Sync {
    /// Accepts a batch job with its audio (16-bit little-endian mono 16 kHz). Once this returns, the job is
    /// answered exactly once in the gateway's inbox, whatever happens to workers, as long as one lives to answer;
    /// the wait itself is the gateway's to end, at the deadline, with `cancel`. Safe to repeat. After
    /// [`QueueError::Unavailable`] the job may have been accepted: `cancel` it unless it is submitted again.
    async fn submit(&self, job: &BatchJob, audio: Bytes) -> Result<(), QueueError>;
    /// The caller is gone: drops the job where it is and frees its audio. No reply follows once it is dropped;
    /// one that is already on its way may still come.
    async fn cancel(&self, job: &JobId) -> Result<(), QueueError>;
    /// Queues a session; [`crate::session::SessionEvent::Claimed`] follows. Safe to repeat; cancel it after
    /// [`QueueError::Unavailable`], for it may have been queued.
    async fn open_session(&self, session: &Session) -> Result<(), QueueError>;
    /// Drops a session: its entry, its state; a worker that holds it gets a `Cancel`.
    async fn cancel_session(&self, session: &SessionId) -> Result<(), QueueError>;
    /// What is known of a session, if it still lives.
    async fn session(&self, session: &SessionId) -> Result<Option<SessionState>, QueueError>;
    /// Takes over a session whose gateway is gone (the client came back by id) and queues it again under the
    /// next epoch. The caller replays from `committed_samples`. `None` when it no longer lives. A former gateway
    /// that still lives gets `Failed` (`Cancelled`) and must forget the session without cancelling it.
    async fn adopt_session(
        &self,
        session: &SessionId,
        gateway: &GatewayId,
    ) -> Result<Option<SessionState>, QueueError>;
    /// Appends to a worker's inbox, in order; one round trip for all.
    async fn send(&self, worker: &WorkerId, messages: &[ToWorker]) -> Result<(), QueueError>;
    /// Next messages of this gateway's inbox, at least one unless the wait ran out; each is given once.
    async fn receive(&self, gateway: &GatewayId, wait: Duration) -> Result<Vec<ToGateway>, QueueError>;
    /// How much waits.
    async fn depth(&self) -> Result<Depth, QueueError>;
    /// Workers whose heartbeat is fresh, whatever their phase.
    async fn workers(&self) -> Result<Vec<WorkerRecord>, QueueError>;
    /// Renews this gateway's registration and keeps its inbox alive for some leases; a worker frees sessions of a
    /// gateway that is gone.
    async fn heartbeat_gateway(&self, record: &GatewayRecord) -> Result<(), QueueError>;
}

/// The worker's side.
#[async_trait]
pub trait WorkerPort: Send + Sync {
    /// Claims up to `max` batch jobs: first those of workers that died, then new ones. Jobs past their deadline
    /// or attempt cap are answered and buried here and never returned. A future that is dropped claims nothing,
    /// but for the moment between Redis's answer and its arrival, whose claims come back after the lease.
    async fn claim_jobs(
        &self,
        worker: &WorkerId,
        max: usize,
        wait: Duration,
    ) -> Result<Vec<ClaimedJob>, QueueError>;
    /// Audio of a claimed job; `None` when its TTL ran out.
    async fn audio(&self, job: &JobId) -> Result<Option<Bytes>, QueueError>;
    /// Answers a job and forgets it and its audio, in one transaction. Does nothing when the claim was lost.
    async fn complete(
        &self,
        worker: &WorkerId,
        job: &ClaimedJob,
        reply: BatchReply,
    ) -> Result<(), QueueError>;
    /// Gives a job back at once for another worker (drain, or an engine that must restart).
    async fn release_job(&self, worker: &WorkerId, job: &ClaimedJob) -> Result<(), QueueError>;
    /// Claims up to `max` sessions, abandoned ones first; raises their epoch, records the owner and sends
    /// `Claimed` to their gateways. Sessions whose gateway is gone are parked: out of the line, state kept.
    async fn claim_sessions(
        &self,
        worker: &WorkerId,
        max: usize,
        wait: Duration,
    ) -> Result<Vec<ClaimedSession>, QueueError>;
    /// Next messages of this worker's inbox, at least one unless the wait ran out; each is given once.
    async fn receive(&self, worker: &WorkerId, wait: Duration) -> Result<Vec<ToWorker>, QueueError>;
    /// Sends events to gateways, in order, in one round trip for all.
    async fn publish(&self, events: &[(GatewayId, ToGateway)]) -> Result<(), QueueError>;
    /// Commits a final segment: session state and the `Final` event in one transaction.
    /// [`QueueError::ClaimLost`] when another worker holds the session by now. Safe to repeat: the segment's index
    /// tells that it is committed already.
    async fn commit(
        &self,
        worker: &WorkerId,
        session: &ClaimedSession,
        segment: &Segment,
    ) -> Result<(), QueueError>;
    /// Gives a session back for another worker and sends `Released` (drain, gateway gone). It does not count as
    /// an attempt: work that broke the engine is ended as failed, or left to lapse with the lease, which counts.
    /// Does nothing when the claim was lost.
    async fn release_session(&self, worker: &WorkerId, session: &ClaimedSession) -> Result<(), QueueError>;
    /// Ends a session for good: forgets its claim and state and sends `Closed` or `Failed`. Does nothing when the
    /// claim was lost.
    async fn end_session(
        &self,
        worker: &WorkerId,
        session: &ClaimedSession,
        end: SessionEnd,
    ) -> Result<(), QueueError>;
    /// Renews registration and claims; tells which claims are lost.
    async fn heartbeat(&self, record: &WorkerRecord, held: &Held) -> Result<Lost, QueueError>;
    /// Removes the registration (after draining).
    async fn unregister(&self, worker: &WorkerId) -> Result<(), QueueError>;
    /// The gateway's heartbeat is fresh.
    async fn gateway_alive(&self, gateway: &GatewayId) -> Result<bool, QueueError>;
    /// How much waits.
    async fn depth(&self) -> Result<Depth, QueueError>;
}

/// How a session ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionEnd {
    /// All audio decoded.
    Closed {
        /// Duration of its audio in milliseconds.
        audio_ms: u64,
    },
    /// Failed for good.
    Failed(WorkError),
    /// The client cancelled: nothing is sent.
    Cancelled,
}

/// Why the queue could not do it.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The waiting line is at its limit: tell the client when to come back.
    #[error("failed to queue: {waiting} already wait, the limit is {limit}")]
    Full {
        /// Waiting now.
        waiting: u64,
        /// Limit.
        limit: u64,
    },
    /// Redis is away or refused.
    #[error("failed to reach the queue while trying to {action}")]
    Unavailable {
        /// What was tried, such as `submit a job`.
        action: &'static str,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Another worker holds the work by now.
    #[error("failed to keep the claim on {work}: another worker has it")]
    ClaimLost {
        /// The job or session.
        work: String,
    },
    /// An entry was not written by this contract.
    #[error("failed to read an entry of {key}: {detail}")]
    Decode {
        /// The key.
        key: String,
        /// What is wrong with it.
        detail: String,
    },
}

impl QueueError {
    /// A stable word for conditions, metrics and logs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Full { .. } => "QueueFull",
            Self::Unavailable { .. } => "QueueUnavailable",
            Self::ClaimLost { .. } => "ClaimLost",
            Self::Decode { .. } => "QueueDecode",
        }
    }
}

/// What a worker can serve; a claim of other work is answered with an error naming the input.
#[derive(Debug, Clone)]
pub struct Served {
    /// Model name.
    pub model: String,
    /// Languages.
    pub languages: Vec<String>,
    /// Look-aheads in encoder frames.
    pub lookaheads: Vec<u32>,
}

impl Served {
    /// Checks that options can be served; the error goes to the caller as it is.
    pub fn check(&self, options: &RecognizeOptions) -> Result<(), WorkError> {
        use crate::job::WorkErrorKind::{UnknownLanguage, UnknownModel, UnsupportedOption};
        let refuse = |kind, message| Err(WorkError { kind, message });
        if let Some(model) = options.model.as_ref().filter(|m| **m != self.model) {
            return refuse(
                UnknownModel,
                format!("model {model:?} is not served here; served: {:?}", self.model),
            );
        }
        if !self.languages.contains(&options.language) {
            return refuse(
                UnknownLanguage,
                format!(
                    "language {:?} is not supported by {}; supported: {}",
                    options.language,
                    self.model,
                    self.languages.join(", ")
                ),
            );
        }
        if let Some(lookahead) = options.lookahead.filter(|l| !self.lookaheads.contains(l)) {
            return refuse(
                UnsupportedOption,
                format!("lookahead {lookahead} is not one of {:?}", self.lookaheads),
            );
        }
        Ok(())
    }
}

/// The epoch of a claim, for messages.
impl ClaimedSession {
    /// The claim's epoch.
    pub fn epoch(&self) -> Epoch {
        self.state.epoch
    }
}
