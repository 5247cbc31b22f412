//! `smallest-worker`: pulls work from Redis, runs the engine thread, replies.
//!
//! ```text
//! config → load (model_source) → warm → ready ─┬─ pull ─► sessions, jobs ─► engine_thread ─► reply ─► drain
//!                                              └─ inbox ─►                                beat beside all
//! ```
//! In order of travel:
//! - [`config`]: flags and environment, parsed once; [`model_source`]: from where the model comes;
//! - [`load`] and [`warm`]: a model folder becomes an engine whose costs are known, by `stopwatch`;
//! - [`ready`]: `/health` and `/metrics`; `register`: the worker's record in the queue, from the start on; [`license`]: may
//!   new work be taken;
//! - [`serve`]: the whole journey; [`worker`]: the loops: `pull`, `inbox`, [`sessions`], [`jobs`], [`engine_thread`], `reply`, `beat`, `drain`;
//!   `trace`: their spans.
//!
//! Gateways are never called: everything passes through the queue.

mod beat;
mod clock;
mod download;
mod drain;
mod inbox;
mod pull;
mod register;
mod reply;
mod stopwatch;
mod trace;

pub mod config;
pub mod engine_thread;
pub mod jobs;
pub mod license;
pub mod load;
pub mod metrics;
pub mod model_source;
pub mod queue_health;
pub mod ready;
pub mod serve;
pub mod sessions;
pub mod warm;
pub mod worker;

pub use register::About;
pub use worker::{Gate, Meter, Parts, WorkerConfig, WorkerError, run};
