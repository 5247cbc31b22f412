//! What gateway and Redis add to a chunk of audio, and what an idle pair costs. Run by `make bench-queue`.
//!
//! Load generator, gateway side, Redis and an echo in the worker's place share this machine. Each session sends a
//! chunk of 160 ms (5,120 bytes) in real time; the way of a chunk is session → gateway's sender → Redis → worker's
//! reader → echo → Redis → gateway's reader, and its latency is measured from the first to the last of these.
//! Rows are printed and appended to target/bench/queue.jsonl.

mod echo;
#[path = "../../../cli/src/bench/machine.rs"]
mod machine;
mod report;

use std::time::Duration;

use queue::ids::GatewayId;
use queue::ids::WorkerId;
use queue::port::{Held, QueueError, QueueLimits, WorkerPort, WorkerRecord};
use queue::redis::{RedisConfig, RedisQueue};
use queue::testing::RedisServer;

use crate::report::Row;

/// Samples of a chunk and its bytes.
pub(crate) const CHUNK_SAMPLES: u64 = 2_560;
pub(crate) const CHUNK: Duration = Duration::from_millis(160);
/// Clock ticks in a second, as Linux reports CPU times.
const TICKS: u64 = 100;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let seconds = std::env::args().nth(1).map_or(Ok(10), |text| text.parse())?;
    let run_for = Duration::from_secs(seconds);
    let machine = machine::facts();
    println!("gateway → Redis → worker → Redis → gateway, {seconds} s each");
    report::head();
    let mut rows = floor().await?;
    for (sessions, goal_p99_ms) in [(100, 1.0), (1_000, 2.0)] {
        let latencies = echo::measure(sessions, run_for).await?;
        let case = format!("{sessions} sessions of 160 ms chunks");
        if sessions == 100 {
            rows.push(Row::latency("chunk round trip p50", &case, latencies.at(0.5), Some(0.5)));
        } else {
            rows.push(Row::latency("chunk round trip p50", &case, latencies.at(0.5), None));
        }
        rows.push(Row::latency("chunk round trip p99", &case, latencies.at(0.99), Some(goal_p99_ms)));
        rows.push(Row::latency("chunk round trip p99.9", &case, latencies.at(0.999), None));
    }
    rows.push(idle(run_for).await?);
    report::write("queue.jsonl", &rows, &machine)?;
    Ok(())
}

pub(crate) async fn connect(server: &RedisServer) -> Result<RedisQueue, QueueError> {
    RedisQueue::connect(&RedisConfig {
        url: server.url(),
        root_certificates: None,
        deployment: "bench/queue".into(),
        component: "asr",
        limits: QueueLimits::default(),
    })
    .await
}

/// Two bare round trips to Redis with nothing else going on: no queue can be faster than this.
async fn floor() -> Result<Vec<Row>, Box<dyn std::error::Error>> {
    let server = RedisServer::start()?;
    let client = redis::Client::open(server.url())?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    let mut latencies = echo::Latencies::default();
    let payload = vec![0_u8; 5_120];
    for _ in 0..2_000 {
        let started = std::time::Instant::now();
        for _ in 0..2 {
            let () = redis::cmd("SET").arg("k").arg(&payload).query_async(&mut connection).await?;
        }
        latencies.add(started.elapsed());
    }
    latencies.sort();
    Ok(vec![Row::latency("two bare SETs p50", "nothing else going on", latencies.at(0.5), None)])
}

/// CPU of a gateway and a worker that wait for work, in percent of one core, Redis included.
async fn idle(run_for: Duration) -> Result<Row, Box<dyn std::error::Error>> {
    let server = RedisServer::start()?;
    let (of_gateway, of_worker) = (connect(&server).await?, connect(&server).await?);
    let (gateway, worker) = (GatewayId::generate(), WorkerId::generate());
    let pids = [std::process::id(), server.pid().unwrap_or_default()];
    let before = cpu(&pids)?;
    let waiting = async {
        tokio::try_join!(
            wait_as_gateway(&of_gateway, &gateway),
            wait_for_jobs(&of_worker, &worker),
            wait_for_sessions(&of_worker, &worker),
            wait_for_messages(&of_worker, &worker),
            beat(&of_worker, &worker),
        )
    };
    if let Ok(ended) = tokio::time::timeout(run_for, waiting).await {
        ended?;
    }
    let used = cpu(&pids)?.saturating_sub(before);
    let percent = 100.0 * used.as_secs_f64() / run_for.as_secs_f64();
    Ok(Row::new("idle CPU", "gateway + worker + Redis", percent, "% of a core", Some(1.0)))
}

/// CPU time that processes have used so far.
fn cpu(pids: &[u32]) -> std::io::Result<Duration> {
    let mut ticks = 0;
    for pid in pids {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name in parentheses may hold anything; user and system time are the 12th and 13th after it.
        let after = stat.rsplit(')').next().unwrap_or_default();
        ticks += after.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum::<u64>();
    }
    Ok(Duration::from_millis(ticks * 1_000 / TICKS))
}

async fn wait_as_gateway(queue: &RedisQueue, gateway: &GatewayId) -> Result<(), QueueError> {
    use queue::port::{GatewayPort, GatewayRecord};
    loop {
        GatewayPort::receive(queue, gateway, Duration::from_secs(2)).await?;
        queue.heartbeat_gateway(&GatewayRecord::idle(gateway.clone())).await?;
    }
}

async fn wait_for_jobs(queue: &RedisQueue, worker: &WorkerId) -> Result<(), QueueError> {
    loop {
        queue.claim_jobs(worker, 8, Duration::from_secs(2)).await?;
    }
}

async fn wait_for_sessions(queue: &RedisQueue, worker: &WorkerId) -> Result<(), QueueError> {
    loop {
        queue.claim_sessions(worker, 8, Duration::from_secs(2)).await?;
    }
}

async fn wait_for_messages(queue: &RedisQueue, worker: &WorkerId) -> Result<(), QueueError> {
    loop {
        WorkerPort::receive(queue, worker, Duration::from_secs(2)).await?;
    }
}

async fn beat(queue: &RedisQueue, worker: &WorkerId) -> Result<(), QueueError> {
    let record = WorkerRecord {
        model: "bench".into(),
        languages: vec!["en".into()],
        slots: 1,
        ..WorkerRecord::ready(worker.clone(), "asr")
    };
    let mut beat = tokio::time::interval(QueueLimits::default().lease / 3);
    loop {
        beat.tick().await;
        queue.heartbeat(&record, &Held::default()).await?;
    }
}
