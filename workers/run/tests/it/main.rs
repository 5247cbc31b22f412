//! The worker over the memory queue and, as real processes, over a real Redis; with the fake engine.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests may fail loudly")]

mod batch;
mod gateway;
mod live;
mod processes;
mod rig;
mod trace;
