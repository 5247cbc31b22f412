//! What gateway and Redis add to every chunk: client → gateway → Redis → worker → Redis → gateway → client, with
//! a worker that answers at once. All parts run on this machine, clients and Redis included, each in a runtime of its own
//! as the programs have.
//!
//! The same clients also talk straight to a WebSocket that answers at once, in turn with the other way: what that takes
//! is the clients, the machine and its scheduler, and what is above it was added. A chunk through gateway and Redis wakes
//! six threads in a row. So a [`chain`] of six bare threads takes the same chunks at the same moments too, in turn with
//! the others: once with nothing to do, and once busy for as long as all parts together were for a chunk. Nothing that
//! takes as much processor time in a row is faster on this machine. What the host took of the processors meanwhile
//! delays all of them.
//!
//! `make bench-gateway`, or `tools/bench-gateway.sh --streams 100 --seconds 10 --repeats 3`.

mod chain;
mod clients;
#[path = "../../../cli/src/bench/machine.rs"]
mod machine;
#[path = "../../../queue/examples/queue-bench/report.rs"]
mod report;
mod used;
mod worker;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser as _;
use gateway::Gateway;
use gateway::config::{Args, Config};
use license_proxy::LicenseGate;
use queue::port::QueueLimits;
use queue::redis::{RedisConfig, RedisQueue};
use queue::testing::RedisServer;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};

use crate::report::Row;
use crate::used::Used;

/// Live streams of which the goal is promised.
const GOAL_STREAMS: usize = 100;
/// 99 of 100 chunks are delayed by less than this.
const GOAL_P99_MS: f64 = 1.0;

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
    /// How often each of the ways is measured, in turn.
    #[arg(long, default_value_t = 3)]
    repeats: usize,
    /// Spread the chunks evenly, so that no two come together, instead of as clients do, each in its own phase.
    #[arg(long)]
    even: bool,
}

impl Options {
    /// When which stream sends a chunk, in order: all at once, each in a phase of its own as people have.
    fn moments(&self, repeat: usize) -> Vec<(Duration, usize)> {
        let chunk = Duration::from_millis(self.chunk_ms);
        let phase = |stream: usize| {
            let share =
                if self.even { stream as f64 / self.streams as f64 } else { random(repeat << 32 | stream) };
            (chunk.mul_f64(share), stream)
        };
        let mut phases: Vec<_> = (0..self.streams).map(phase).collect();
        phases.sort_unstable();
        let chunks = self.seconds * 1_000 / self.chunk_ms;
        let begins = (0..chunks as u32).map(|n| chunk * n);
        begins.flat_map(|begin| phases.iter().map(move |(phase, stream)| (begin + *phase, *stream))).collect()
    }
}

/// Looks random, between 0 and 1, and is the same for all ways (`SplitMix64`).
fn random(seed: usize) -> f64 {
    let mut z = (seed as u64).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (z ^ (z >> 31)) as f64 / u64::MAX as f64
}

/// What was measured, of all rounds.
#[derive(Default)]
struct Took {
    /// Client → echo → client, from each chunk to the frame that covers it.
    straight: Vec<Duration>,
    /// Client → gateway → Redis → worker and back.
    through: Vec<Duration>,
    /// Through six threads that have nothing to do.
    bare: Vec<Duration>,
    /// Through six threads that are busy for as long as everything together is for a chunk.
    busy: Vec<Duration>,
    /// Processor time of all parts for a chunk, the way through.
    worked: Vec<Duration>,
    /// What the host took meanwhile, percent.
    stolen: f64,
}

