//! Many sessions against an echo in the worker's place.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use queue::ids::{GatewayId, SessionId, WorkerId};
use queue::job::Timing;
use queue::port::{GatewayPort, QueueError, WorkerPort};
use queue::redis::RedisQueue;
use queue::session::{SessionEvent, ToGateway, ToWorker};
use queue::testing::RedisServer;
use tokio::sync::mpsc;

use crate::{CHUNK, CHUNK_SAMPLES, connect};

/// Measured times, sorted before they are read.
#[derive(Debug, Default)]
pub(crate) struct Latencies(Vec<Duration>);

impl Latencies {
    pub(crate) fn add(&mut self, latency: Duration) {
        self.0.push(latency);
    }

    pub(crate) fn sort(&mut self) {
        self.0.sort_unstable();
    }

    /// The latency that a share of all stays under, in milliseconds.
    pub(crate) fn at(&self, share: f64) -> f64 {
        let index = ((self.0.len().saturating_sub(1)) as f64 * share) as usize;
        self.0.get(index).map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e3)
    }
}

/// When each chunk that is on its way was sent, by session and position.
type Sent = Arc<Mutex<HashMap<(SessionId, u64), Instant>>>;

/// Runs `sessions` in real time, after a second to warm up.
pub(crate) async fn measure(
    sessions: u32,
    run_for: Duration,
) -> Result<Latencies, Box<dyn std::error::Error>> {
    let server = RedisServer::start()?;
    let (of_gateway, of_worker) = (connect(&server).await?, connect(&server).await?);
    let (gateway, worker) = (GatewayId::generate(), WorkerId::generate());
    let sent = Sent::default();
    let (chunks_in, chunks) = mpsc::channel(4_096);
    let tasks = [
        tokio::spawn(echo(of_worker, worker.clone(), gateway.clone())),
        tokio::spawn(send(of_gateway.clone(), worker, chunks)),
    ];
    let talkers: Vec<_> = (0..sessions)
        .map(|number| tokio::spawn(talk(CHUNK * number / sessions, chunks_in.clone(), sent.clone())))
        .collect();
    let warm = Instant::now() + Duration::from_secs(1);
    let latencies = listen(&of_gateway, &gateway, &sent, (warm, warm + run_for)).await?;
    talkers.iter().for_each(tokio::task::JoinHandle::abort);
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    Ok(latencies)
}

/// One client: a chunk whenever its time has come.
async fn talk(offset: Duration, out: mpsc::Sender<ToWorker>, sent: Sent) {
    let session = SessionId::generate();
    let pcm = Bytes::from(vec![7_u8; 2 * CHUNK_SAMPLES as usize]);
    let mut tick = tokio::time::interval_at(tokio::time::Instant::now() + offset, CHUNK);
    for number in 0.. {
        tick.tick().await;
        let at_samples = number * CHUNK_SAMPLES;
        let key = (session.clone(), at_samples);
        sent.lock().expect("no holder panics").insert(key, Instant::now());
        let chunk = ToWorker::Audio { session: session.clone(), epoch: 1, at_samples, pcm: pcm.clone() };
        if out.send(chunk).await.is_err() {
            return;
        }
    }
}

/// As in the gateway: whatever is there goes in one round trip.
async fn send(
    queue: RedisQueue,
    worker: WorkerId,
    mut chunks: mpsc::Receiver<ToWorker>,
) -> Result<(), QueueError> {
    let mut batch = Vec::new();
    while chunks.recv_many(&mut batch, 256).await > 0 {
        queue.send(&worker, &batch).await?;
        batch.clear();
    }
    Ok(())
}

/// In the worker's place: an update for each chunk.
async fn echo(queue: RedisQueue, worker: WorkerId, gateway: GatewayId) -> Result<(), QueueError> {
    loop {
        let messages = WorkerPort::receive(&queue, &worker, Duration::from_secs(2)).await?;
        let updates: Vec<_> =
            messages.into_iter().filter_map(|m| Some((gateway.clone(), update(m)?))).collect();
        queue.publish(&updates).await?;
    }
}

fn update(message: ToWorker) -> Option<ToGateway> {
    let ToWorker::Audio { session, epoch, at_samples, .. } = message else { return None };
    let event =
        SessionEvent::Update { processed_samples: at_samples, partial: None, timing: Timing::default() };
    Some(ToGateway::Session { session, epoch, event })
}

async fn listen(
    queue: &RedisQueue,
    gateway: &GatewayId,
    sent: &Sent,
    (from, until): (Instant, Instant),
) -> Result<Latencies, QueueError> {
    let mut latencies = Latencies::default();
    while Instant::now() < until {
        let messages = GatewayPort::receive(queue, gateway, Duration::from_secs(2)).await?;
        let now = Instant::now();
        let mut sent = sent.lock().expect("no holder panics");
        for message in messages {
            let ToGateway::Session { session, event: SessionEvent::Update { processed_samples, .. }, .. } =
                message
            else {
                continue;
            };
            let at = sent.remove(&(session, processed_samples));
            if let Some(at) = at.filter(|_| now >= from) {
                latencies.add(now - at);
            }
        }
    }
    latencies.sort();
    Ok(latencies)
}
