//! The body of a recording, however it was sent: raw bytes, a form with a file, or JSON with an address.
//!
//! Out: the bytes with the memory they were granted, and all parameters in one place (query, form fields, JSON
//! fields). Bodies are read with a limit, an idle time-out and the budget of all requests.

use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::extract::{FromRequest, Multipart, Request};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use bytes::Bytes;
use futures::StreamExt as _;

use super::context::query;
use crate::audio::pool::Lease;
use crate::audio::raw::RawFormat;
use crate::error::Error;
use crate::request::{self, Params};
use crate::serve::Gateway;

/// Largest form field that is not a file, and largest JSON body, bytes.
const MAX_FIELD_BYTES: u64 = 64 * 1024;
/// Most fields of a form.
const MAX_FIELDS: usize = 64;

/// A recording as it came.
#[derive(Debug)]
pub struct Upload {
    /// Everything named: query, form and JSON.
    pub params: Params,
    /// How the content type says the bytes are to be read.
    pub content: Option<RawFormat>,
    /// The bytes and their memory.
    pub body: (Bytes, Lease),
    /// File name, where one was told: of a form or an address.
    pub file_name: Option<String>,
}

enum BodyKind {
    Audio(Option<RawFormat>),
    Form,
    Json,
}

/// Reads a request's body.
pub async fn read(gateway: &Gateway, request: Request) -> Result<Upload, Error> {
    let content_type = request.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let kind = kind(content_type)?;
    let limit = gateway.config.limits.max_body_bytes;
    let length = request.headers().get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|l| l > limit) {
        return Err(Error::BodyTooLarge { limit_bytes: limit });
    }
    match kind {
        BodyKind::Audio(content) => {
            let params = query(request.uri())?;
            let body = read_all(gateway, request.into_body(), limit).await?;
            Ok(Upload { params, content, body, file_name: None })
        }
        BodyKind::Json => json(gateway, request).await,
        BodyKind::Form => form(gateway, request).await,
    }
}

fn kind(content_type: &str) -> Result<BodyKind, Error> {
    let media = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match media.as_str() {
        "" | "application/octet-stream" | "application/ogg" => Ok(BodyKind::Audio(None)),
        "application/json" => Ok(BodyKind::Json),
        "multipart/form-data" => Ok(BodyKind::Form),
        _ if media.starts_with("audio/") || media.starts_with("video/") => {
            Ok(BodyKind::Audio(request::raw_content(content_type)))
        }
        _ => Err(Error::UnsupportedContentType(media.chars().take(100).collect())),
    }
}

/// `{"url": …}`; all its other fields are parameters.
async fn json(gateway: &Gateway, request: Request) -> Result<Upload, Error> {
    let mut pairs = pairs(&request)?;
    let (bytes, _) = read_all(gateway, request.into_body(), MAX_FIELD_BYTES).await?;
    let fields: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(&bytes).map_err(|e| Error::InvalidMessage(format!("the JSON body: {e}")))?;
    pairs.extend(fields.into_iter().filter_map(|(name, value)| match value {
        serde_json::Value::String(text) => Some((name, text)),
        serde_json::Value::Bool(_) | serde_json::Value::Number(_) => Some((name, value.to_string())),
        _ => None,
    }));
    let params = Params::new(pairs);
    let url = params.get("url").ok_or(Error::MissingParameter("url"))?.to_owned();
    let (body, file_name) = fetch(gateway, &url).await?;
    Ok(Upload { params, content: None, body, file_name })
}

/// The recording behind an address, and its file name.
pub async fn fetch(gateway: &Gateway, url: &str) -> Result<((Bytes, Lease), Option<String>), Error> {
    let limits = &gateway.config.limits;
    let (response, name) = gateway.fetcher.get(url).await?;
    let lease = gateway.budget.lease();
    Ok((read_stream(lease, response, limits.max_body_bytes, limits.idle_timeout_ms).await?, name))
}

/// `multipart/form-data` with the recording in `audio` or `file`.
async fn form(gateway: &Gateway, request: Request) -> Result<Upload, Error> {
    let mut pairs = pairs(&request)?;
    let broken = |e: &dyn std::fmt::Display| Error::InvalidMessage(format!("the form: {e}"));
    let mut form = Multipart::from_request(request, &()).await.map_err(|e| broken(&e.body_text()))?;
    let limits = &gateway.config.limits;
    let mut upload = None;
    while let Some(field) =
        timed(limits.idle_timeout_ms, form.next_field()).await?.map_err(|e| broken(&e.body_text()))?
    {
        let name = field.name().unwrap_or_default().to_owned();
        if name == "audio" || name == "file" {
            let file_name = field.file_name().map(str::to_owned);
            let content = field.content_type().and_then(request::raw_content);
            let stream = field.map(|chunk| chunk.map_err(|e| broken(&e.body_text())));
            let lease = gateway.budget.lease();
            let body = read_stream(lease, stream, limits.max_body_bytes, limits.idle_timeout_ms).await?;
            upload = Some((body, content, file_name));
        } else if pairs.len() < MAX_FIELDS {
            let stream = field.map(|chunk| chunk.map_err(|e| broken(&e.body_text())));
            let (bytes, _) =
                read_stream(gateway.budget.lease(), stream, MAX_FIELD_BYTES, limits.idle_timeout_ms).await?;
            pairs.push((name, String::from_utf8_lossy(&bytes).into_owned()));
        }
    }
    let (body, content, file_name) = upload.ok_or(Error::AudioMissing)?;
    Ok(Upload { params: Params::new(pairs), content, body, file_name })
}

fn pairs(request: &Request) -> Result<Vec<(String, String)>, Error> {
    Ok(query(request.uri())?.into_pairs())
}

async fn read_all(gateway: &Gateway, body: Body, limit: u64) -> Result<(Bytes, Lease), Error> {
    let stream: BodyDataStream = body.into_data_stream();
    let stream = stream.map(|chunk| chunk.map_err(|_| Error::ClientGone));
    read_stream(gateway.budget.lease(), stream, limit, gateway.config.limits.idle_timeout_ms).await
}

/// Reads a stream of bytes to its end, within its limits.
async fn read_stream(
    mut lease: Lease,
    stream: impl futures::Stream<Item = Result<Bytes, Error>>,
    limit: u64,
    idle: Duration,
) -> Result<(Bytes, Lease), Error> {
    tokio::pin!(stream);
    let mut all = Vec::new();
    while let Some(chunk) = timed(idle, stream.next()).await? {
        let chunk = chunk?;
        if all.len() as u64 + chunk.len() as u64 > limit {
            return Err(Error::BodyTooLarge { limit_bytes: limit });
        }
        lease.grow(chunk.len() as u64)?;
        all.extend_from_slice(&chunk);
    }
    Ok((Bytes::from(all), lease))
}

async fn timed<T>(idle: Duration, future: impl Future<Output = T>) -> Result<T, Error> {
    tokio::time::timeout(idle, future).await.map_err(|_| Error::RequestTimeout(idle))
}
