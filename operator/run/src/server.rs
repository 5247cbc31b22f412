//! `/healthz`, `/readyz`, `/metrics`: for the kubelet and for Prometheus.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;

use crate::watch::Synced;

/// The routes. Ready is who has listed everything; whether it leads does not matter, since a standby serves the
/// external metrics too.
pub(crate) fn router(synced: Synced) -> Router {
    let health =
        Router::new().route("/healthz", get(async || "ok\n")).route("/readyz", get(ready)).with_state(synced);
    health.merge(telemetry::metrics().router())
}

async fn ready(State(synced): State<Synced>) -> (StatusCode, String) {
    let missing = synced.missing();
    if missing.is_empty() {
        return (StatusCode::OK, "ready\n".to_owned());
    }
    (
        StatusCode::SERVICE_UNAVAILABLE,
        format!("not ready: waits for the first list of {}\n", missing.join(", ")),
    )
}
