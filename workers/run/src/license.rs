//! The license as the worker sees it: a gate for new work, and a meter of what was done.
//!
//! Journey: beside pulling. In: decisions of the license proxy. Out: [`Gate`]. Running work goes on whatever it says.
//! Must not know: how a license is checked.

use license_proxy::{Decision, LicenseGate, Usage};
use tokio::sync::watch;

use crate::worker::{Gate, Meter};

/// A gate that follows the license, for as long as the program runs.
pub fn gate(license: &LicenseGate) -> watch::Receiver<Gate> {
    let (gate, out) = watch::channel(of(&license.current()));
    let mut changed = license.changed();
    tokio::spawn(async move {
        while changed.changed().await.is_ok() {
            let now = of(&changed.borrow_and_update());
            match &now {
                Gate::Open => tracing::info!("the license allows new work"),
                Gate::Closed { reason } => tracing::warn!(reason, "no new work is taken; what runs goes on"),
            }
            if gate.send(now).is_err() {
                return;
            }
        }
    });
    out
}

/// The gate of a worker that needs no license: the fake engine's.
pub fn open() -> watch::Receiver<Gate> {
    // A receiver keeps the last value when its sender is gone.
    watch::channel(Gate::Open).1
}

fn of(decision: &Decision) -> Gate {
    match decision {
        Decision::Granted { .. } => Gate::Open,
        Decision::Denied { message, .. } => Gate::Closed { reason: message.clone() },
        Decision::Unknown => Gate::Closed { reason: "the license proxy has not answered yet".to_owned() },
    }
}

/// Counts for the license.
pub struct LicenseMeter(pub Option<LicenseGate>);

impl Meter for LicenseMeter {
    fn audio_ms(&self, ms: u64) {
        if let Some(license) = &self.0 {
            license.count(Usage { audio_ms: ms, requests: 0 });
        }
    }

    fn requests(&self, count: u64) {
        if let Some(license) = &self.0 {
            license.count(Usage { audio_ms: 0, requests: count });
        }
    }
}
