//! Telemetry: logs, spans and metrics, set up once by every program before it does anything else.
//!
//! In: a [`TelemetryConfig`] (from flags and environment, see [`TelemetryArgs`]). Out: a [`Guard`] that flushes
//! on drop, a process-wide Prometheus recorder behind [`metrics()`], the [`build_info()`] of the program, and
//! the helpers of [`trace`] that carry a trace across a queue. It knows nothing of speech, queues or licenses.
//!
//! Logs go to standard error, so that standard output stays the program's own. No audio, transcript, key or
//! license text may be logged; the callers keep to that.

mod build;
mod logs;
mod metric;
mod process;
#[cfg(feature = "testing")]
pub mod testing;
pub mod trace;

pub use build::{BuildInfo, build_info};
pub use logs::{Guard, LogFormat, TelemetryArgs, TelemetryConfig, TelemetryError, init};
pub use metric::{LATENCY_BUCKETS_S, Metrics, metrics};
