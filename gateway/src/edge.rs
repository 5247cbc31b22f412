//! The edges: protocol ↔ the one internal request and its events. They hold no decisions.
//!
//! [`context`] goes around all of them (request id, span, header limit, error bodies); [`upload`] reads bodies
//! for [`rest`] and [`openai`], [`leftover`] what they left unread; [`words`] and [`frame`] are the published JSON
//! shapes.

pub mod context;
pub mod fetch;
pub mod frame;
pub mod grpc;
pub mod health;
mod leftover;
pub mod openai;
pub mod rest;
pub mod subtitles;
pub mod upload;
pub mod websocket;
pub mod words;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::Uri;
use axum::routing::{get, post};
use tonic_health::server::HealthReporter;

use crate::error::Error;
use crate::serve::Gateway;

/// Longest sum of all header names and values, bytes.
pub const MAX_HEADER_BYTES: usize = 16 * 1024;

/// Paths that take a recording by POST and a live session by GET with an upgrade.
const GET_TEXT: [&str; 6] = [
    "/api/v1/lightning/get_text",
    "/api/v1/pulse/get_text",
    "/waves/v1/lightning/get_text",
    "/waves/v1/pulse/get_text",
    "/waves/v1/stt",
    "/waves/v1/stt/",
];

/// All routes, and the reporter of gRPC health.
pub fn router(gateway: &Arc<Gateway>) -> (Router, HealthReporter) {
    let (grpc, reporter) = grpc::router(gateway);
    let mut app: Router<Arc<Gateway>> = Router::new();
    for path in GET_TEXT {
        app = app.route(path, post(rest::get_text).get(websocket::live));
    }
    let app = app
        .route("/waves/v1/stt/live", get(websocket::live))
        .route("/v1/listen", post(rest::listen))
        .route("/v1/listen/stream", get(websocket::live))
        .route("/v1/audio/transcriptions", post(openai::transcriptions))
        .route("/v1/models", get(openai::models))
        .merge(health::router())
        .with_state(gateway.clone())
        .merge(telemetry::metrics().router())
        .merge(grpc)
        .fallback(|uri: Uri| async move { Error::NotFound(uri.path().to_owned()) })
        .method_not_allowed_fallback(|| async { Error::MethodNotAllowed("see docs/api.md") })
        // Bodies are bounded where they are read, together with the memory of all requests.
        .layer(DefaultBodyLimit::disable())
        .layer(axum::middleware::from_fn_with_state(gateway.clone(), context::around))
        .layer(axum::middleware::from_fn(leftover::around));
    (app, reporter)
}
