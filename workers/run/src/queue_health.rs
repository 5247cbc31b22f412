//! Whether the queue can be reached: noted by every call, logged once per outage, shown in `/health`.
//!
//! Journey: beside all loops. Must not know: what the calls are.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use queue::port::QueueError;
use tokio_util::sync::CancellationToken;

/// First and longest wait between two attempts.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// A shared note; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct QueueHealth {
    away: Arc<AtomicBool>,
}

impl QueueHealth {
    /// The last call failed to reach the queue.
    pub fn away(&self) -> bool {
        self.away.load(Ordering::Relaxed)
    }

    /// Notes what came of a call.
    pub fn note<T>(&self, result: &Result<T, QueueError>) {
        match result {
            Err(error @ QueueError::Unavailable { source, .. }) => {
                if !self.away.swap(true, Ordering::Relaxed) {
                    tracing::warn!(reason = error.reason(), %error, cause = %source, "the queue is away; waiting for it");
                }
            }
            _ => {
                if self.away.swap(false, Ordering::Relaxed) {
                    tracing::info!("the queue is back");
                }
            }
        }
    }

    /// Repeats a call until the queue can be reached; other errors, and giving up, end it.
    pub async fn insist<T, F>(
        &self,
        give_up: &CancellationToken,
        mut call: impl FnMut() -> F,
    ) -> Result<T, QueueError>
    where
        F: Future<Output = Result<T, QueueError>>,
    {
        let mut back_off = BackOff::default();
        loop {
            let result = call().await;
            self.note(&result);
            match result {
                Err(QueueError::Unavailable { .. }) if !give_up.is_cancelled() => {
                    back_off.wait(give_up).await;
                }
                other => return other,
            }
        }
    }
}

/// Waits that grow.
#[derive(Debug, Default)]
pub struct BackOff {
    next: Option<Duration>,
}

impl BackOff {
    /// Waits, longer each time; not at all once cancelled.
    pub async fn wait(&mut self, stop: &CancellationToken) {
        let wait = self.next.unwrap_or(BACK_OFF.0);
        self.next = Some((wait * 2).min(BACK_OFF.1));
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = stop.cancelled() => {}
        }
    }
}
