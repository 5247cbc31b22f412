//! What the gateway knows of the world behind it: the queue and the workers.
//!
//! One task looks once a second and tells everybody through a watch channel, so that no request ever waits for
//! such a question. In: `GatewayPort::{workers, depth, heartbeat_gateway}`. Out: [`View`], and gauges.

use std::sync::Arc;
use std::time::Duration;

use metrics::gauge;
use queue::port::{Depth, GatewayPort, GatewayRecord, WorkerRecord};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const INTERVAL: Duration = Duration::from_secs(1);
/// A question to the queue that takes longer counts as "away".
const PATIENCE: Duration = Duration::from_secs(2);

/// What was seen at the last look.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// The queue answered.
    pub queue_up: bool,
    /// Workers of the ASR component with a fresh heartbeat, also those that load or drain.
    pub workers: Vec<WorkerRecord>,
    /// What waits.
    pub depth: Depth,
}

impl View {
    /// Some worker takes work; without one, work waits until one has started.
    pub fn worker_ready(&self) -> bool {
        self.workers.iter().any(WorkerRecord::takes_work)
    }
}

/// Looks until stopped, and registers this gateway each time. The first look happens at once.
pub async fn run(
    queue: Arc<dyn GatewayPort>,
    record: impl Fn() -> GatewayRecord,
    view: watch::Sender<View>,
    stop: CancellationToken,
) {
    let mut tick = tokio::time::interval(INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        let seen = look(queue.as_ref(), &record()).await;
        let before = view.send_replace(seen.clone());
        if before.queue_up != seen.queue_up {
            tracing::info!(queue_up = seen.queue_up, "the queue changed");
        }
        show(&seen);
    }
}

async fn look(queue: &dyn GatewayPort, record: &GatewayRecord) -> View {
    let questions =
        async { tokio::try_join!(queue.heartbeat_gateway(record), queue.workers(), queue.depth()) };
    match tokio::time::timeout(PATIENCE, questions).await {
        Ok(Ok(((), workers, depth))) => {
            let workers = workers.into_iter().filter(|w| w.component == "asr").collect();
            View { queue_up: true, workers, depth }
        }
        Ok(Err(e)) => {
            tracing::debug!(error = %e, "the queue did not answer");
            View::default()
        }
        Err(_) => View::default(),
    }
}

fn show(view: &View) {
    gauge!("gateway_queue_up").set(f64::from(u8::from(view.queue_up)));
    let ready = view.workers.iter().filter(|worker| worker.takes_work()).count();
    gauge!("gateway_workers").set(ready as f64);
    gauge!("gateway_queue_depth", "kind" => "batch").set(view.depth.batch as f64);
    gauge!("gateway_queue_depth", "kind" => "live").set(view.depth.sessions as f64);
    gauge!("gateway_queue_oldest_seconds", "kind" => "batch").set(view.depth.batch_oldest_ms as f64 / 1e3);
    gauge!("gateway_queue_oldest_seconds", "kind" => "live").set(view.depth.session_oldest_ms as f64 / 1e3);
}
