//! How the worker registers itself in the queue, from the start of its program on.
//!
//! Journey: `[register] beside load and warm`, then the heartbeat takes over. In: how far the worker is. Out: its record,
//! by which the operator tells people what a pod waits for. Gateways give work to ready workers only.
//! Must not know: how a model is loaded.

use std::time::Duration;

use license_proxy::{LicenseGate, Standing};
use queue::ids::WorkerId;
use queue::port::{Held, LicenseRecord, WorkerPhase, WorkerPort, WorkerRecord};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::queue_health::QueueHealth;
use crate::ready::Readiness;

/// A message is for people, and is kept in Redis and in a status.
const MESSAGE_MAX: usize = 512;

/// What a worker says of itself, beside how it is doing.
#[derive(Clone, Default)]
pub struct About {
    /// Name of its pod.
    pub pod: Option<String>,
    /// SHA-256 of the model that it has loaded.
    pub model_sha256: Option<String>,
    /// Its license.
    pub license: Option<LicenseGate>,
}

/// Who registers.
pub(crate) struct Who<'a> {
    pub(crate) id: &'a WorkerId,
    pub(crate) component: &'static str,
    pub(crate) about: &'a About,
    pub(crate) lease: Duration,
}

impl About {
    /// The record of a worker that can do nothing yet.
    pub(crate) fn record(&self, id: &WorkerId, component: &str) -> WorkerRecord {
        WorkerRecord {
            pod: self.pod.clone(),
            model_sha256: self.model_sha256.clone(),
            license: self.license.as_ref().map(|license| license_record(license.standing())),
            ..WorkerRecord::starting(id.clone(), component)
        }
    }
}

/// Keeps the record of a worker that loads, until `loaded`.
pub(crate) async fn while_loading(
    port: &dyn WorkerPort,
    who: &Who<'_>,
    (mut readiness, health): (watch::Receiver<Readiness>, &QueueHealth),
    loaded: &CancellationToken,
) {
    let mut every = tokio::time::interval(who.lease / 4);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !loaded.is_cancelled() {
        let record = record(who, &readiness.borrow_and_update());
        let beat = port.heartbeat(&record, &Held::default()).await;
        health.note(&beat);
        tokio::select! {
            _ = every.tick() => {}
            Ok(()) = readiness.changed() => {}
            () = loaded.cancelled() => return,
        }
    }
}

fn record(who: &Who<'_>, readiness: &Readiness) -> WorkerRecord {
    let mut record = who.about.record(who.id, who.component);
    if let Readiness::Starting { phase, message } = readiness {
        record.phase = *phase;
        record.message = Some(short(message)).filter(|message| !message.is_empty());
    } else {
        // Asked to stop before it was ready.
        record.phase = WorkerPhase::Draining;
    }
    record
}

fn short(message: &str) -> String {
    message.chars().take(MESSAGE_MAX).collect()
}

fn license_record(standing: Standing) -> LicenseRecord {
    let Standing { state, message, expires_at_ms } = standing;
    LicenseRecord { state: state.to_owned(), message, expires_at_ms }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_says_how_far_the_worker_is() {
        let about = About { pod: Some("quickstart-asr-0".into()), ..About::default() };
        let id = WorkerId::generate();
        let who = Who { id: &id, component: "asr", about: &about, lease: Duration::from_secs(5) };
        let downloading = Readiness::starting(WorkerPhase::Downloading, "downloading x: 3 of 12 MiB (25 %)");
        let seen = record(&who, &downloading);
        assert_eq!((seen.phase, seen.takes_work()), (WorkerPhase::Downloading, false));
        assert_eq!(seen.message.as_deref(), Some("downloading x: 3 of 12 MiB (25 %)"));
        assert_eq!(seen.pod.as_deref(), Some("quickstart-asr-0"));
        assert_eq!(record(&who, &Readiness::Draining).phase, WorkerPhase::Draining);
        let long = Readiness::starting(WorkerPhase::Failed, "ü".repeat(10_000));
        assert_eq!(record(&who, &long).message.map(|m| m.chars().count()), Some(MESSAGE_MAX));
    }

    #[tokio::test]
    async fn a_loading_worker_is_seen_and_what_it_says_follows() {
        let queue = queue::memory::MemoryQueue::new(queue::port::QueueLimits::default());
        let (readiness, follow) = watch::channel(Readiness::starting(WorkerPhase::Starting, "starting"));
        let (about, id, loaded) = (About::default(), WorkerId::generate(), CancellationToken::new());
        let who = Who { id: &id, component: "asr", about: &about, lease: Duration::from_secs(5) };
        let health = QueueHealth::default();
        let announce = while_loading(&queue, &who, (follow, &health), &loaded);
        let watch = async {
            for phase in [WorkerPhase::Downloading, WorkerPhase::Loading, WorkerPhase::WarmingUp] {
                readiness.send_replace(Readiness::starting(phase, "so far"));
                seen(&queue, phase).await;
            }
            loaded.cancel();
        };
        tokio::time::timeout(Duration::from_secs(10), async { tokio::join!(announce, watch) }).await.unwrap();
    }

    async fn seen(queue: &queue::memory::MemoryQueue, phase: WorkerPhase) {
        use queue::observe::ObserverPort as _;
        loop {
            let sight = queue.observe().await.unwrap();
            if sight.components[0].workers.iter().any(|worker| worker.phase == phase) {
                return;
            }
            queue.changed(&sight.mark, Duration::from_secs(5)).await.unwrap();
        }
    }
}
