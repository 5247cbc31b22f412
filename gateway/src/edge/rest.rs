//! REST: a recording in, its transcript out as JSON.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use metrics::counter;
use serde_json::Value;

use super::context::Context;
use super::upload;
use super::words::{self, Asked};
use crate::admit::Kind;
use crate::dispatch::{self, Answer};
use crate::error::Error;
use crate::serve::Gateway;

/// `POST …/get_text` and `/waves/v1/stt/`.
pub async fn get_text(
    State(gateway): State<Arc<Gateway>>,
    context: Context,
    request: Request,
) -> Result<Json<Value>, Error> {
    answer(&gateway, &context, request, words::get_text).await
}

/// `POST /v1/listen`.
pub async fn listen(
    State(gateway): State<Arc<Gateway>>,
    context: Context,
    request: Request,
) -> Result<Json<Value>, Error> {
    answer(&gateway, &context, request, words::listen).await
}

async fn answer(
    gateway: &Arc<Gateway>,
    context: &Context,
    request: Request,
    render: fn(&Answer, Asked<'_>) -> Value,
) -> Result<Json<Value>, Error> {
    counter!("gateway_requests_total", "edge" => "rest").increment(1);
    let admitted = gateway.enter(Kind::Batch, context.key())?;
    let upload = upload::read(gateway, request).await?;
    let batch = upload.params.batch(upload.content)?;
    let word_timestamps = batch.wanted.word_timestamps;
    let answer = dispatch::recognize(gateway, admitted, batch, upload.body).await?;
    let file_name = upload.file_name.as_deref();
    Ok(Json(render(&answer, Asked { request_id: context.id.as_str(), word_timestamps, file_name })))
}
