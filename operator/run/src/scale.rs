//! Beside the reconcile loop: what the queues say, and the two scalings that the autoscaler cannot do.
//!
//! ```text
//! Redis ──push──▶ watcher ──▶ queues ──▶ QueueView: status, external metrics (source)
//!                                └─────▶ scaler ──▶ hand: 0 → 1 when work waits, 1 → 0 when idle, who goes first
//! ```
//! In: where each deployment's queue is, and how its components scale, told by the reconciler after each round.
//! Out: readings, changed keys, patches of `/scale` and pod annotations (by the leader alone), decisions for status.
//! Decisions are made in `operator_plan::scale`. Must not know: how objects are made.

mod hand;
mod queues;
mod reading;
mod scaler;
mod source;
mod watcher;

pub(crate) use queues::{QueueTarget, Queues};
pub(crate) use scaler::{PodCost, Replicas, ScaleTarget, ScaledComponent, Scaler};

/// A deployment, by name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    /// Its namespace.
    pub(crate) namespace: String,
    /// Its name.
    pub(crate) name: String,
}

impl Key {
    pub(crate) fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

#[cfg(test)]
mod tests;
