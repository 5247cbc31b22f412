//! The one table from failure to HTTP status, gRPC code, WebSocket close code and retry advice.
//!
//! Every module of the gateway fails with [`Error`]; every edge renders [`Error::facts`] in its own shape.
//! Nothing here knows a protocol's bytes beyond the JSON body that all HTTP edges share.

use std::time::Duration;

use axum::http::StatusCode;
use queue::job::{WorkError, WorkErrorKind};
use queue::port::QueueError;
use serde_json::json;
use tonic::Code;

/// Containers and raw encodings that can be read, as told to clients.
pub const SUPPORTED_FORMATS: [&str; 11] =
    ["wav", "flac", "mp3", "ogg", "mp4", "webm", "linear16", "linear32", "mulaw", "alaw", "opus"];

/// Why a request or stream failed, as told to its caller.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request holds no audio.
    #[error("failed to find audio in the request: send the bytes of a recording")]
    AudioMissing,
    /// A parameter that must be there is not.
    #[error("failed to find parameter {0:?}")]
    MissingParameter(&'static str),
    /// A parameter has a value that cannot be read.
    #[error("failed to read parameter {name:?}: {detail}")]
    InvalidParameter {
        /// Name of the parameter.
        name: &'static str,
        /// What is wrong and what would be right.
        detail: String,
    },
    /// A body or message is not what the protocol asks for.
    #[error("failed to read the message: {0}")]
    InvalidMessage(String),
    /// The content type is not audio.
    #[error(
        "failed to accept content type {0:?}: send audio/*, application/octet-stream, or JSON with a url"
    )]
    UnsupportedContentType(String),
    /// The bytes are not audio of a known format.
    #[error("failed to recognize the audio format: {0}")]
    UnsupportedFormat(String),
    /// The audio is of a known format, but broken.
    #[error("failed to decode the audio: {0}")]
    InvalidAudio(String),
    /// A header promises more audio than there is.
    #[error("failed to decode the audio: it is truncated: {0}")]
    TruncatedAudio(String),
    /// The body or message is larger than allowed.
    #[error("failed to accept the body: it is larger than {limit_bytes} bytes")]
    BodyTooLarge {
        /// Limit in bytes.
        limit_bytes: u64,
    },
    /// The recording is longer than allowed.
    #[error("failed to accept the recording: it is longer than {limit_s} seconds")]
    AudioTooLong {
        /// Limit in seconds.
        limit_s: u64,
    },
    /// Headers are longer than allowed.
    #[error("failed to accept the headers: they are longer than {limit_bytes} bytes")]
    HeaderTooLarge {
        /// Limit in bytes.
        limit_bytes: usize,
    },
    /// The client took too long to send its request.
    #[error("failed to read the request: nothing came for {0:?}")]
    RequestTimeout(Duration),
    /// No key was given and one is needed.
    #[error("Unauthorized: No tokens provided")]
    KeyMissing,
    /// The key is not one of ours.
    #[error("unauthorized: the API key is not valid")]
    KeyInvalid,
    /// The license is not valid.
    #[error("the license is not valid: {0}")]
    LicenseInvalid(String),
    /// The license has expired.
    #[error("the license has expired: {0}")]
    LicenseExpired(String),
    /// The license does not allow this.
    #[error("the license does not allow this: {0}")]
    LicenseDenied(String),
    /// No decision about the license is known.
    #[error("failed to learn the license decision: {0}")]
    LicenseUnknown(String),
    /// A limit of this gateway is reached.
    #[error("failed to accept more {what}: the limit of {limit} is reached")]
    Overloaded {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// The waiting line is full.
    #[error("failed to queue: {waiting} already wait, the limit is {limit}")]
    QueueFull {
        /// Waiting now.
        waiting: u64,
        /// The limit.
        limit: u64,
    },
    /// No worker took the work in time.
    #[error("failed to find a free worker within {0:?}")]
    QueueTimeout(Duration),
    /// The queue cannot be reached.
    #[error("failed to reach the queue")]
    QueueUnavailable(#[source] Option<Box<dyn std::error::Error + Send + Sync>>),
    /// This gateway is shutting down.
    #[error("this gateway is shutting down: connect again")]
    Draining,
    /// The answer did not come in time.
    #[error("failed to answer within {0:?}")]
    DeadlineExceeded(Duration),
    /// Something a worker found.
    #[error("{}", .0.message)]
    Work(WorkError),
    /// The client reads its results more slowly than they come.
    #[error("the client does not read its results: {0} wait")]
    SlowClient(usize),
    /// The client is gone.
    #[error("the client is gone")]
    ClientGone,
    /// Nothing came from the client for too long.
    #[error("nothing came from the client for {0:?}")]
    IdleTimeout(Duration),
    /// The session to come back to is not known.
    #[error("failed to find session {0:?}: it ended or its time ran out")]
    SessionNotFound(String),
    /// Another connection came back to this session.
    #[error("another connection took this session over")]
    SessionTaken,
    /// The queue forgot the session while it ran.
    #[error("failed to keep the session: the queue no longer knows it; start a new one")]
    SessionLost,
    /// Fetching addresses is switched off.
    #[error(
        "failed to fetch the url: this deployment does not allow it (ALLOW_URL_FETCH); send the audio itself"
    )]
    UrlFetchDisabled,
    /// The address could not be fetched.
    #[error("failed to fetch the url: {0}")]
    FetchUrl(String),
    /// There is no such path.
    #[error("failed to find {0}")]
    NotFound(String),
    /// The path exists, but not with this method.
    #[error("failed to use this method here; allowed: {0}")]
    MethodNotAllowed(&'static str),
    /// A bug of ours.
    #[error("internal error: {0}")]
    Internal(&'static str),
}

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Stable word: metric label, `reason` of bodies and of gRPC `ErrorDetail`.
    pub reason: &'static str,
    /// Code in the published upper-case style.
    pub code: &'static str,
    /// HTTP status.
    pub status: StatusCode,
    /// gRPC code.
    pub grpc: Code,
    /// WebSocket close code, for failures after the upgrade.
    pub close: u16,
    /// When trying again may help.
    pub retry_after: Option<Duration>,
}

