//! What the cases stand on: a queue of either kind, and short ways to make work.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use queue::ids::{GatewayId, JobId, SessionId, WorkerId};
use queue::job::{BatchJob, BatchReply, RecognizeOptions, Timing, Transcript, WorkErrorKind};
use queue::memory::MemoryQueue;
use queue::observe::ObserverPort;
use queue::port::{ClaimedJob, ClaimedSession, GatewayPort, Held, QueueLimits, WorkerPort, WorkerRecord};
use queue::redis::{ObserverConfig, RedisConfig, RedisObserver, RedisQueue, Timeouts};
use queue::session::{Epoch, FinalReason, Segment, Session, SessionEvent, ToGateway};
use queue::testing::{RedisCluster, RedisServer};
use queue::verdict::DeadLetter;

/// Long enough for anything that must come.
pub(crate) const SOON: Duration = Duration::from_secs(10);
/// How long one looks for something that must not come.
pub(crate) const NOTHING: Duration = Duration::from_millis(150);
/// Short, so that the death of a worker is seen quickly.
pub(crate) const LEASE: Duration = Duration::from_millis(500);

#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Memory,
    Redis,
    /// Through a node that redirects everything to another one.
    Cluster,
}

#[derive(Clone)]
enum Queue {
    Memory(MemoryQueue),
    Redis(RedisQueue),
}

/// A queue, seen from both sides.
pub(crate) struct Rig {
    pub(crate) gateway: Arc<dyn GatewayPort>,
    pub(crate) worker: Arc<dyn WorkerPort>,
    pub(crate) observer: Arc<dyn ObserverPort>,
    queue: Queue,
    /// Lives as long as the queue.
    _server: Server,
}

