//! The operator's own metrics; docs/metrics.md lists them all.

use tokio::time::Instant;

/// Measures one step of the journey, from its start until it is dropped.
pub(crate) struct Step {
    name: &'static str,
    started: Instant,
}

impl Step {
    /// Starts the clock.
    pub(crate) fn start(name: &'static str) -> Self {
        Self { name, started: Instant::now() }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        metrics::histogram!("operator_step_duration_seconds", "step" => self.name)
            .record(self.started.elapsed().as_secs_f64());
    }
}
