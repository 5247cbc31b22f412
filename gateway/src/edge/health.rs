//! Health: is it alive, is it ready, and which part is not. HTTP in the published shapes, and `grpc.health.v1`.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::error::Error;
use crate::request::{Flag, Params};
use crate::serve::Gateway;

/// How often gRPC health follows readiness.
const INTERVAL: Duration = Duration::from_millis(250);
/// Service name of the speech API in `grpc.health.v1`; the empty name is the whole server.
const SPEECH: &str = "smallest.speech.v1.Speech";

/// The routes.
pub fn router() -> Router<Arc<Gateway>> {
    Router::new()
        .route("/api/v1/health", get(alive))
        .route("/healthz", get(ready))
        .route("/health", get(health))
        .route("/health/asr", get(asr))
        .route("/health/license", get(license))
        .route("/health/redis", get(redis))
}

/// The process serves; stays 200 while draining.
async fn alive() -> Json<Value> {
    Json(json!({"status": "healthy"}))
}

/// `true` when new work is taken.
async fn ready(State(gateway): State<Arc<Gateway>>) -> Response {
    match gateway.not_ready() {
        None => "true".into_response(),
        Some(_) => (StatusCode::SERVICE_UNAVAILABLE, "false").into_response(),
    }
}

async fn health(State(gateway): State<Arc<Gateway>>, params: Params) -> Result<Response, Error> {
    let problem = gateway.not_ready();
    let mut body = status(problem.as_ref());
    if params.flag("detailed", Flag::No)?.is_yes() {
        body["components"] = json!({
            "api_server": word(!gateway.door.is_draining()),
            "lightning_asr": word(has_worker(&gateway)),
            "license_proxy": word(gateway.license.check().is_ok()),
            "redis": word(gateway.view.borrow().queue_up),
        });
        let (requests, streams) = gateway.door.active();
        body["uptime_seconds"] = json!(gateway.started.elapsed().as_secs());
        body["version"] = json!(telemetry::build_info().version);
        body["draining"] = json!(gateway.door.is_draining());
        body["active_requests"] = json!(requests);
        body["active_streams"] = json!(streams);
    }
    Ok(reply(problem.as_ref(), body))
}

async fn asr(State(gateway): State<Arc<Gateway>>) -> Response {
    let view = gateway.view.borrow().clone();
    let workers: Value = view
        .workers
        .iter()
        .map(|w| {
            json!({"id": w.id.as_str(), "model": w.model, "languages": w.languages, "slots": w.slots,
                "active_streams": w.active_streams, "active_requests": w.active_requests, "draining": w.draining, "phase": format!("{:?}", w.phase)})
        })
        .collect();
    let problem = (!has_worker(&gateway)).then_some("no worker is ready");
    let mut body = json!({"status": word(problem.is_none()), "workers": workers});
    body["batch_queue_depth"] = json!(view.depth.batch);
    body["stream_queue_depth"] = json!(view.depth.sessions);
    if let Some(reason) = problem {
        body["reason"] = json!(reason);
    }
    let code = if problem.is_none() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(body)).into_response()
}

async fn license(State(gateway): State<Arc<Gateway>>) -> Response {
    let problem = gateway.license.check().err();
    reply(problem.as_ref(), status(problem.as_ref()))
}

async fn redis(State(gateway): State<Arc<Gateway>>) -> Response {
    let up = gateway.view.borrow().queue_up;
    let problem = (!up).then_some(Error::QueueUnavailable(None));
    reply(problem.as_ref(), status(problem.as_ref()))
}

fn has_worker(gateway: &Gateway) -> bool {
    gateway.view.borrow().worker_ready()
}

fn word(good: bool) -> &'static str {
    if good { "healthy" } else { "unhealthy" }
}

fn status(problem: Option<&Error>) -> Value {
    match problem {
        None => json!({"status": "healthy"}),
        Some(e) => json!({"status": "unhealthy", "reason": e.to_string(), "code": e.reason()}),
    }
}

fn reply(problem: Option<&Error>, body: Value) -> Response {
    let code = if problem.is_none() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(body)).into_response()
}

/// Keeps `grpc.health.v1` as ready as the gateway is.
pub async fn report(gateway: Arc<Gateway>, reporter: HealthReporter, stop: CancellationToken) {
    let mut tick = tokio::time::interval(INTERVAL);
    let mut last = None;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        let ready = gateway.not_ready().is_none();
        if last != Some(ready) {
            last = Some(ready);
            let status = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
            reporter.set_service_status("", status).await;
            reporter.set_service_status(SPEECH, status).await;
            tracing::info!(ready, "readiness");
        }
    }
}
