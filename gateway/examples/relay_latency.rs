//! What gateway and Redis add to every chunk: client → gateway → Redis → worker → Redis → gateway → client, with
//! a worker that answers at once. All parts run on this machine, clients and Redis included.
//!
//! The same clients also talk straight to a WebSocket that answers at once, in turn with the other way: what that takes
//! is the clients, the machine and its scheduler, and what is above it was added. A chunk through gateway and Redis wakes
//! six threads in a row, so what the machine itself takes to wake one is measured too, while nothing else runs.
//!
//! `make bench-gateway`, or `tools/bench-gateway.sh --streams 100 --seconds 10 --repeats 3`.

#[path = "../../cli/src/bench/machine.rs"]
mod machine;
#[path = "../../queue/examples/queue-bench/report.rs"]
mod report;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Parser as _;
use futures::{SinkExt as _, StreamExt as _};
use gateway::Gateway;
use gateway::config::{Args, Config};
use license_proxy::LicenseGate;
use queue::ids::{SessionId, WorkerId};
use queue::job::Timing;
use queue::port::{ClaimedSession, Held, QueueLimits, SessionEnd, WorkerPort as _, WorkerRecord};
use queue::redis::{RedisConfig, RedisQueue};
use queue::session::{SessionEvent, ToGateway, ToWorker};
use queue::testing::RedisServer;
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;

use crate::report::Row;

/// Live streams of which the goal is promised.
const GOAL_STREAMS: usize = 100;
/// 99 of 100 chunks are delayed by less than this.
const GOAL_P99_MS: f64 = 1.0;
/// How long the machine alone is watched, and how often in that time.
const WATCHED: Duration = Duration::from_secs(3);
const WAKE_EVERY: Duration = Duration::from_millis(1);

#[derive(clap::Parser)]
struct Options {
    /// Live streams at once.
    #[arg(long, default_value_t = 100)]
    streams: usize,
    /// Milliseconds of audio in a chunk; one is sent every so often.
    #[arg(long, default_value_t = 160)]
    chunk_ms: u64,
    /// Length of every stream.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// How often each of the two ways is measured, in turn.
    #[arg(long, default_value_t = 3)]
    repeats: usize,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let machine = machine::facts();
    let late = tokio::task::spawn_blocking(late_wakes).await?;
    let server = RedisServer::start()?;
    let redis = RedisConfig {
        url: server.url(),
        root_certificates: None,
        deployment: "bench/relay".to_owned(),
        component: "asr",
        limits: QueueLimits::default(),
    };
    let queue = RedisQueue::connect(&redis).await?;
    let worker = tokio::spawn(echo(RedisQueue::connect(&redis).await?, options.streams));

    let config = Config::parse(&Args::parse_from(["smallest-gateway", "--port", "0"]), None)?;
    let gateway = Gateway::new(config, Arc::new(queue), Arc::new(LicenseGate::always_granted()))?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("ws://{}/api/v1/lightning/get_text?progress=true", listener.local_addr()?);
    let stop = CancellationToken::new();
    let serving = tokio::spawn(gateway.clone().serve(listener, stop.clone().cancelled_owned()));
    while gateway.view.borrow().workers.is_empty() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    let straight = TcpListener::bind("127.0.0.1:0").await?;
    let straight_url = format!("ws://{}/", straight.local_addr()?);
    let answering = tokio::spawn(answer_at_once(straight));
    let mut took = Took::default();
    for _ in 0..options.repeats {
        took.straight.extend(round(&options, &straight_url).await?);
        took.through.extend(round(&options, &url).await?);
    }
    report(&options, took, late, &machine)?;
    stop.cancel();
    serving.await?;
    worker.abort();
    answering.abort();
    Ok(())
}