fn main() -> anyhow::Result<()> {
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
    let one_thread =
        |name| Builder::new_multi_thread().worker_threads(1).thread_name(name).enable_all().build();
    let (working, serving, answering) = (one_thread("worker")?, gateway::runtime()?, one_thread("straight")?);
    working.spawn(worker::echo(working.block_on(RedisQueue::connect(&redis))?, options.streams));
    let through_url = serving.block_on(serve(&redis))?;
    let straight_url = answering.block_on(clients::answer_at_once())?;
    let talking = Builder::new_current_thread().enable_all().build()?;

    let mut took = Took::default();
    let began = Used::now(server.pid())?;
    for repeat in 0..options.repeats {
        let moments = options.moments(repeat);
        took.straight.extend(talking.block_on(clients::round(&options, &moments, &straight_url))?);
        let (through, worked) = watched(&server, &talking, clients::round(&options, &moments, &through_url))?;
        took.through.extend(through);
        let before = Used::now(None)?;
        took.bare.extend(chain::run(&moments, Duration::ZERO));
        let handing_on = Used::now(None)?.processor.saturating_sub(before.processor);
        let worked = worked.div_f64(moments.len() as f64);
        let to_do = worked.saturating_sub(handing_on.div_f64(moments.len() as f64));
        took.busy.extend(chain::run(&moments, to_do));
        took.worked.push(worked);
    }
    took.stolen = Used::now(None)?.stolen_since(&began);
    Ok(report(&options, took, &machine)?)
}

/// What comes out, and what processor time this program and Redis took for it.
fn watched<T>(
    server: &RedisServer,
    runtime: &Runtime,
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<(T, Duration)> {
    let before = Used::now(server.pid())?;
    let outcome = runtime.block_on(work)?;
    Ok((outcome, Used::now(server.pid())?.processor.saturating_sub(before.processor)))
}

/// Starts a gateway; the address for live audio, once it knows a worker.
async fn serve(redis: &RedisConfig) -> anyhow::Result<String> {
    let config = Config::parse(&Args::parse_from(["smallest-gateway", "--port", "0"]), None)?;
    let queue = Arc::new(RedisQueue::connect(redis).await?);
    let gateway = Gateway::new(config, queue, Arc::new(LicenseGate::always_granted()))?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("ws://{}/api/v1/lightning/get_text?progress=true", listener.local_addr()?);
    tokio::spawn(gateway.clone().serve(listener, std::future::pending()));
    gateway.view.clone().wait_for(|view| !view.workers.is_empty()).await?;
    Ok(url)
}

/// Prints the figures and appends them as rows to `target/bench/gateway.jsonl`.
fn report(options: &Options, mut took: Took, machine: &serde_json::Value) -> std::io::Result<()> {
    for measured in [&mut took.bare, &mut took.busy, &mut took.straight, &mut took.through] {
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
    for (names, share, goal) in [
        (["through both p50", "straight p50", "gateway and Redis add p50"], 0.5, None),
        (["through both p90", "straight p90", "gateway and Redis add p90"], 0.9, None),
        (["through both p99", "straight p99", "gateway and Redis add p99"], 0.99, goal),
    ] {
        let ms = [at(&took.through, share), at(&took.straight, share)];
        let goals = [None, None, goal];
        let values = [ms[0], ms[1], ms[0] - ms[1]];
        rows.extend((0..3).map(|n| Row::latency(names[n], &case, values[n], goals[n])));
    }
    rows.push(Row::latency("through both max", &case, at(&took.through, 1.0), None));
    let worked = took.worked.iter().sum::<Duration>().as_secs_f64() / took.worked.len().max(1) as f64 * 1e3;
    rows.push(Row::latency("processor time of a chunk", "all parts, clients included", worked, None));
    for (names, share) in [
        (["six bare threads p50", "six threads as busy p50"], 0.5),
        (["six bare threads p90", "six threads as busy p90"], 0.9),
        (["six bare threads p99", "six threads as busy p99"], 0.99),
    ] {
        rows.push(Row::latency(names[0], "the machine alone", at(&took.bare, share), None));
        rows.push(Row::latency(names[1], "the machine alone", at(&took.busy, share), None));
    }
    rows.push(Row::new("the host took", "of the processors, meanwhile", took.stolen, "%", None));
    report::write("gateway.jsonl", &rows, machine)
}
