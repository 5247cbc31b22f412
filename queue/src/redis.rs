//! The queue in Redis: both ports on streams with consumer groups.
//!
//! Every key and its life is described in docs/queue.md; names are made in [`crate::keys`]. In order of travel:
//! `link` (time-outs, retries), `reads` (those that wait) and `node` (which server it is), `claims` (who gets which entry), `batch` and `sessions` (what is done with it), `inbox`
//! (messages to one reader), `registry` (heartbeats and depth), `observer` (those who only look), `scripts` (steps
//! that must be atomic).

mod batch;
mod claims;
mod inbox;
mod link;
mod node;
mod observer;
mod reads;
mod registry;
mod reply;
mod scripts;
mod sessions;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;

use self::claims::Line;
use self::inbox::{Outgoing, Positions};
use self::link::Link;
pub use self::link::{RedisFailure, Timeouts};
pub use self::observer::{ObserverConfig, RedisObserver};
use crate::ids::{GatewayId, JobId, SessionId, WorkerId};
use crate::job::{BatchJob, BatchReply};
use crate::keys::Keys;
use crate::port::{
    ClaimedJob, ClaimedSession, Depth, GatewayPort, GatewayRecord, Held, Lost, QueueError, QueueLimits,
    SessionEnd, WorkerPort, WorkerRecord,
};
use crate::session::{Segment, Session, SessionState, ToGateway, ToWorker};
use crate::verdict::{DeadLetter, GATEWAY_LEASES};

/// Where the queue is and whose it is.
#[derive(Clone)]
pub struct RedisConfig {
    /// `redis://[user:password@]host:port[/db]`, or `rediss://` for TLS.
    pub url: String,
    /// Certificate authorities to trust instead of the system's, as PEM; with `rediss://` only.
    pub root_certificates: Option<String>,
    /// The deployment, `namespace/name`; its keys touch no other's.
    pub deployment: String,
    /// `asr` or `tts`.
    pub component: &'static str,
    /// Bounds and leases.
    pub limits: QueueLimits,
}

/// The queue of one component of one deployment. Clones share its connections.
#[derive(Debug, Clone)]
pub struct RedisQueue {
    inner: Arc<Inner>,
    /// Keys of the other components with which gateways register.
    beside: Arc<[Keys]>,
}

#[derive(Debug)]
struct Inner {
    link: Link,
    keys: Keys,
    limits: QueueLimits,
    positions: Positions,
    /// When each worker last looked for lapsed claims.
    reclaimed: Mutex<HashMap<(Line, WorkerId), Instant>>,
    /// When each gateway last gave a sign of life by reading.
    signs: Mutex<HashMap<GatewayId, Instant>>,
}

impl RedisQueue {
    /// Connects, and sees that Redis answers and lets us in. Later outages heal by themselves.
    pub async fn connect(config: &RedisConfig) -> Result<Self, QueueError> {
        Self::connect_within(config, Timeouts::default()).await
    }

    /// Like [`RedisQueue::connect`], with other time-outs.
    pub async fn connect_within(config: &RedisConfig, timeouts: Timeouts) -> Result<Self, QueueError> {
        let invalid = |error| QueueError::Unavailable { action: "name its keys", source: Box::new(error) };
        let keys = Keys::new(&config.deployment, config.component).map_err(invalid)?;
        let link =
            Link::open((&config.url, config.root_certificates.as_deref()), keys.jobs(), timeouts).await?;
        let inner = Inner {
            link,
            keys,
            limits: config.limits.clone(),
            positions: Positions::default(),
            reclaimed: Mutex::default(),
            signs: Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner), beside: Arc::new([]) })
    }

    /// Registers gateways with these components of the deployment too: whoever works for one of them, or looks at it,
    /// sees everyone who may send it work.
    pub fn beside(self, deployment: &str, components: &[&str]) -> Result<Self, QueueError> {
        let invalid = |error| QueueError::Unavailable { action: "name its keys", source: Box::new(error) };
        let keys = components.iter().map(|component| Keys::new(deployment, component).map_err(invalid));
        Ok(Self { beside: keys.collect::<Result<_, _>>()?, ..self })
    }

    /// Keys of every component with which gateways register.
    fn registries(&self) -> impl Iterator<Item = &Keys> {
        std::iter::once(&self.inner.keys).chain(self.beside.iter())
    }

    /// The dead letters, oldest first.
    pub async fn dead_letters(&self) -> Result<Vec<DeadLetter>, QueueError> {
        self.read_dead_letters().await
    }

    fn lock_reclaimed(&self) -> MutexGuard<'_, HashMap<(Line, WorkerId), Instant>> {
        self.inner.reclaimed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reading is a sign of life, but not one to write down at every read.
    fn sign_is_due(&self, gateway: &GatewayId) -> bool {
        let now = Instant::now();
        let mut signs = self.inner.signs.lock().unwrap_or_else(PoisonError::into_inner);
        let due = signs.get(gateway).is_none_or(|last| now >= *last + self.inner.limits.lease);
        if due {
            signs.insert(gateway.clone(), now);
        }
        due
    }
}

#[async_trait]
impl GatewayPort for RedisQueue {
    async fn submit(&self, job: &BatchJob, audio: Bytes) -> Result<(), QueueError> {
        self.submit_job(job, audio).await
    }

    async fn cancel(&self, job: &JobId) -> Result<(), QueueError> {
        match self.cancel_job(job).await? {
            Some(worker) => self.send(&worker, &[ToWorker::CancelBatch { job: job.clone() }]).await,
            None => Ok(()),
        }
    }

