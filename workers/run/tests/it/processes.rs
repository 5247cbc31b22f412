//! Real processes over a real Redis: killed, terminated, cut off from the queue, without a model.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use queue::ids::GatewayId;
use queue::job::BatchJob;
use queue::port::{GatewayPort, QueueLimits, WorkerPhase, WorkerRecord};
use queue::redis::{RedisConfig, RedisQueue};
use queue::testing::{RedisServer, TlsRedis};
use workers_engine::fake::{silence, speak};

use crate::gateway::{Live, PATIENCE, answers, answers_within, job, options, pcm, recognize, unix_ms};
use crate::rig::sentence;

const LEASE_MS: u64 = 600;
const BIN: &str = env!("CARGO_BIN_EXE_smallest-worker");

async fn queue(server: &RedisServer) -> Arc<RedisQueue> {
    queue_of(server, "asr").await
}

async fn queue_of(server: &RedisServer, component: &'static str) -> Arc<RedisQueue> {
    let config = RedisConfig {
        url: server.url(),
        root_certificates: None,
        deployment: "default/test".into(),
        component,
        limits: QueueLimits { lease: Duration::from_millis(LEASE_MS), ..QueueLimits::default() },
    };
    Arc::new(RedisQueue::connect(&config).await.unwrap())
}

