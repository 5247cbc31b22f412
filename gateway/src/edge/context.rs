//! What goes around every request: its id, its span, its key, the limit on headers, and the bodies of errors.
//!
//! Handlers return [`Error`]; this turns it into the JSON of its path's family, with the request id that only
//! this layer knows. The query never reaches a log: it may hold a key.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{FromRequestParts, Query, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use metrics::counter;
use tracing::Instrument as _;

use super::{MAX_HEADER_BYTES, grpc};
use crate::error::Error;
use crate::request::{Params, RequestId};
use crate::serve::Gateway;

/// Header of request ids, both ways.
pub const X_REQUEST_ID: &str = "x-request-id";

/// What every handler may know of its request.
#[derive(Debug, Clone)]
pub struct Context {
    /// Its id.
    pub id: RequestId,
    /// The key it came with.
    pub key: Option<Arc<str>>,
}

impl Context {
    /// The key, for [`Gateway::enter`].
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }
}

impl<S: Sync> FromRequestParts<S> for Context {
    type Rejection = Error;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Error> {
        parts.extensions.get().cloned().ok_or(Error::Internal("the context layer is missing"))
    }
}

/// The query of a request.
impl<S: Sync> FromRequestParts<S> for Params {
    type Rejection = Error;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Error> {
        query(&parts.uri)
    }
}

/// Reads a query.
pub fn query(uri: &Uri) -> Result<Params, Error> {
    let pairs = Query::<Vec<(String, String)>>::try_from_uri(uri);
    let Query(pairs) = pairs.map_err(|e| Error::InvalidMessage(format!("the query: {}", e.body_text())))?;
    Ok(Params::new(pairs))
}

/// The error of a response, for the layer below.
#[derive(Clone)]
struct Failed(Arc<Error>);

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let mut response = self.facts().status.into_response();
        response.extensions_mut().insert(Failed(Arc::new(self)));
        response
    }
}

/// The layer.
pub async fn around(State(gateway): State<Arc<Gateway>>, mut request: Request, next: Next) -> Response {
    let headers = request.headers();
    let given = headers.get(X_REQUEST_ID).and_then(|v| v.to_str().ok());
    let id = RequestId::accept(given);
    let context = Context { id: id.clone(), key: key(headers, request.uri()) };
    let path = request.uri().path().to_owned();
    let is_grpc = grpc::speaks(headers);
    let span = tracing::info_span!("request", method = %request.method(), path, request_id = id.as_str());
    if let Some(parent) = headers.get("traceparent").and_then(|v| v.to_str().ok()) {
        telemetry::trace::follow(&span, parent);
    }
    let size: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    let size = size + request.uri().path_and_query().map_or(0, |p| p.as_str().len());
    request.extensions_mut().insert(context);

    let start = Instant::now();
    let mut response = if size > MAX_HEADER_BYTES {
        Error::HeaderTooLarge { limit_bytes: MAX_HEADER_BYTES }.into_response()
    } else {
        next.run(request).instrument(span.clone()).await
    };
    if let Some(Failed(error)) = response.extensions_mut().remove() {
        count(&error);
        response = if is_grpc { grpc::render(&error, id.as_str()) } else { render(&error, &path, &id) };
    }
    if let Ok(value) = HeaderValue::from_str(id.as_str()) {
        response.headers_mut().insert(X_REQUEST_ID, value);
    }
    if gateway.door.is_draining() && response.version() < axum::http::Version::HTTP_2 {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    let elapsed_ms = start.elapsed().as_secs_f64() * 1e3;
    let status = response.status().as_u16();
    // Probes and scrapes come every second; whoever wants to see them asks for it.
    if path.contains("health") || path == "/metrics" {
        span.in_scope(|| tracing::debug!(status, elapsed_ms, "answered"));
    } else {
        span.in_scope(|| tracing::info!(status, elapsed_ms, "answered"));
    }
    response
}

/// Counts a failed request or stream, and logs the failures that are ours.
pub fn count(error: &Error) {
    let facts = error.facts();
    counter!("gateway_errors_total", "reason" => facts.reason).increment(1);
    if facts.status.is_server_error() {
        let source = std::error::Error::source(error).map(ToString::to_string);
        tracing::warn!(reason = facts.reason, %error, source, "a request failed");
    } else {
        tracing::debug!(reason = facts.reason, %error, "a request was refused");
    }
}

fn render(error: &Error, path: &str, id: &RequestId) -> Response {
    let facts = error.facts();
    let openai = path.starts_with("/v1/audio/") || path.starts_with("/v1/models");
    let body = if openai { error.openai_body() } else { error.body(id.as_str()) };
    let mut response = (facts.status, axum::Json(body)).into_response();
    if let Some(after) = facts.retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(after.as_secs()));
    }
    if facts.status == axum::http::StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// `Authorization: Bearer <key>`, `Authorization: Token <key>`, or `?token=<key>` for browsers.
fn key(headers: &HeaderMap, uri: &Uri) -> Option<Arc<str>> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| {
        let (scheme, key) = value.to_str().ok()?.split_once(' ')?;
        let known = scheme.eq_ignore_ascii_case("bearer") || scheme.eq_ignore_ascii_case("token");
        known.then(|| key.trim().into())
    });
    bearer.or_else(|| query(uri).ok()?.get("token").map(Into::into))
}
