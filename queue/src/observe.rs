//! The observer's side: what can be seen of a deployment's queues without taking part. The operator scales by it.
//!
//! Implemented by `memory` and `redis`; one test suite runs against both. Nothing here claims, and nobody polls:
//! [`ObserverPort::changed`] waits for a push.

use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use crate::port::{Depth, QueueError};
use crate::registry::{GatewayRecord, WorkerRecord};

/// While claims are held, one may lapse and wait again without anybody saying so: then a look at least this often.
const LAPSE_LOOK: Duration = Duration::from_secs(5);

/// Everything there is to see of some components, at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sight {
    /// The components that were asked for, in that order.
    pub components: Vec<ComponentSight>,
    /// The moment, for [`ObserverPort::changed`].
    pub mark: Mark,
}

/// One component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComponentSight {
    /// `asr` or `tts`.
    pub component: &'static str,
    /// What waits.
    pub depth: Depth,
    /// Jobs that workers hold, from the moment of their claims on: a worker's own record says so a heartbeat later.
    pub held_jobs: u64,
    /// Sessions that workers hold, likewise.
    pub held_sessions: u64,
    /// Workers with a fresh heartbeat, whatever their phase, by id.
    pub workers: Vec<WorkerRecord>,
    /// Gateways with a fresh heartbeat, by id.
    pub gateways: Vec<GatewayRecord>,
}

/// A moment of the queue; only the queue that gave it can read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark(pub(crate) Vec<String>);

/// The observer's side.
#[async_trait]
pub trait ObserverPort: Send + Sync {
    /// Looks, in one round trip.
    async fn observe(&self) -> Result<Sight, QueueError>;

    /// Waits until work was queued or a registration changed after `since`; false when the wait ran out before. What
    /// ends silently (a claim or a registration that lapses) does not end the wait. An outage is an error at once.
    async fn changed(&self, since: &Mark, wait: Duration) -> Result<bool, QueueError>;

    /// Waits until something waits for a worker, and says how much; nothing when the wait ran out before.
    async fn wait_for_work(&self, wait: Duration) -> Result<Depth, QueueError> {
        let deadline = Instant::now() + wait;
        loop {
            let sight = self.observe().await?;
            let depth = sight.depth();
            let left = deadline.saturating_duration_since(Instant::now());
            if depth.any() || left.is_zero() {
                return Ok(depth);
            }
            let held = sight.components.iter().any(ComponentSight::holds_work);
            self.changed(&sight.mark, if held { left.min(LAPSE_LOOK) } else { left }).await?;
        }
    }
}

impl ComponentSight {
    /// Workers hold something, which may lapse.
    pub fn holds_work(&self) -> bool {
        self.held_jobs + self.held_sessions > 0
    }
}

impl Sight {
    /// What waits in all components together.
    pub fn depth(&self) -> Depth {
        self.components.iter().fold(Depth::default(), |sum, component| Depth {
            batch: sum.batch + component.depth.batch,
            sessions: sum.sessions + component.depth.sessions,
            batch_oldest_ms: sum.batch_oldest_ms.max(component.depth.batch_oldest_ms),
            session_oldest_ms: sum.session_oldest_ms.max(component.depth.session_oldest_ms),
        })
    }
}
