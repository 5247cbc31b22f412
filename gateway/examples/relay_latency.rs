//! What gateway and Redis add to every chunk: client → gateway → Redis → worker → Redis → gateway → client, with
//! a worker that answers at once. All parts run on this machine, clients and Redis included.
//!
//! The same clients also talk straight to a WebSocket that answers at once, in turn with the other way: what that takes
//! is the clients, the machine and its scheduler, and what is above it was added. A chunk through gateway and Redis wakes
//! six threads in a row, so what the machine itself takes for that is measured too, in turn with the others while nothing
//! else runs; and what the host took of the processors meanwhile, which delays all of them.
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
use queue::ids::{GatewayId, SessionId, WorkerId};
use queue::job::Timing;
use queue::port::{ClaimedSession, Held, QueueLimits, SessionEnd, WorkerPort as _, WorkerRecord};
use queue::redis::{RedisConfig, RedisQueue};
use queue::session::{SessionEvent, ToGateway, ToWorker};
use queue::testing::RedisServer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_util::sync::CancellationToken;

use crate::report::Row;

/// Live streams of which the goal is promised.
const GOAL_STREAMS: usize = 100;
/// 99 of 100 chunks are delayed by less than this.
const GOAL_P99_MS: f64 = 1.0;
/// How long the machine alone is watched in each repetition, in each of the two ways, and how often in that time.
const WATCHED: Duration = Duration::from_secs(1);
const WAKE_EVERY: Duration = Duration::from_millis(1);
/// Threads that a chunk wakes: gateway, Redis, worker, Redis, gateway, client.
const WAKES: usize = 6;

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
    /// Spread the chunks evenly, so that no two come together, instead of as clients do, each in its own phase.
    #[arg(long)]
    even: bool,
}

impl Options {
    fn chunks(&self) -> u64 {
        self.seconds * 1_000 / self.chunk_ms
    }
}

type Socket = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<TcpStream>>;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let machine = machine::facts();
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
    let taken = stolen();
    for repeat in 0..options.repeats {
        took.late.extend(tokio::task::spawn_blocking(late_wakes).await?);
        took.handed_on.extend(tokio::task::spawn_blocking(hand_on).await?);
        took.straight.extend(round(&options, repeat, &straight_url).await?);
        took.through.extend(round(&options, repeat, &url).await?);
    }
    let (taken, of) = (stolen().0 - taken.0, stolen().1 - taken.1);
    took.stolen = taken as f64 / of.max(1) as f64 * 100.0;
    report(&options, took, &machine)?;
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

/// How long a token takes from thread to thread until it has woken as many as a chunk does, on the resting machine.
#[expect(clippy::disallowed_methods, reason = "the sleep gives the pace, as the clients have one")]
fn hand_on() -> Vec<Duration> {
    let (first, mut from) = std::sync::mpsc::channel::<Instant>();
    for _ in 1..WAKES {
        let (to, next) = std::sync::mpsc::channel();
        std::thread::spawn(move || from.iter().try_for_each(|token| to.send(token)));
        from = next;
    }
    let last = std::thread::spawn(move || from.iter().map(|sent| sent.elapsed()).collect());
    let began = Instant::now();
    while began.elapsed() < WATCHED {
        std::thread::sleep(WAKE_EVERY);
        first.send(Instant::now()).ok();
    }
    drop(first);
    last.join().unwrap_or_default()
}

