//! Clients that do not read, long silence, no worker, and a queue that goes away and comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use queue::ids::{GatewayId, JobId, SessionId, WorkerId};
use queue::job::BatchJob;
use queue::memory::MemoryQueue;
use queue::observe::ObserverPort as _;
use queue::port::{Depth, GatewayPort, GatewayRecord, QueueError, WorkerRecord};
use queue::session::{Session, SessionState, ToGateway, ToWorker};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;

use crate::audio::{pcm, wav_of};
use crate::harness::{Served, finals, limits, serve, serve_on, until};
use crate::worker::{Knobs, Worker};

const PATH: &str = "/api/v1/lightning/get_text";

#[tokio::test]
async fn a_client_that_never_reads_is_cut_off_and_others_do_not_notice() {
    let (served, queue) = serve(&["--max-unread-results", "64"]).await;
    let worker = Worker::start_with(&queue, Knobs { chatter: 60.into(), ..Knobs::default() });
    served.sees_worker().await;
    let mut deaf = served.socket(PATH).await;
    let mut other = served.socket(&format!("{PATH}?interim_results=false")).await;
    deaf.audio(&pcm("1234512345")).await;
    until("the cut", || worker.knobs.cancelled.load(Ordering::Relaxed) == 1).await;
    other.audio(&pcm("67")).await;
    other.say(r#"{"type":"close_stream"}"#).await;
    assert_eq!(finals(&other.rest().await.0), ["w6 w7"]);
    // When it reads after all, it is told why.
    let (frames, code) = deaf.rest().await;
    assert_eq!((&frames.last().unwrap()["reason"], code), (&json!("SlowClient"), Some(1008)));
    until("free places", || served.gateway.door.active() == (0, 0)).await;
}

/// Asks for pages over HTTP/1 and reads none of them.
async fn deaf(served: &Served) -> tokio::net::TcpStream {
    let mut stream = tokio::net::TcpStream::connect(served.address).await.unwrap();
    let asks = b"GET /metrics HTTP/1.1\r\nhost: here\r\n\r\n".repeat(5_000);
    // The gateway stops to read questions when nobody takes its answers.
    let asking = tokio::time::timeout(Duration::from_millis(500), stream.write_all(&asks));
    drop(asking.await);
    stream
}

#[tokio::test]
async fn a_client_that_takes_no_answers_does_not_keep_its_connection() {
    let (served, queue) = serve(&["--ping-interval-ms", "500", "--max-connections", "1"]).await;
    let _worker = Worker::start(&queue);
    let deaf = deaf(&served).await;
    // There is one place, and it is taken until the silent client is given up.
    let reply = served.post(PATH, "audio/wav", wav_of("1")).await;
    assert_eq!(reply.status, 200);
    drop(deaf);
}

#[tokio::test]
async fn a_full_ring_holds_the_client_back_until_the_worker_commits() {
    let (served, queue) = serve(&[]).await;
    let _worker = Worker::start_with(&queue, Knobs { no_endpoints: true.into(), ..Knobs::default() });
    let mut socket = served.socket(&format!("{PATH}?interim_results=false&endpointing=false")).await;
    // 72 s without a pause: more than the ring holds.
    let script = "12".repeat(120);
    socket.audio(&pcm(&script)).await;
    socket.say(r#"{"type":"close_stream"}"#).await;
    let (frames, code) = socket.rest().await;
    let heard = finals(&frames);
    assert_eq!((heard.join(" "), code), (["w1 w2"; 120].join(" "), Some(1000)));
    assert_eq!(heard.len(), 2, "one forced commit");
    assert!(frames.iter().all(|f| f["from_finalize"] == false), "the client did not ask for it");
}

#[tokio::test]
async fn tiny_chunks_are_joined_on_the_way() {
    let (served, queue) = serve(&[]).await;
    let worker = Worker::start(&queue);
    let mut socket = served.socket(PATH).await;
    for chunk in pcm("8").chunks(20) {
        socket.audio(chunk).await;
    }
    socket.say(r#"{"type":"close_stream"}"#).await;
    assert_eq!(finals(&socket.rest().await.0), ["w8"]);
    assert!(worker.knobs.longest.load(Ordering::Relaxed) >= 160, "10 ms at least, though 10 samples came");
}

#[tokio::test]
async fn a_session_no_worker_takes_ends_by_name() {
    let (served, _queue) = serve(&["--queue-timeout-ms", "100", "--worker-start-timeout-ms", "100"]).await;
    let mut socket = served.socket(PATH).await;
    socket.audio(&pcm("1")).await;
    let (frames, code) = socket.rest().await;
    assert_eq!((&frames.last().unwrap()["reason"], code), (&json!("QueueTimeout"), Some(1013)));
    until("the queue's end", || served.gateway.view.borrow().depth.sessions == 0).await;
}

#[tokio::test]
async fn a_session_waits_longer_while_the_first_worker_starts() {
    let (served, queue) = serve(&["--queue-timeout-ms", "100"]).await;
    assert!(served.gateway.not_ready().is_none(), "a gateway without workers is ready: work may wait");
    let mut socket = served.socket(PATH).await;
    socket.audio(&pcm("1")).await;
    until("a long wait", || served.gateway.view.borrow().depth.session_oldest_ms > 500).await;
    let _worker = Worker::start(&queue);
    socket.say(r#"{"type":"close_stream"}"#).await;
    assert_eq!(finals(&socket.rest().await.0), ["w1"]);
}

#[tokio::test]
async fn a_gateway_registers_what_it_does_and_how_its_license_stands() {
    let (served, queue) = serve(&["--pod-name", "quickstart-gateway-0"]).await;
    let _worker = Worker::start(&queue);
    let mut socket = served.socket(PATH).await;
    socket.audio(&pcm("1")).await;
    let seen = async {
        loop {
            let sight = queue.observe().await.unwrap();
            if let [gateway] = sight.components[0].gateways.as_slice()
                && gateway.active_streams == 1
            {
                return gateway.clone();
            }
            queue.changed(&sight.mark, Duration::from_secs(5)).await.unwrap();
        }
    };
    let record = tokio::time::timeout(Duration::from_secs(10), seen).await.unwrap();
    assert_eq!((record.id, record.pod.as_deref()), (served.gateway.id.clone(), Some("quickstart-gateway-0")));
    let license = record.license.unwrap();
    assert_eq!((license.state.as_str(), license.expires_at_ms), ("Valid", Some(2_000_000_000_000)));
}

#[tokio::test]
async fn a_client_that_says_nothing_ends_by_name() {
    let (served, queue) = serve(&["--idle-timeout-ms", "100"]).await;
    let _worker = Worker::start(&queue);
    let mut socket = served.socket(PATH).await;
    let (frames, code) = socket.rest().await;
    assert_eq!((&frames.last().unwrap()["reason"], code), (&json!("IdleTimeout"), Some(1008)));
}

#[tokio::test]
async fn a_half_open_socket_is_noticed() {
    let (served, queue) = serve(&["--ping-interval-ms", "50"]).await;
    let worker = Worker::start(&queue);
    // This client never polls its socket again, so it answers no ping.
    let mut socket = served.socket(PATH).await;
    socket.audio(&pcm("1")).await;
    until("the cut", || worker.knobs.cancelled.load(Ordering::Relaxed) == 1).await;
    drop(socket);
}

#[tokio::test]
async fn while_the_queue_is_away_errors_have_names_and_streams_pause() {
    let memory = MemoryQueue::new(limits());
    let flaky = Flaky { memory: memory.clone(), down: Arc::default() };
    let served = serve_on(Arc::new(flaky.clone()), &[], None).await;
    let _worker = Worker::start(&memory);
    served.sees_worker().await;
    let mut socket = served.socket(PATH).await;
    socket.audio(&pcm("12")).await;
    let mut frames = socket.frames_until(|f| f["transcript"] == "w1 w2").await;

    flaky.down.store(true, Ordering::Relaxed);
    until("not ready", || served.gateway.not_ready().is_some()).await;
    let reply = served.post(PATH, "audio/wav", wav_of("1")).await;
    assert_eq!((reply.status, reply.json()["reason"].as_str()), (503, Some("QueueUnavailable")));
    assert_eq!(reply.header("retry-after"), "5");
    assert_eq!(
        (served.get("/health/redis").await.status, served.get("/healthz").await.text.as_str()),
        (503, "false")
    );
    socket.audio(&pcm("3")).await;

    flaky.down.store(false, Ordering::Relaxed);
    socket.audio(&pcm("4")).await;
    socket.say(r#"{"type":"close_stream"}"#).await;
    frames.extend(socket.rest().await.0);
    assert_eq!(finals(&frames), ["w1 w2 w3 w4"]);
    until("ready again", || served.gateway.not_ready().is_none()).await;
    assert_eq!(served.post(PATH, "audio/wav", wav_of("1")).await.status, 200);
}

/// A queue that can be switched off.
#[derive(Clone)]
struct Flaky {
    memory: MemoryQueue,
    down: Arc<AtomicBool>,
}

impl Flaky {
    fn up(&self) -> Result<(), QueueError> {
        if self.down.load(Ordering::Relaxed) {
            return Err(QueueError::Unavailable { action: "test", source: "switched off".into() });
        }
        Ok(())
    }
}

#[async_trait]
impl GatewayPort for Flaky {
    async fn submit(&self, job: &BatchJob, audio: Bytes) -> Result<(), QueueError> {
        self.up()?;
        self.memory.submit(job, audio).await
    }
    async fn cancel(&self, job: &JobId) -> Result<(), QueueError> {
        self.up()?;
        self.memory.cancel(job).await
    }
    async fn open_session(&self, session: &Session) -> Result<(), QueueError> {
        self.up()?;
        self.memory.open_session(session).await
    }
    async fn cancel_session(&self, session: &SessionId) -> Result<(), QueueError> {
        self.up()?;
        self.memory.cancel_session(session).await
    }
    async fn session(&self, session: &SessionId) -> Result<Option<SessionState>, QueueError> {
        self.up()?;
        self.memory.session(session).await
    }
    async fn adopt_session(
        &self,
        session: &SessionId,
        gateway: &GatewayId,
    ) -> Result<Option<SessionState>, QueueError> {
        self.up()?;
        self.memory.adopt_session(session, gateway).await
    }
    async fn send(&self, worker: &WorkerId, messages: &[ToWorker]) -> Result<(), QueueError> {
        self.up()?;
        self.memory.send(worker, messages).await
    }
    async fn receive(&self, gateway: &GatewayId, wait: Duration) -> Result<Vec<ToGateway>, QueueError> {
        self.up()?;
        GatewayPort::receive(&self.memory, gateway, wait).await
    }
    async fn depth(&self) -> Result<Depth, QueueError> {
        self.up()?;
        GatewayPort::depth(&self.memory).await
    }
    async fn workers(&self) -> Result<Vec<WorkerRecord>, QueueError> {
        self.up()?;
        self.memory.workers().await
    }
    async fn heartbeat_gateway(&self, record: &GatewayRecord) -> Result<(), QueueError> {
        self.up()?;
        self.memory.heartbeat_gateway(record).await
    }
}
