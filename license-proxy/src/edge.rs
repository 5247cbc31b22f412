//! HTTP: `/health`, `/healthz`, `/v1/decision`, `/v1/usage`. Translates, and decides nothing.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use crate::decide::{Decision, instant};
use crate::meter::{Counted, Report};
use crate::service::{Service, tag};

/// Longest body read.
const MAX_BODY_BYTES: usize = 16 * 1024;
/// Longest wait for another decision.
pub const MAX_WAIT: Duration = Duration::from_secs(30);

/// Body of `GET /health`; its first four fields are published names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// `healthy` or `unhealthy`.
    pub status: String,
    /// New work may begin.
    pub license_valid: bool,
    /// End of the license or of the grace period, RFC 3339.
    pub valid_until: Option<String>,
    /// The license server is away, and the last confirmation still counts.
    pub grace_period_active: bool,
    /// Why not valid: a stable word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why not valid, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Query of `GET /v1/decision`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct DecisionQuery {
    /// Who asks: `gateway`, `asr` or `tts`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub component: Option<String>,
    /// The tag that the asker knows; the answer waits until the decision is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known: Option<String>,
    /// Longest wait, milliseconds; at most [`MAX_WAIT`].
    #[serde(default)]
    pub wait_ms: u64,
}

/// Body of `GET /v1/decision`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecisionAnswer {
    /// The decision.
    #[serde(flatten)]
    pub decision: Decision,
    /// Its tag, to be sent back as `known`.
    pub tag: String,
    /// It rests on an earlier confirmation.
    pub grace_period_active: bool,
    /// End of the license itself, Unix milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license_ends_ms: Option<u64>,
}

/// All routes.
pub fn router(service: Arc<Service>) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/healthz", get(|| async { "true" }))
        .route("/v1/decision", get(decision))
        .route("/v1/usage", post(usage).get(totals))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(service)
}

async fn health(State(service): State<Arc<Service>>) -> (StatusCode, Json<Health>) {
    let verdict = service.verdict(None);
    let (reason, message, until) = match verdict.decision {
        Decision::Granted { valid_until_ms, .. } => (None, None, valid_until_ms),
        Decision::Denied { reason, message } => (Some(reason.to_string()), Some(message), None),
        Decision::Unknown => (Some("Unknown".to_owned()), None, None),
    };
    let valid = reason.is_none();
    let code = if valid { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let status = if valid { "healthy" } else { "unhealthy" };
    let health = Health {
        status: status.to_owned(),
        license_valid: valid,
        valid_until: until.map(instant),
        grace_period_active: verdict.grace_period_active,
        reason,
        message,
    };
    (code, Json(health))
}

async fn decision(
    State(service): State<Arc<Service>>,
    Query(query): Query<DecisionQuery>,
) -> Json<DecisionAnswer> {
    let wait = Duration::from_millis(query.wait_ms).min(MAX_WAIT);
    let known = query.known.unwrap_or_default();
    let verdict = service.changed(query.component.as_deref(), &known, wait).await;
    Json(DecisionAnswer {
        tag: tag(&verdict.decision),
        grace_period_active: verdict.grace_period_active,
        license_ends_ms: verdict.ends_ms,
        decision: verdict.decision,
    })
}

async fn usage(State(service): State<Arc<Service>>, Json(report): Json<Report>) -> StatusCode {
    match service.count(&report) {
        Counted::Now => StatusCode::ACCEPTED,
        Counted::Before => StatusCode::OK,
        Counted::Refused => StatusCode::UNPROCESSABLE_ENTITY,
    }
}

async fn totals(State(service): State<Arc<Service>>) -> Json<serde_json::Value> {
    Json(serde_json::json!(service.totals()))
}