    async fn open_session(&self, session: &Session) -> Result<(), QueueError> {
        self.open(session).await
    }

    async fn cancel_session(&self, session: &SessionId) -> Result<(), QueueError> {
        match self.drop_session(session).await? {
            Some((worker, epoch)) => {
                self.send(&worker, &[ToWorker::Cancel { session: session.clone(), epoch }]).await
            }
            None => Ok(()),
        }
    }

    async fn session(&self, session: &SessionId) -> Result<Option<SessionState>, QueueError> {
        Ok(self.stored(session).await?.map(|stored| stored.state))
    }

    async fn adopt_session(
        &self,
        session: &SessionId,
        gateway: &GatewayId,
    ) -> Result<Option<SessionState>, QueueError> {
        let Some((state, former_worker)) = self.adopt(session, gateway).await? else { return Ok(None) };
        if let Some(worker) = former_worker {
            let cancel = ToWorker::Cancel { session: session.clone(), epoch: state.epoch };
            self.send(&worker, &[cancel]).await?;
        }
        Ok(Some(state))
    }

    async fn send(&self, worker: &WorkerId, messages: &[ToWorker]) -> Result<(), QueueError> {
        let mut outgoing = Outgoing::default();
        let inbox = self.inner.keys.to_worker(worker);
        for message in messages {
            outgoing.add(inbox.clone(), message);
        }
        self.post("send to a worker", outgoing).await
    }

    async fn receive(&self, gateway: &GatewayId, wait: Duration) -> Result<Vec<ToGateway>, QueueError> {
        let deadline = Instant::now() + wait;
        let inbox = self.inner.keys.to_gateway(gateway);
        loop {
            if self.sign_is_due(gateway) {
                // An outage shows in the read below, which waits for its end.
                let _ = self.keep_gateway(gateway).await;
            }
            let until = deadline.min(Instant::now() + self.inner.limits.lease * (GATEWAY_LEASES - 1));
            let messages = self.read_inbox("receive a gateway's messages", &inbox, until).await?;
            if !messages.is_empty() || Instant::now() >= deadline {
                return Ok(messages);
            }
        }
    }

    async fn depth(&self) -> Result<Depth, QueueError> {
        self.read_depth().await
    }

    async fn workers(&self) -> Result<Vec<WorkerRecord>, QueueError> {
        self.list_workers().await
    }

    async fn heartbeat_gateway(&self, record: &GatewayRecord) -> Result<(), QueueError> {
        self.beat_gateway(record).await
    }
}

#[async_trait]
impl WorkerPort for RedisQueue {
    async fn claim_jobs(
        &self,
        worker: &WorkerId,
        max: usize,
        wait: Duration,
    ) -> Result<Vec<ClaimedJob>, QueueError> {
        self.claim_batch(worker, max, Instant::now() + wait).await
    }

    async fn audio(&self, job: &JobId) -> Result<Option<Bytes>, QueueError> {
        self.fetch_audio(job).await
    }

    async fn complete(
        &self,
        worker: &WorkerId,
        job: &ClaimedJob,
        reply: BatchReply,
    ) -> Result<(), QueueError> {
        self.answer((worker, &job.claim), &job.job, reply, None).await
    }

    async fn release_job(&self, worker: &WorkerId, job: &ClaimedJob) -> Result<(), QueueError> {
        self.release_batch(worker, job).await
    }

    async fn claim_sessions(
        &self,
        worker: &WorkerId,
        max: usize,
        wait: Duration,
    ) -> Result<Vec<ClaimedSession>, QueueError> {
        self.claim_live(worker, max, Instant::now() + wait).await
    }

    async fn receive(&self, worker: &WorkerId, wait: Duration) -> Result<Vec<ToWorker>, QueueError> {
        let inbox = self.inner.keys.to_worker(worker);
        self.read_inbox("receive a worker's messages", &inbox, Instant::now() + wait).await
    }

    async fn publish(&self, events: &[(GatewayId, ToGateway)]) -> Result<(), QueueError> {
        let mut outgoing = Outgoing::default();
        for (gateway, event) in events {
            outgoing.add(self.inner.keys.to_gateway(gateway), event);
        }
        self.post("publish events", outgoing).await
    }

    async fn commit(
        &self,
        worker: &WorkerId,
        session: &ClaimedSession,
        segment: &Segment,
    ) -> Result<(), QueueError> {
        self.commit_segment(worker, session, segment).await
    }

    async fn release_session(&self, worker: &WorkerId, session: &ClaimedSession) -> Result<(), QueueError> {
        self.release_live(worker, session).await
    }

    async fn end_session(
        &self,
        worker: &WorkerId,
        session: &ClaimedSession,
        end: SessionEnd,
    ) -> Result<(), QueueError> {
        self.end_live(worker, session, end).await
    }

    async fn heartbeat(&self, record: &WorkerRecord, held: &Held) -> Result<Lost, QueueError> {
        self.beat(record, held).await
    }

    async fn unregister(&self, worker: &WorkerId) -> Result<(), QueueError> {
        self.remove(worker).await
    }

    async fn gateway_alive(&self, gateway: &GatewayId) -> Result<bool, QueueError> {
        self.exists("look for a gateway", &self.inner.keys.gateway(gateway)).await
    }

    async fn depth(&self) -> Result<Depth, QueueError> {
        self.read_depth().await
    }
}

impl std::fmt::Debug for RedisConfig {
    /// Without the URL, which may hold a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("RedisConfig");
        shown.field("deployment", &self.deployment).field("component", &self.component);
        shown.field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// Now by this machine's clock, Unix milliseconds; deadlines and ages across machines lean on NTP.
fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}