const SOON: Option<Duration> = Some(Duration::from_secs(1));
const LATER: Option<Duration> = Some(Duration::from_secs(5));
const NEVER: Option<Duration> = None;

fn row(
    reason: &'static str,
    code: &'static str,
    status: u16,
    (grpc, close): (Code, u16),
    retry_after: Option<Duration>,
) -> Facts {
    let status = StatusCode::from_u16(status).expect("the table holds valid statuses only");
    Facts { reason, code, status, grpc, close, retry_after }
}

/// gRPC code and WebSocket close code of the common kinds of failure.
const INPUT: (Code, u16) = (Code::InvalidArgument, 1007);
const POLICY: (Code, u16) = (Code::PermissionDenied, 1008);
const BUSY: (Code, u16) = (Code::ResourceExhausted, 1008);
const AWAY: (Code, u16) = (Code::Unavailable, 1013);
const BROKEN: (Code, u16) = (Code::Internal, 1011);

impl Error {
    /// The row of the table.
    pub fn facts(&self) -> Facts {
        match self {
            Self::AudioMissing => row("AudioMissing", "MISSING_PARAMETER", 400, INPUT, NEVER),
            Self::MissingParameter(_) => row("MissingParameter", "MISSING_PARAMETER", 400, INPUT, NEVER),
            Self::InvalidParameter { .. } => row("InvalidParameter", "INVALID_PARAMETER", 400, INPUT, NEVER),
            Self::InvalidMessage(_) => {
                row("InvalidMessage", "INVALID_MESSAGE", 400, (Code::InvalidArgument, 1003), NEVER)
            }
            Self::UnsupportedContentType(_) => {
                row("UnsupportedContentType", "UNSUPPORTED_FORMAT", 415, INPUT, NEVER)
            }
            Self::UnsupportedFormat(_) => row("UnsupportedFormat", "UNSUPPORTED_FORMAT", 415, INPUT, NEVER),
            Self::InvalidAudio(_) => row("InvalidAudio", "INVALID_AUDIO", 400, INPUT, NEVER),
            Self::TruncatedAudio(_) => row("TruncatedAudio", "INVALID_AUDIO", 400, INPUT, NEVER),
            Self::BodyTooLarge { .. } => {
                row("BodyTooLarge", "FILE_TOO_LARGE", 413, (Code::InvalidArgument, 1009), NEVER)
            }
            Self::AudioTooLong { .. } => {
                row("AudioTooLong", "AUDIO_TOO_LONG", 413, (Code::InvalidArgument, 1009), NEVER)
            }
            Self::HeaderTooLarge { .. } => row("HeaderTooLarge", "HEADER_TOO_LARGE", 431, INPUT, NEVER),
            Self::RequestTimeout(_) => {
                row("RequestTimeout", "REQUEST_TIMEOUT", 408, (Code::DeadlineExceeded, 1008), NEVER)
            }
            Self::KeyMissing => row("KeyMissing", "UNAUTHORIZED", 401, (Code::Unauthenticated, 1008), NEVER),
            Self::KeyInvalid => row("KeyInvalid", "UNAUTHORIZED", 401, (Code::Unauthenticated, 1008), NEVER),
            Self::LicenseInvalid(_) => row("LicenseInvalid", "INVALID_LICENSE", 401, POLICY, NEVER),
            Self::LicenseExpired(_) => row("LicenseExpired", "LICENSE_EXPIRED", 403, POLICY, NEVER),
            Self::LicenseDenied(_) => row("LicenseDenied", "LICENSE_DENIED", 403, POLICY, NEVER),
            Self::LicenseUnknown(_) => row("LicenseUnknown", "SERVICE_UNAVAILABLE", 503, AWAY, LATER),
            Self::Overloaded { .. } => row("Overloaded", "RATE_LIMIT_EXCEEDED", 429, BUSY, SOON),
            Self::QueueFull { .. } => row("QueueFull", "RATE_LIMIT_EXCEEDED", 429, BUSY, LATER),
            Self::QueueTimeout(_) => row("QueueTimeout", "QUEUE_TIMEOUT", 503, AWAY, LATER),
            Self::QueueUnavailable(_) => row("QueueUnavailable", "SERVICE_UNAVAILABLE", 503, AWAY, LATER),
            Self::Draining => row("Draining", "SERVICE_UNAVAILABLE", 503, (Code::Unavailable, 1012), SOON),
            Self::DeadlineExceeded(_) => {
                row("DeadlineExceeded", "DEADLINE_EXCEEDED", 504, (Code::DeadlineExceeded, 1011), LATER)
            }
            Self::Work(e) => work_facts(e.kind),
            Self::SlowClient(_) => row("SlowClient", "SLOW_CLIENT", 429, BUSY, NEVER),
            Self::ClientGone => row("ClientGone", "CLIENT_GONE", 499, (Code::Cancelled, 1001), NEVER),
            Self::IdleTimeout(_) => {
                row("IdleTimeout", "IDLE_TIMEOUT", 408, (Code::DeadlineExceeded, 1008), NEVER)
            }
            Self::SessionNotFound(_) => {
                row("SessionNotFound", "SESSION_NOT_FOUND", 404, (Code::NotFound, 1008), NEVER)
            }
            Self::SessionTaken => row("SessionTaken", "SESSION_TAKEN", 409, (Code::Aborted, 1008), NEVER),
            Self::SessionLost => row("SessionLost", "SESSION_LOST", 503, AWAY, SOON),
            Self::UrlFetchDisabled => row("UrlFetchDisabled", "URL_FETCH_DISABLED", 403, POLICY, NEVER),
            Self::FetchUrl(_) => row("FetchUrl", "URL_FETCH_FAILED", 400, INPUT, NEVER),
            Self::NotFound(_) => row("NotFound", "NOT_FOUND", 404, (Code::Unimplemented, 1008), NEVER),
            Self::MethodNotAllowed(_) => {
                row("MethodNotAllowed", "METHOD_NOT_ALLOWED", 405, (Code::Unimplemented, 1008), NEVER)
            }
            Self::Internal(_) => row("Internal", "INTERNAL", 500, BROKEN, NEVER),
        }
    }

