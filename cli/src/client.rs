//! The public API from a client's side: gRPC for live audio and short recordings, REST for files.
//!
//! Comes in: where the service is, audio, what is wanted. Goes out: the service's responses, or a
//! [`ClientError`] that says whether the service was unreachable, refused, or could not use the audio.

pub mod rest;
pub mod session;
pub mod timeline;

use crate::args::Service;
use crate::error::exit;
use prost::Message;
use proto::speech::v1::speech_client::SpeechClient;
use proto::speech::v1::{ErrorDetail, RecognizeRequest, RecognizeResponse};
use std::time::Duration;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

/// Waiting for a connection.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// The largest answer that is read.
const LARGEST_ANSWER_BYTES: usize = 64 << 20;

/// gRPC stub that sends the API key with every call.
pub type Stub = SpeechClient<InterceptedService<Channel, SendKey>>;

/// Why a call brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address is no address, or the key cannot be sent.
    #[error("failed to use {what}: {detail}")]
    UseSettings {
        /// Which setting.
        what: &'static str,
        /// What is wrong with it.
        detail: String,
    },
    /// Nothing answers there.
    #[error(
        "failed to reach {url}: nothing answers there; start a service with `smallest up -f FILE` or name one with --url"
    )]
    Reach {
        /// The address.
        url: String,
        /// The transport's word.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The service said no.
    #[error("failed to recognize speech: {message} ({reason})")]
    Recognize {
        /// Kind of failure, as gRPC counts them.
        code: Code,
        /// The service's stable word.
        reason: String,
        /// The service's message.
        message: String,
    },
}

impl ClientError {
    /// A stable word for logs and JSON.
    pub fn reason(&self) -> &str {
        match self {
            Self::UseSettings { .. } => "UseSettings",
            Self::Reach { .. } => "Reach",
            Self::Recognize { reason, .. } => reason,
        }
    }

    /// The exit code that goes with it.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::UseSettings { .. } => exit::FAILED,
            Self::Reach { .. } => exit::UNREACHABLE,
            Self::Recognize { code, .. } => match code {
                Code::Unauthenticated
                | Code::PermissionDenied
                | Code::ResourceExhausted
                | Code::Unavailable => exit::REFUSED,
                Code::InvalidArgument | Code::OutOfRange | Code::NotFound | Code::Unimplemented => {
                    exit::BAD_INPUT
                }
                _ => exit::FAILED,
            },
        }
    }

    /// From a gRPC status; a transport that broke before an answer counts as unreachable.
    pub fn of_status(status: Status, url: &str) -> Self {
        if status.code() == Code::Unavailable && std::error::Error::source(&status).is_some() {
            return Self::Reach { url: url.to_owned(), source: Box::new(status) };
        }
        let detail = detail_of(&status);
        let reason = if detail.reason.is_empty() { format!("{:?}", status.code()) } else { detail.reason };
        Self::Recognize { code: status.code(), reason, message: status.message().to_owned() }
    }
}

/// The service's own words, among the details that the status carries in the form of `google.rpc.Status`.
fn detail_of(status: &Status) -> ErrorDetail {
    let rich = tonic_types::pb::Status::decode(status.details()).unwrap_or_default();
    let ours = rich.details.iter().find(|any| any.type_url.ends_with("/smallest.speech.v1.ErrorDetail"));
    ours.and_then(|any| ErrorDetail::decode(any.value.as_slice()).ok()).unwrap_or_default()
}

/// Adds `authorization: Bearer …` to calls.
#[derive(Debug, Clone)]
pub struct SendKey(Option<MetadataValue<Ascii>>);

impl Interceptor for SendKey {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(key) = &self.0 {
            request.metadata_mut().insert("authorization", key.clone());
        }
        Ok(request)
    }
}

/// Connects to the gateway's gRPC side.
pub async fn connect(service: &Service) -> Result<Stub, ClientError> {
    if service.url.starts_with("https:") {
        let detail =
            "this version streams over http only: use an address inside the network, or send whole files";
        return Err(ClientError::UseSettings { what: "the address", detail: detail.into() });
    }
    let endpoint = Endpoint::from_shared(service.url.clone())
        .map_err(|error| ClientError::UseSettings { what: "the address", detail: error.to_string() })?
        .connect_timeout(CONNECT_PATIENCE)
        .tcp_nodelay(true);
    let key = match &service.api_key {
        None => None,
        Some(key) => {
            Some(MetadataValue::try_from(format!("Bearer {key}")).map_err(|_| ClientError::UseSettings {
                what: "the API key",
                detail: "it holds characters that no header can carry".into(),
            })?)
        }
    };
    let channel = endpoint
        .connect()
        .await
        .map_err(|source| ClientError::Reach { url: service.url.clone(), source: source.into() })?;
    Ok(SpeechClient::with_interceptor(channel, SendKey(key)).max_decoding_message_size(LARGEST_ANSWER_BYTES))
}

/// Sends one recording over gRPC and waits for its text.
pub async fn recognize(
    mut stub: Stub,
    request: RecognizeRequest,
    url: &str,
) -> Result<RecognizeResponse, ClientError> {
    let answer = stub.recognize(request).await.map_err(|status| ClientError::of_status(status, url))?;
    Ok(answer.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_services_own_words_reach_the_person() {
        let detail = ErrorDetail { reason: "QueueFull".into(), ..Default::default() };
        let any = prost_types::Any {
            type_url: "type.googleapis.com/smallest.speech.v1.ErrorDetail".into(),
            value: detail.encode_to_vec(),
        };
        let rich = tonic_types::pb::Status { details: vec![any], ..Default::default() };
        let status = Status::with_details(Code::ResourceExhausted, "too many", rich.encode_to_vec().into());
        let error = ClientError::of_status(status, "http://x");
        assert_eq!(error.reason(), "QueueFull");
        assert_eq!(error.exit_code(), exit::REFUSED);
        assert_eq!(error.to_string(), "failed to recognize speech: too many (QueueFull)");
    }

    #[tokio::test]
    async fn nobody_there_is_unreachable() {
        let port = crate::up::ports::find_free(1).unwrap()[0];
        let service = Service { url: format!("http://127.0.0.1:{port}"), api_key: None };
        assert_eq!(connect(&service).await.unwrap_err().exit_code(), exit::UNREACHABLE);
    }
}
