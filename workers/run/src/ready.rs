//! Whether the worker is ready, and the two small servers that say so: `/health` and `/metrics`.
//!
//! Journey: beside the whole of it. `/health` is 200 only while work can be done; `/livez` is 200 as long as the process
//! is worth keeping. A queue that is away is shown but makes nobody restart the worker: it heals by itself.
//! Must not know: models, engines.

use std::net::SocketAddr;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use queue::port::WorkerPhase;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::queue_health::QueueHealth;

/// Where the worker stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// Not yet.
    Starting {
        /// How far it is.
        phase: WorkerPhase,
        /// What it waits for, how far a download is, or what failed.
        message: String,
    },
    /// At work.
    Ready {
        /// Device it runs on.
        device: String,
        /// Model it serves.
        model: String,
        /// Live streams it can hold.
        slots: usize,
    },
    /// Asked to stop.
    Draining,
}

impl Readiness {
    /// Not yet, and why.
    pub fn starting(phase: WorkerPhase, message: impl Into<String>) -> Self {
        Self::Starting { phase, message: message.into() }
    }
}

/// A port that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("failed to listen on {address} for {what}: stop what uses it, or set {variable}")]
pub struct ListenError {
    address: SocketAddr,
    what: &'static str,
    variable: &'static str,
    #[source]
    source: std::io::Error,
}

/// Takes a port.
pub async fn listen(
    address: SocketAddr,
    what: &'static str,
    variable: &'static str,
) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address).await.map_err(|source| ListenError { address, what, variable, source })
}

#[derive(Clone)]
struct Health {
    readiness: watch::Receiver<Readiness>,
    queue: QueueHealth,
}

/// The routes of the health port.
pub fn router(readiness: watch::Receiver<Readiness>, queue: QueueHealth) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/livez", get(|| async { "ok" }))
        .with_state(Health { readiness, queue })
}

async fn health(State(health): State<Health>) -> (StatusCode, Json<Value>) {
    let readiness = health.readiness.borrow().clone();
    let (status, body) = describe(&readiness, health.queue.away());
    (status, Json(body))
}

fn describe(readiness: &Readiness, queue_away: bool) -> (StatusCode, Value) {
    let unhealthy =
        |reason: &str| (StatusCode::SERVICE_UNAVAILABLE, json!({ "status": "unhealthy", "reason": reason }));
    match readiness {
        Readiness::Starting { message, .. } => unhealthy(message),
        Readiness::Draining => unhealthy("draining: no new work is taken"),
        Readiness::Ready { device, model, slots } => {
            let gpu = if device.starts_with("cuda") { device.as_str() } else { "none" };
            let queue = if queue_away { "away" } else { "connected" };
            let body = json!({
                "status": "ready", "gpu": gpu, "device": device, "model": model, "slots": slots, "queue": queue,
            });
            (StatusCode::OK, body)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_says_what_it_waits_for() {
        let (status, body) = describe(&Readiness::starting(WorkerPhase::Loading, "loading"), false);
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(body, json!({ "status": "unhealthy", "reason": "loading" }));
    }

    #[test]
    fn a_ready_worker_stays_ready_while_the_queue_is_away() {
        let ready =
            Readiness::Ready { device: "cuda:0 NVIDIA H200".into(), model: "demo-asr".into(), slots: 64 };
        let (status, body) = describe(&ready, true);
        assert_eq!(status, StatusCode::OK);
        assert_eq!((&body["status"], &body["queue"]), (&json!("ready"), &json!("away")));
        assert_eq!(body["gpu"], "cuda:0 NVIDIA H200");
    }
}