    /// A stable word for metrics, logs and error bodies.
    pub fn reason(&self) -> &'static str {
        self.facts().reason
    }

    /// The JSON body of all HTTP edges but that of `OpenAI`: every name that published clients look for.
    pub fn body(&self, request_id: &str) -> serde_json::Value {
        let facts = self.facts();
        let message = self.to_string();
        let mut body = json!({
            "status": "error",
            "error": message,
            "message": message,
            "code": facts.code,
            "error_code": facts.code,
            "reason": facts.reason,
            "request_id": request_id,
        });
        if let Some(after) = facts.retry_after {
            body["retry_after"] = json!(after.as_secs());
        }
        match self {
            Self::UnsupportedContentType(_) | Self::UnsupportedFormat(_) => {
                body["supported_formats"] = json!(SUPPORTED_FORMATS);
            }
            Self::BodyTooLarge { limit_bytes } => body["max_size_mb"] = json!(limit_bytes / 1_000_000),
            _ => {}
        }
        body
    }

    /// The body in the shape of `OpenAI`.
    pub fn openai_body(&self) -> serde_json::Value {
        let facts = self.facts();
        let kind = match facts.status.as_u16() {
            401 | 403 => "authentication_error",
            429 => "rate_limit_error",
            400..=499 => "invalid_request_error",
            _ => "server_error",
        };
        let param = match self {
            Self::InvalidParameter { name, .. } | Self::MissingParameter(name) => Some(*name),
            Self::AudioMissing => Some("file"),
            _ => None,
        };
        json!({"error": {"message": self.to_string(), "type": kind, "param": param, "code": facts.code}})
    }
}