/// What the host gave to others while this machine wanted to run, and all processor time, since the start; in ticks.
fn stolen() -> (u64, u64) {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let all: Vec<u64> =
        text.lines().next().unwrap_or_default().split_whitespace().filter_map(|n| n.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq, steal; what follows is counted in the first two.
    (all.get(7).copied().unwrap_or(0), all.iter().take(8).sum())
}

/// What was measured, of all rounds.
#[derive(Default)]
struct Took {
    /// Client → echo → client, from each chunk to the frame that covers it.
    straight: Vec<Duration>,
    /// Client → gateway → Redis → worker and back.
    through: Vec<Duration>,
    /// How late threads woke.
    late: Vec<Duration>,
    /// As many threads in a row.
    handed_on: Vec<Duration>,
    /// What the host took meanwhile, percent.
    stolen: f64,
}

/// All streams at once, each in a phase of its own as people have.
async fn round(options: &Options, repeat: usize, url: &str) -> anyhow::Result<Vec<Duration>> {
    let (mut clients, mut ticks) = (Vec::new(), Vec::new());
    for _ in 0..options.streams {
        let (tick, due) = mpsc::unbounded_channel();
        let (socket, _) = tokio_tungstenite::connect_async_with_config(url, Some(sockets()), false).await?;
        clients.push(tokio::spawn(client(socket, due, options.chunk_ms)));
        ticks.push(tick);
    }
    let (chunk, chunks) = (Duration::from_millis(options.chunk_ms), options.chunks());
    let phases = (0..options.streams).map(|stream| {
        if options.even { stream as f64 / options.streams as f64 } else { random(repeat << 32 | stream) }
    });
    let phases = phases.map(|share| chunk.mul_f64(share)).collect();
    std::thread::spawn(move || pace(phases, &ticks, chunk, chunks));
    let mut took = Vec::new();
    for client in clients {
        let all = client.await.context("a client ended early")??;
        // The first second holds the claim and the start of everything.
        took.extend(all.into_iter().skip((1_000 / options.chunk_ms) as usize));
    }
    Ok(took)
}

/// Looks random, between 0 and 1, and is the same for both ways (`SplitMix64`).
fn random(seed: usize) -> f64 {
    let mut z = (seed as u64).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (z ^ (z >> 31)) as f64 / u64::MAX as f64
}

/// Tells each client when its next chunk is due. A thread of its own, since the runtime's clock has a step of a
/// millisecond: it would bring chunks together that no clients of their own would send together.
#[expect(clippy::disallowed_methods, reason = "a thread that keeps the time, beside the runtime")]
fn pace(phases: Vec<Duration>, ticks: &[mpsc::UnboundedSender<()>], chunk: Duration, chunks: u64) {
    let mut order: Vec<_> = phases.into_iter().zip(ticks).collect();
    order.sort_by_key(|(phase, _)| *phase);
    let mut begins = Instant::now();
    for _ in 0..chunks {
        for (phase, tick) in &order {
            std::thread::sleep((begins + *phase).saturating_duration_since(Instant::now()));
            tick.send(()).ok();
        }
        begins += chunk;
    }
}

/// Reads by as much as the gateway: the library would zero 128 KiB before each read, for clients that share its cores.
fn sockets() -> WebSocketConfig {
    WebSocketConfig::default().read_buffer_size(16 << 10)
}

/// Answers `WebSocket` clients with how much audio they sent, at once, like the gateway's progress, and nothing else.
async fn answer_at_once(listener: TcpListener) -> anyhow::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            stream.set_nodelay(true)?;
            let mut socket = tokio_tungstenite::accept_async_with_config(stream, Some(sockets())).await?;
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
fn report(options: &Options, mut took: Took, machine: &serde_json::Value) -> std::io::Result<()> {
    for measured in [&mut took.late, &mut took.handed_on, &mut took.straight, &mut took.through] {
        measured.sort_unstable();
    }
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
        rows.push(Row::latency(name, "the machine alone, sleeps of 1 ms", at(&took.late, share), None));
    }
    for (name, share) in [("six wakes in a row p50", 0.5), ("six wakes in a row p99", 0.99)] {
        rows.push(Row::latency(name, "the machine alone", at(&took.handed_on, share), None));
    }
    rows.push(Row::new("the host took", "of the processors, meanwhile", took.stolen, "%", None));
    report::write("gateway.jsonl", &rows, machine)
}

/// Sends a chunk whenever one is due and measures from each to the frame that covers it.
async fn client(
    socket: Socket,
    mut due: mpsc::UnboundedReceiver<()>,
    chunk_ms: u64,
) -> anyhow::Result<Vec<Duration>> {
    if let tokio_tungstenite::MaybeTlsStream::Plain(stream) = socket.get_ref() {
        stream.set_nodelay(true)?;
    }
    let (mut sink, mut frames) = socket.split();
    let chunk = vec![0_u8; (chunk_ms * 32) as usize];
    let (sent, mut sends) = mpsc::unbounded_channel();
    let sending = tokio::spawn(async move {
        let mut at_ms = 0;
        while let Some(()) = due.recv().await {
            at_ms += chunk_ms;
            sent.send((at_ms, Instant::now())).ok();
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
    Ok(took)
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
    // As in the real worker, what reads the inbox does not wait for what answers.
    let (answers, mut ready) = mpsc::channel::<Vec<(GatewayId, ToGateway)>>(64);
    let publisher = queue.clone();
    let publishing = async move {
        while let Some(events) = ready.recv().await {
            drop(publisher.publish(&events).await);
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
                drop(answers.send(events).await);
            }
        }
    };
    tokio::join!(claiming, beating, answering, publishing);
}