enum Server {
    None,
    One(#[expect(dead_code, reason = "held until it is dropped")] RedisServer),
    Cluster(#[expect(dead_code, reason = "held until it is dropped")] RedisCluster),
}

pub(crate) fn limits() -> QueueLimits {
    QueueLimits { lease: LEASE, ..QueueLimits::default() }
}

impl Rig {
    pub(crate) async fn new(kind: Kind) -> Self {
        Self::with(kind, limits()).await
    }

    pub(crate) async fn with(kind: Kind, limits: QueueLimits) -> Self {
        match kind {
            Kind::Memory => {
                let queue = MemoryQueue::new(limits);
                Self::over(Queue::Memory(queue.clone()), Arc::new(queue), Server::None)
            }
            Kind::Redis => {
                let server = RedisServer::start().unwrap();
                Self::at(&server.url(), limits, Server::One(server)).await
            }
            Kind::Cluster => {
                let cluster = RedisCluster::start().unwrap();
                Self::at(&cluster.url(), limits, Server::Cluster(cluster)).await
            }
        }
    }

    async fn at(url: &str, limits: QueueLimits, server: Server) -> Self {
        let queue = connect(url, "default/one", limits.clone()).await;
        let observer = observe(url, "default/one", limits).await;
        Self::over(Queue::Redis(queue), Arc::new(observer), server)
    }

    fn over(queue: Queue, observer: Arc<dyn ObserverPort>, server: Server) -> Self {
        let (gateway, worker): (Arc<dyn GatewayPort>, Arc<dyn WorkerPort>) = match &queue {
            Queue::Memory(q) => (Arc::new(q.clone()), Arc::new(q.clone())),
            Queue::Redis(q) => (Arc::new(q.clone()), Arc::new(q.clone())),
        };
        Self { gateway, worker, observer, queue, _server: server }
    }

    pub(crate) async fn dead_letters(&self) -> Vec<DeadLetter> {
        match &self.queue {
            Queue::Memory(q) => q.dead_letters().await.unwrap(),
            Queue::Redis(q) => q.dead_letters().await.unwrap(),
        }
    }

    pub(crate) async fn submit(&self, gateway: &GatewayId) -> BatchJob {
        let job = job(gateway);
        self.gateway.submit(&job, Bytes::from_static(b"sound")).await.unwrap();
        job
    }

    pub(crate) async fn open(&self, gateway: &GatewayId) -> Session {
        let session = session(gateway);
        self.gateway.open_session(&session).await.unwrap();
        session
    }

    pub(crate) async fn claim_job(&self, worker: &WorkerId) -> ClaimedJob {
        let mut claimed = self.worker.claim_jobs(worker, 1, SOON).await.unwrap();
        assert_eq!(claimed.len(), 1, "a job is claimed in time");
        claimed.remove(0)
    }

    pub(crate) async fn claim_session(&self, worker: &WorkerId) -> ClaimedSession {
        let mut claimed = self.worker.claim_sessions(worker, 1, SOON).await.unwrap();
        assert_eq!(claimed.len(), 1, "a session is claimed in time");
        claimed.remove(0)
    }

    pub(crate) async fn beat(&self, worker: &WorkerId, held: Held) -> queue::port::Lost {
        self.worker.heartbeat(&record(worker), &held).await.unwrap()
    }

    /// Messages of a gateway until `enough` of them are there.
    pub(crate) async fn messages(&self, gateway: &GatewayId, enough: usize) -> Vec<ToGateway> {
        let mut got = Vec::new();
        while got.len() < enough {
            let more = self.gateway.receive(gateway, SOON).await.unwrap();
            assert!(!more.is_empty(), "only {got:?} came");
            got.extend(more);
        }
        got
    }

    pub(crate) async fn reply(&self, gateway: &GatewayId) -> BatchReply {
        match self.messages(gateway, 1).await.remove(0) {
            ToGateway::Batch(reply) => reply,
            other @ ToGateway::Session { .. } => panic!("not a reply: {other:?}"),
        }
    }

    pub(crate) async fn event(&self, gateway: &GatewayId) -> (SessionId, Epoch, SessionEvent) {
        match self.messages(gateway, 1).await.remove(0) {
            ToGateway::Session { session, epoch, event } => (session, epoch, event),
            other @ ToGateway::Batch(_) => panic!("not an event: {other:?}"),
        }
    }

    /// The kind of error a job was answered with.
    pub(crate) async fn failure(&self, gateway: &GatewayId) -> (JobId, WorkErrorKind) {
        let reply = self.reply(gateway).await;
        (reply.job, reply.outcome.unwrap_err().kind)
    }
}

pub(crate) async fn connect(url: &str, deployment: &str, limits: QueueLimits) -> RedisQueue {
    RedisQueue::connect(&config(url, deployment, limits)).await.unwrap()
}

pub(crate) async fn observe(url: &str, deployment: &str, limits: QueueLimits) -> RedisObserver {
    let config = ObserverConfig {
        url: url.to_owned(),
        root_certificates: None,
        deployment: deployment.to_owned(),
        components: vec!["asr"],
        limits,
        timeouts: Timeouts::default(),
    };
    RedisObserver::connect(&config).await.unwrap()
}

pub(crate) fn config(url: &str, deployment: &str, limits: QueueLimits) -> RedisConfig {
    let (url, deployment) = (url.to_owned(), deployment.to_owned());
    RedisConfig { url, root_certificates: None, deployment, component: "asr", limits }
}

pub(crate) fn now_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    now.as_millis() as u64
}

fn options() -> RecognizeOptions {
    RecognizeOptions {
        model: None,
        language: "en".into(),
        lookahead: None,
        word_timestamps: false,
        endpointing_ms: 500,
    }
}

pub(crate) fn job(gateway: &GatewayId) -> BatchJob {
    BatchJob {
        version: queue::job::CONTRACT_VERSION,
        id: JobId::generate(),
        gateway: gateway.clone(),
        options: options(),
        samples: 2,
        accepted_at_ms: now_ms(),
        deadline_ms: now_ms() + 60_000,
        traceparent: None,
    }
}

pub(crate) fn session(gateway: &GatewayId) -> Session {
    Session {
        version: queue::job::CONTRACT_VERSION,
        id: SessionId::generate(),
        gateway: gateway.clone(),
        options: options(),
        accepted_at_ms: now_ms(),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
    }
}

pub(crate) fn record(worker: &WorkerId) -> WorkerRecord {
    WorkerRecord {
        model: "demo".into(),
        languages: vec!["en".into()],
        slots: 4,
        active_streams: 1,
        ..WorkerRecord::ready(worker.clone(), "asr")
    }
}

pub(crate) fn transcript(text: &str) -> Transcript {
    Transcript {
        text: text.into(),
        words: Vec::new(),
        model: "demo".into(),
        language: "en".into(),
        audio_ms: 1,
    }
}

pub(crate) fn success(job: &BatchJob, text: &str) -> BatchReply {
    BatchReply { job: job.id.clone(), outcome: Ok(transcript(text)), timing: Timing::default() }
}

pub(crate) fn segment(index: u32, text: &str, committed_samples: u64) -> Segment {
    Segment {
        index,
        text: text.into(),
        words: Vec::new(),
        start_ms: 0,
        end_ms: committed_samples / 16,
        committed_samples,
        reason: FinalReason::Endpoint,
        language: "en".into(),
    }
}

pub(crate) fn of_job(job: &ClaimedJob) -> Held {
    Held { jobs: vec![job.claim.clone()], sessions: Vec::new() }
}

pub(crate) fn of_session(session: &ClaimedSession) -> Held {
    Held { jobs: Vec::new(), sessions: vec![session.claim.clone()] }
}

/// Runs every case on all kinds of queue.
macro_rules! contract {
    ($($case:ident),* $(,)?) => {
        mod on_memory {
            $(#[tokio::test] async fn $case() { super::$case($crate::rig::Kind::Memory).await; })*
        }
        mod on_redis {
            $(#[tokio::test] async fn $case() { super::$case($crate::rig::Kind::Redis).await; })*
        }
        mod on_cluster {
            $(#[tokio::test] async fn $case() { super::$case($crate::rig::Kind::Cluster).await; })*
        }
    };
}
pub(crate) use contract;