fn work_facts(kind: WorkErrorKind) -> Facts {
    let reason = kind.reason();
    match kind {
        WorkErrorKind::UnknownModel => row(reason, "UNKNOWN_MODEL", 404, (Code::NotFound, 1008), NEVER),
        WorkErrorKind::UnknownLanguage => row(reason, "UNSUPPORTED_LANGUAGE", 400, INPUT, NEVER),
        WorkErrorKind::UnsupportedOption => row(reason, "INVALID_PARAMETER", 400, INPUT, NEVER),
        WorkErrorKind::AudioLost => row(reason, "AUDIO_LOST", 503, AWAY, SOON),
        WorkErrorKind::AttemptsExhausted => row(reason, "ATTEMPTS_EXHAUSTED", 500, BROKEN, NEVER),
        WorkErrorKind::DeadlineExceeded => {
            row(reason, "DEADLINE_EXCEEDED", 504, (Code::DeadlineExceeded, 1011), LATER)
        }
        WorkErrorKind::Cancelled => row(reason, "CANCELLED", 499, (Code::Cancelled, 1001), NEVER),
        WorkErrorKind::LicenseDenied => row(reason, "LICENSE_DENIED", 403, POLICY, NEVER),
        WorkErrorKind::IdleTimeout => row(reason, "IDLE_TIMEOUT", 408, (Code::DeadlineExceeded, 1008), NEVER),
        WorkErrorKind::Engine => row(reason, "INTERNAL", 500, BROKEN, SOON),
    }
}

impl From<WorkError> for Error {
    fn from(e: WorkError) -> Self {
        Self::Work(e)
    }
}

impl From<QueueError> for Error {
    fn from(e: QueueError) -> Self {
        match e {
            QueueError::Full { waiting, limit } => Self::QueueFull { waiting, limit },
            e => Self::QueueUnavailable(Some(Box::new(e))),
        }
    }
}

#[cfg(test)]
mod tests;