/// How late threads wake that sleep until a moment, one on each core, on the resting machine.
#[expect(clippy::disallowed_methods, reason = "how long a sleep takes is what is measured")]
fn late_wakes() -> Vec<Duration> {
    let sleeper = || {
        let began = Instant::now();
        let moments = (1..).map(|n| began + WAKE_EVERY * n).take_while(|at| *at < began + WATCHED);
        let late = moments.map(|at| {
            std::thread::sleep(at.saturating_duration_since(Instant::now()));
            at.elapsed()
        });
        late.collect::<Vec<_>>()
    };
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let sleepers: Vec<_> = (0..cores).map(|_| std::thread::spawn(sleeper)).collect();
    sleepers.into_iter().filter_map(|sleeper| sleeper.join().ok()).flatten().collect()
}

/// From each chunk to the frame that covers it, of all rounds.
#[derive(Default)]
struct Took {
    /// Client → echo → client.
    straight: Vec<Duration>,
    /// Client → gateway → Redis → worker and back.
    through: Vec<Duration>,
}

/// All streams at once, their chunks spread evenly over time.
async fn round(options: &Options, url: &str) -> anyhow::Result<Vec<Duration>> {
    let spread = Duration::from_millis(options.chunk_ms) / options.streams as u32;
    let clients = (0..options.streams)
        .map(|i| tokio::spawn(client(url.to_owned(), spread * i as u32, options.chunk_ms, options.seconds)));
    let clients: Vec<_> = clients.collect();
    let mut took = Vec::new();
    for client in clients {
        took.extend(client.await.context("a client ended early")??);
    }
    Ok(took)
}

/// Answers `WebSocket` clients with how much audio they sent, at once, like the gateway's progress, and nothing else.
async fn answer_at_once(listener: TcpListener) -> anyhow::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            stream.set_nodelay(true)?;
            let mut socket = tokio_tungstenite::accept_async(stream).await?;
            let mut bytes = 0;
            while let Some(Ok(message)) = socket.next().await {
                if let Message::Binary(chunk) = message {
                    bytes += chunk.len();
                    let frame = serde_json::json!({ "processed_ms": bytes / 32 });
                    socket.send(Message::text(frame.to_string())).await?;
                }
            }
            anyhow::Ok(())
        });
    }
}

/// Prints the figures and appends them as rows to `target/bench/gateway.jsonl`.
fn report(
    options: &Options,
    mut took: Took,
    mut late: Vec<Duration>,
    machine: &serde_json::Value,
) -> std::io::Result<()> {
    late.sort_unstable();
    took.straight.sort_unstable();
    took.through.sort_unstable();
    let at = |took: &[Duration], share: f64| {
        let index = ((took.len() as f64 - 1.0) * share) as usize;
        took.get(index).map_or(f64::NAN, |d| d.as_secs_f64() * 1e3)
    };
    let case = format!("{} streams of {} ms chunks", options.streams, options.chunk_ms);
    // What is promised is promised of this many streams; more have no goal.
    let goal = (options.streams <= GOAL_STREAMS).then_some(GOAL_P99_MS);
    println!("client to client; {} chunks each way", took.through.len());
    report::head();
    let mut rows = Vec::new();
    for (through, straight, adds, share, goal) in [
        ("through both p50", "straight p50", "gateway and Redis add p50", 0.5, None),
        ("through both p90", "straight p90", "gateway and Redis add p90", 0.9, None),
        ("through both p99", "straight p99", "gateway and Redis add p99", 0.99, goal),
    ] {
        let ms = [at(&took.through, share), at(&took.straight, share)];
        rows.push(Row::latency(through, &case, ms[0], None));
        rows.push(Row::latency(straight, &case, ms[1], None));
        rows.push(Row::latency(adds, &case, ms[0] - ms[1], goal));
    }
    rows.push(Row::latency("through both max", &case, at(&took.through, 1.0), None));
    for (name, share) in [("a thread wakes late p50", 0.5), ("a thread wakes late p99", 0.99)] {
        rows.push(Row::latency(name, "the machine alone, sleeps of 1 ms", at(&late, share), None));
    }
    report::write("gateway.jsonl", &rows, machine)
}