/// A worker program; killed when dropped.
struct Worker {
    child: Child,
    health: u16,
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Worker {
    fn start(server: &RedisServer, more: &[(&str, &str)]) -> Self {
        Self::start_as("asr", server, more)
    }

    fn start_as(component: &str, server: &RedisServer, more: &[(&str, &str)]) -> Self {
        let health = free_port();
        let child = Command::new(BIN)
            .arg(component)
            .env("REDIS_URL", server.url())
            .env("SMALLEST_DEPLOYMENT", "default/test")
            .env("LICENSE_PROXY_URL", "")
            .env("ENGINE", "fake")
            .env("PORT", health.to_string())
            .env("METRICS_PORT", "0")
            .env("QUEUE_LEASE_MS", LEASE_MS.to_string())
            .env("DRAIN_TIMEOUT_MS", "4000")
            .env("RUST_LOG", "warn")
            .envs(more.iter().copied())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, health }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    /// `kill -9`.
    fn murder(mut self) {
        self.signal(Signal::SIGKILL);
        self.child.wait().unwrap();
    }

    async fn ended(&mut self) -> ExitStatus {
        let wait = async {
            loop {
                if let Some(status) = self.child.try_wait().unwrap() {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("it ends in time")
    }

    /// Status line and body of `/health`.
    fn health(&self) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.health)).ok()?;
        stream.write_all(b"GET /health HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }

    async fn until_health(&self, says: &[&str]) -> String {
        let look = async {
            loop {
                if let Some(answer) = self.health().filter(|a| says.iter().all(|s| a.contains(s))) {
                    return answer;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let found = tokio::time::timeout(PATIENCE, look).await;
        found.unwrap_or_else(|_| panic!("health never says {says:?}: {:?}", self.health()))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

#[tokio::test]
async fn two_hours_travel_through_redis_and_are_heard_to_the_end() {
    // The longest recording that a gateway takes by default: parts of a MiB in a list of Redis, read by a worker that
    // keeps its claim alive meanwhile.
    const SAMPLES: usize = 2 * 3_600 * 16_000;
    let server = RedisServer::start().unwrap();
    let queue = queue(&server).await;
    let _worker = Worker::start(&server, &[("QUEUE_LEASE_MS", "5000")]);
    let (mut audio, last) = (pcm(&speak(&["first"])).to_vec(), pcm(&speak(&["last"])));
    audio.resize(2 * SAMPLES - last.len(), 0);
    audio.extend_from_slice(&last);
    let gateway = GatewayId::generate();
    let patience = PATIENCE * 5;
    let deadline_ms = unix_ms() + patience.as_millis() as u64;
    let job = BatchJob { deadline_ms, ..job(&gateway, SAMPLES) };
    queue.submit(&job, audio.into()).await.unwrap();
    let mut answers = answers_within(queue.as_ref(), &gateway, 1, patience).await;
    let transcript = answers.remove(0).outcome.unwrap();
    assert_eq!((transcript.text.as_str(), transcript.audio_ms), ("first last", 7_200_000));
    // Speech begins with 200 ms of silence.
    let start_ms = 7_200_000 - last.len() as u64 / 32 + 200;
    assert!(transcript.words[1].start_ms.abs_diff(start_ms) <= 40, "{:?}", transcript.words);
    assert_eq!(GatewayPort::depth(queue.as_ref()).await.unwrap().batch, 0);
}

#[tokio::test]
async fn a_worker_killed_in_mid_stream_is_replaced_and_the_text_is_the_same() {
    let server = RedisServer::start().unwrap();
    let queue = queue(&server).await;
    let first = Worker::start(&server, &[]);
    let mut live = Live::open(queue.clone(), options()).await;
    live.until("claimed", |l| l.worker.is_some()).await;
    let audio = sentence();
    // Into the second segment: one is committed, the next is half said.
    let cut = audio.len() - speak(&["are", "you"]).len();
    live.say(&audio[..cut]).await;
    live.until("the first segment and more", |l| l.segments.len() == 1 && l.processed() + 5_000 > cut as u64)
        .await;
    let former = live.worker.clone().unwrap();
    first.murder();
    live.say(&audio[cut..]).await;
    live.end().await;
    let _second = Worker::start(&server, &[]);
    live.until("the end", Live::closed).await;
    assert_eq!(live.text(), "good morning how are you");
    let now = live.worker.clone().unwrap();
    assert!(now.0 != former.0 && now.1 == former.1 + 1);
}

#[tokio::test]
async fn a_worker_killed_in_mid_batch_is_replaced_and_the_text_is_the_same() {
    let server = RedisServer::start().unwrap();
    let queue = queue(&server).await;
    // Many cheap chunks: the job outlasts the wait for its claim, and the warm-up, which measures steps of chunks as
    // dear as these, does not.
    let first = Worker::start(&server, &[("FAKE_CHUNK_COST_MS", "20")]);
    let gateway = GatewayId::generate();
    let mut audio = speak(&["before"]);
    audio.extend(silence(300_000));
    audio.extend(speak(&["after"]));
    queue.submit(&job(&gateway, audio.len()), pcm(&audio)).await.unwrap();
    let busy = async {
        while !queue.workers().await.unwrap().iter().any(|w| w.active_requests == 1) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, busy).await.unwrap();
    first.murder();
    let _second = Worker::start(&server, &[]);
    let reply = answers(queue.as_ref(), &gateway, 1).await.remove(0);
    assert_eq!(reply.outcome.unwrap().text, "before after");
}

#[tokio::test]
async fn a_redis_of_a_private_authority_is_worked_for_when_its_file_is_named() {
    let redis = TlsRedis::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.crt").display().to_string();
    let url = redis.url();
    let more = [("REDIS_URL", url.as_str()), ("REDIS_CA_FILE", file.as_str())];
    let mut early = Worker::start(redis.plain(), &more);
    assert!(!early.ended().await.success(), "there is no such file");
    std::fs::write(&file, redis.authority()).unwrap();
    let _worker = Worker::start(redis.plain(), &more);
    let queue = queue(redis.plain()).await;
    let registered = async {
        while !queue.workers().await.unwrap().iter().any(|worker| worker.phase == WorkerPhase::Ready) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, registered).await.expect("it is there over TLS");
}

#[tokio::test]
async fn on_sigterm_a_session_is_handed_over_and_the_exit_code_is_0() {
    let server = RedisServer::start().unwrap();
    let queue = queue(&server).await;
    let mut first = Worker::start(&server, &[("DRAIN_TIMEOUT_MS", "2500")]);
    let mut live = Live::open(queue.clone(), options()).await;
    live.until("claimed", |l| l.worker.is_some()).await;
    let audio = sentence();
    live.say(&audio[..30_000]).await;
    live.until("some is decoded", |l| l.processed() > 20_000).await;
    first.signal(Signal::SIGTERM);
    first.until_health(&["503", "draining"]).await;
    let _second = Worker::start(&server, &[]);
    live.until("handed over", |l| l.worker.as_ref().is_some_and(|(_, epoch)| *epoch == 2)).await;
    live.say(&audio[30_000..]).await;
    live.end().await;
    live.until("the end", Live::closed).await;
    assert_eq!(live.text(), "good morning how are you");
    assert_eq!(first.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_queue_that_is_away_for_a_while_needs_no_restart() {
    let mut server = RedisServer::start().unwrap();
    let port = queue(&server).await;
    let worker = Worker::start(&server, &[]);
    assert_eq!(recognize(port.as_ref(), &speak(&["one"]), options()).await.outcome.unwrap().text, "one");
    server.stop();
    worker.until_health(&["200", "\"queue\":\"away\""]).await;
    server.start_again().unwrap();
    worker.until_health(&["200", "\"queue\":\"connected\""]).await;
    let port = queue(&server).await;
    assert_eq!(recognize(port.as_ref(), &speak(&["two"]), options()).await.outcome.unwrap().text, "two");
    let mut live = Live::open(port, options()).await;
    live.say(&sentence()).await;
    live.end().await;
    live.until("the end", Live::closed).await;
    assert_eq!(live.text(), "good morning how are you");
}

#[tokio::test]
async fn without_its_model_a_worker_stays_up_and_says_which_file() {
    let server = RedisServer::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.json"), "{}").unwrap();
    let url = format!("file://{}", folder.path().display());
    let mut worker = Worker::start(
        &server,
        &[
            ("ENGINE", "torch"),
            ("MODEL_URL", &url),
            ("LICENSE_PROXY_URL", "http://127.0.0.1:9"),
            ("POD_NAME", "quickstart-asr-0"),
        ],
    );
    let answer = worker.until_health(&["503", "unhealthy", "model.safetensors"]).await;
    assert!(answer.contains("put the model's"), "{answer}");
    let queue = queue(&server).await;
    let record = registered(&queue, |record| record.phase == WorkerPhase::Failed).await;
    assert!(record.message.as_ref().is_some_and(|why| why.contains("model.safetensors")), "{record:?}");
    assert_eq!((record.pod.as_deref(), record.takes_work()), (Some("quickstart-asr-0"), false));
    assert_eq!(record.license.map(|license| license.state).as_deref(), Some("Unknown"));
    worker.signal(Signal::SIGTERM);
    assert_eq!(worker.ended().await.code(), Some(0));
    assert_eq!(queue.workers().await.unwrap(), [], "it takes its registration along");
}

/// Waits until a worker is registered as it should be.
async fn registered(queue: &RedisQueue, right: impl Fn(&WorkerRecord) -> bool) -> WorkerRecord {
    let look = async {
        loop {
            if let Some(record) = queue.workers().await.unwrap().into_iter().find(|record| right(record)) {
                return record;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, look).await.expect("the worker registers")
}

#[tokio::test]
async fn the_fake_engine_serves_the_queue_of_speech_synthesis() {
    let server = RedisServer::start().unwrap();
    let sum = format!("sha256:{}", "ab".repeat(32));
    let _worker = Worker::start_as("tts", &server, &[("MODEL_NAME", "fake-tts"), ("MODEL_CHECKSUM", &sum)]);
    let tts = queue_of(&server, "tts").await;
    let record = registered(&tts, WorkerRecord::takes_work).await;
    assert_eq!((record.component.as_str(), record.model.as_str()), ("tts", "fake-tts"));
    assert_eq!(record.model_sha256, Some("ab".repeat(32)));
    assert!(record.slots > 0 && record.batch_slots > 0, "{record:?}");
    let reply = recognize(tts.as_ref(), &speak(&["one"]), options()).await;
    assert_eq!(reply.outcome.unwrap().text, "one");
    assert_eq!(queue(&server).await.workers().await.unwrap(), [], "it is no worker of asr");
}

#[tokio::test]
async fn speech_synthesis_with_a_model_is_not_in_this_version() {
    let server = RedisServer::start().unwrap();
    let mut worker = Worker::start_as("tts", &server, &[("ENGINE", "torch")]);
    assert_eq!(worker.ended().await.code(), Some(4));
}

#[tokio::test]
async fn a_busy_port_is_named() {
    let server = RedisServer::start().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let output = Command::new(BIN)
        .arg("asr")
        .env("REDIS_URL", server.url())
        .env("ENGINE", "fake")
        .env("LICENSE_PROXY_URL", "")
        .env("PORT", &port)
        .env("METRICS_PORT", "0")
        .output()
        .unwrap();
    let says = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && says.contains(&port) && says.contains("PORT"), "{says}");
}