/// Sends chunks in real time and measures from each to the frame that covers it.
async fn client(url: String, delay: Duration, chunk_ms: u64, seconds: u64) -> anyhow::Result<Vec<Duration>> {
    tokio::time::sleep(delay).await;
    let (socket, _) = tokio_tungstenite::connect_async(url).await?;
    if let tokio_tungstenite::MaybeTlsStream::Plain(stream) = socket.get_ref() {
        stream.set_nodelay(true)?;
    }
    let (mut sink, mut frames) = socket.split();
    let chunk = vec![0_u8; (chunk_ms * 32) as usize];
    let total = seconds * 1_000 / chunk_ms;
    let (sent, mut sends) = tokio::sync::mpsc::unbounded_channel();
    let sending = tokio::spawn(async move {
        let mut tick = tokio::time::interval(Duration::from_millis(chunk_ms));
        for n in 1..=total {
            tick.tick().await;
            sent.send((n * chunk_ms, Instant::now())).ok();
            sink.send(Message::Binary(chunk.clone().into())).await?;
        }
        anyhow::Ok(sink)
    });
    let (mut took, mut decoded_ms) = (Vec::new(), 0);
    while let Some((at_ms, since)) = sends.recv().await {
        // One frame may cover several chunks, as when they waited for the claim together.
        while decoded_ms < at_ms {
            let Some(Ok(message)) = frames.next().await else { anyhow::bail!("the stream ended early") };
            let Message::Text(text) = message else { continue };
            let frame: serde_json::Value = serde_json::from_str(text.as_str())?;
            decoded_ms = frame["processed_ms"].as_u64().unwrap_or(decoded_ms);
        }
        took.push(since.elapsed());
    }
    sending.await??.close().await?;
    // The first second holds the claim and the start of everything.
    Ok(took.split_off((1_000 / chunk_ms) as usize))
}

type Sessions = Arc<std::sync::Mutex<HashMap<SessionId, ClaimedSession>>>;

/// Claims sessions and answers every chunk at once.
async fn echo(queue: RedisQueue, slots: usize) {
    let id = WorkerId::generate();
    let record = WorkerRecord {
        model: "echo".to_owned(),
        languages: vec!["en".to_owned()],
        slots: slots as u32,
        ..WorkerRecord::ready(id.clone(), "asr")
    };
    let sessions: Sessions = Arc::default();
    let (claims, held, beat) = (queue.clone(), sessions.clone(), (queue.clone(), sessions.clone()));
    let claimer = id.clone();
    let lock = |s: &Sessions| s.lock().expect("nobody panics holding it").clone();
    let claiming = async move {
        loop {
            let new = claims.claim_sessions(&claimer, 64, Duration::from_secs(5)).await.unwrap_or_default();
            let new = new.into_iter().map(|c| (c.state.session.id.clone(), c));
            held.lock().expect("nobody panics holding it").extend(new);
        }
    };
    let beating = async move {
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        loop {
            tick.tick().await;
            let sessions = lock(&beat.1).into_values().map(|s| s.claim).collect();
            drop(beat.0.heartbeat(&record, &Held { jobs: Vec::new(), sessions }).await);
        }
    };
    let answering = async move {
        loop {
            let messages = queue.receive(&id, Duration::from_secs(5)).await.unwrap_or_default();
            let mut events = Vec::new();
            for message in messages {
                let known =
                    |s: &SessionId| sessions.lock().expect("nobody panics holding it").get(s).cloned();
                match message {
                    ToWorker::Audio { session, epoch, at_samples, pcm } => {
                        let Some(claim) = known(&session) else { continue };
                        let processed_samples = at_samples + pcm.len() as u64 / 2;
                        let timing = Timing::default();
                        let event = SessionEvent::Update { processed_samples, partial: None, timing };
                        events.push((
                            claim.state.session.gateway,
                            ToGateway::Session { session, epoch, event },
                        ));
                    }
                    ToWorker::End { session, .. } => {
                        let Some(claim) = known(&session) else { continue };
                        drop(queue.end_session(&id, &claim, SessionEnd::Closed { audio_ms: 0 }).await);
                    }
                    _ => {}
                }
            }
            if !events.is_empty() {
                drop(queue.publish(&events).await);
            }
        }
    };
    tokio::join!(claiming, beating, answering);
}
