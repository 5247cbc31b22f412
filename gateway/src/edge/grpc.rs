//! gRPC: `smallest.speech.v1.Speech`, `grpc.health.v1` and reflection.
//!
//! Admission comes as a layer before the body is read, so that what is refused costs nothing, and [`incoming`] watches
//! the body from there on. Errors carry an `ErrorDetail` and, where waiting helps, a `RetryInfo` in their status details.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request as HttpRequest, State};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::Next;
use axum::response::Response as HttpResponse;
use bytes::Bytes;
use futures::Stream;
use metrics::counter;
use prost::Message as _;
use proto::speech::v1 as pb;
use proto::speech::v1::speech_server::{Speech, SpeechServer};
use tokio::sync::mpsc;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};
use tonic_health::server::HealthReporter;

use self::convert::{batch, live, recognized, told};
use self::incoming::{Incoming, malformed};
use super::context::{Context, X_REQUEST_ID, count};
use crate::admit::{Admitted, Kind};
use crate::audio::pool::Lease;
use crate::dispatch;
use crate::error::Error;
use crate::live::{Input, LiveCall, MAX_CHUNK_BYTES};
use crate::serve::Gateway;

mod convert;
mod incoming;

const RECOGNIZE: &str = "/smallest.speech.v1.Speech/Recognize";
const STREAM: &str = "/smallest.speech.v1.Speech/StreamingRecognize";

/// Room of a message beside its audio, bytes.
const MESSAGE_EXTRA: usize = 64 * 1024;

/// The routes, and the reporter of health.
pub fn router(gateway: &Arc<Gateway>) -> (Router, HealthReporter) {
    let (reporter, health) = tonic_health::server::health_reporter();
    let speech = |audio_bytes: usize| {
        let service = SpeechServer::new(Service { gateway: gateway.clone() });
        service.max_decoding_message_size(audio_bytes + MESSAGE_EXTRA)
    };
    let mut routes = Routes::new(speech(gateway.config.limits.max_body_bytes as usize)).add_service(health);
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1();
    match reflection {
        Ok(reflection) => routes = routes.add_service(reflection),
        Err(e) => tracing::warn!(error = %e, "reflection is not served"),
    }
    let admit = axum::middleware::from_fn_with_state(gateway.clone(), admit);
    // A message of a live stream is a chunk: it is held before anybody can refuse it, so it gets a limit of its own.
    let routes = routes.into_axum_router().route_service(STREAM, speech(MAX_CHUNK_BYTES));
    (routes.reset_fallback().layer(admit), reporter)
}

/// Lets speech calls in before their body is read; everything else passes.
async fn admit(State(gateway): State<Arc<Gateway>>, mut request: HttpRequest, next: Next) -> HttpResponse {
    let kind = match request.uri().path() {
        RECOGNIZE => Kind::Batch,
        STREAM => Kind::Live,
        _ => return next.run(request).await,
    };
    counter!("gateway_requests_total", "edge" => "grpc").increment(1);
    let context = request.extensions().get::<Context>().cloned();
    let id = context.as_ref().map(|c| c.id.as_str().to_owned()).unwrap_or_default();
    match gateway.enter(kind, context.as_ref().and_then(Context::key)) {
        Ok(admitted) => drop(request.extensions_mut().insert(admitted)),
        Err(e) => return status(&e, &id).into_http(),
    }
    if matches!(kind, Kind::Live) {
        return next.run(request).await;
    }
    let (mut parts, body) = request.into_parts();
    let (incoming, body) = Incoming::watch(&gateway, body);
    parts.extensions.insert(incoming.clone());
    let response = next.run(HttpRequest::from_parts(parts, body)).await;
    let told = Status::from_header_map(response.headers());
    match incoming.failure(told.as_ref(), gateway.config.limits.max_body_bytes) {
        Some(e) => status(&e, &id).into_http(),
        None => response,
    }
}

/// True for requests whose errors are to be gRPC statuses.
pub fn speaks(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// An error of the layers around all edges, as an answer to a gRPC call.
pub fn render(error: &Error, request_id: &str) -> HttpResponse {
    described(error, request_id).into_http()
}

/// An error as a gRPC status; it is counted.
fn status(error: &Error, request_id: &str) -> Status {
    count(error);
    described(error, request_id)
}

fn described(error: &Error, request_id: &str) -> Status {
    let facts = error.facts();
    let detail = pb::ErrorDetail {
        reason: facts.reason.to_owned(),
        request_id: request_id.to_owned(),
        retry_after_ms: facts.retry_after.map_or(0, |d| d.as_millis() as u64),
    };
    let any = |name: &str, value: Vec<u8>| prost_types::Any {
        type_url: format!("type.googleapis.com/{name}"),
        value,
    };
    let mut details = vec![any("smallest.speech.v1.ErrorDetail", detail.encode_to_vec())];
    let mut metadata = MetadataMap::new();
    if let Some(after) = facts.retry_after {
        let info = tonic_types::pb::RetryInfo { retry_delay: prost_types::Duration::try_from(after).ok() };
        details.push(any("google.rpc.RetryInfo", info.encode_to_vec()));
        metadata.insert("retry-after", MetadataValue::from(after.as_secs()));
    }
    if let Ok(id) = MetadataValue::try_from(request_id) {
        metadata.insert(X_REQUEST_ID, id);
    }
    let message = error.to_string();
    let rpc = tonic_types::pb::Status { code: facts.grpc as i32, message: message.clone(), details };
    Status::with_details_and_metadata(facts.grpc, message, Bytes::from(rpc.encode_to_vec()), metadata)
}

struct Service {
    gateway: Arc<Gateway>,
}

/// Something that a layer around the call left there.
fn left<L: Clone + Send + Sync + 'static, T>(request: &Request<T>) -> Result<L, Status> {
    let left = request.extensions().get::<L>().cloned();
    left.ok_or_else(|| status(&Error::Internal("the admission layer is missing"), ""))
}

#[tonic::async_trait]
impl Speech for Service {
    async fn recognize(
        &self,
        request: Request<pb::RecognizeRequest>,
    ) -> Result<Response<pb::RecognizeResponse>, Status> {
        let (context, admitted): (Context, Admitted) = (left(&request)?, left(&request)?);
        let lease = left::<Incoming, _>(&request)?.arrive();
        let id = context.id.as_str();
        let lease = lease.unwrap_or_else(|| self.gateway.budget.lease());
        let answer = self.answer(request.into_inner(), lease, admitted, id).await;
        answer.map(Response::new).map_err(|e| status(&e, id))
    }

    type StreamingRecognizeStream =
        Pin<Box<dyn Stream<Item = Result<pb::StreamingRecognizeResponse, Status>> + Send>>;

    async fn streaming_recognize(
        &self,
        request: Request<Streaming<pb::StreamingRecognizeRequest>>,
    ) -> Result<Response<Self::StreamingRecognizeStream>, Status> {
        let (context, admitted): (Context, Admitted) = (left(&request)?, left(&request)?);
        let id = context.id.as_str().to_owned();
        let stream = self.stream(request.into_inner(), admitted, id.clone()).await;
        stream.map(Response::new).map_err(|e| status(&e, &id))
    }
}

impl Service {
    async fn answer(
        &self,
        request: pb::RecognizeRequest,
        lease: Lease,
        admitted: Admitted,
        id: &str,
    ) -> Result<pb::RecognizeResponse, Error> {
        use pb::recognize_request::Audio;
        let batch = batch(request.config.unwrap_or_default())?;
        let word_timestamps = batch.wanted.word_timestamps;
        let limit_bytes = self.gateway.config.limits.max_body_bytes;
        let body = match request.audio.ok_or(Error::AudioMissing)? {
            Audio::Content(bytes) if bytes.len() as u64 > limit_bytes => {
                return Err(Error::BodyTooLarge { limit_bytes });
            }
            Audio::Content(bytes) => (Bytes::from(bytes), lease),
            Audio::Url(url) => super::upload::fetch(&self.gateway, &url).await?.0,
        };
        let answer = dispatch::recognize(&self.gateway, admitted, batch, body).await?;
        Ok(recognized(answer, id, word_timestamps))
    }

    async fn stream(
        &self,
        mut requests: Streaming<pb::StreamingRecognizeRequest>,
        admitted: Admitted,
        id: String,
    ) -> Result<<Self as Speech>::StreamingRecognizeStream, Error> {
        let patience = self.gateway.config.limits.idle_timeout_ms;
        let first = first_message(&mut requests, patience).await?;
        let (request, word_timestamps) = live(first)?;
        let call = dispatch::open(&self.gateway, admitted, request).await?;
        let LiveCall { session, input, events, failed } = call;
        tokio::spawn(read(requests, input));
        let names = (session.to_string(), id);
        let state = Some((events, failed, names));
        Ok(Box::pin(futures::stream::unfold(state, move |state| async move {
            let (mut events, failed, names) = state?;
            if let Some(event) = events.recv().await {
                let response = told(event, (&names.0, &names.1), word_timestamps);
                return Some((Ok(response), Some((events, failed, names))));
            }
            // The task tells why, unless it ended as it should.
            failed.await.ok().map(|e| (Err(status(&e, &names.1)), None))
        })))
    }
}

async fn first_message(
    requests: &mut Streaming<pb::StreamingRecognizeRequest>,
    patience: Duration,
) -> Result<pb::StreamingConfig, Error> {
    use pb::streaming_recognize_request::Request;
    let first = tokio::time::timeout(patience, requests.message()).await;
    let first = first.map_err(|_| Error::RequestTimeout(patience))?;
    let first = first.map_err(|e| malformed(&e, MAX_CHUNK_BYTES as u64).unwrap_or(Error::ClientGone))?;
    match first.and_then(|m| m.request) {
        Some(Request::Config(config)) => Ok(config),
        _ => Err(Error::InvalidMessage("the first message must hold the config".to_owned())),
    }
}

/// Stream → session. The end of the stream is the end of the audio; a broken one drops `input`.
async fn read(mut requests: Streaming<pb::StreamingRecognizeRequest>, input: mpsc::Sender<Input>) {
    use pb::streaming_recognize_request::Request;
    loop {
        let message = tokio::select! {
            () = input.closed() => return,
            message = requests.message() => message,
        };
        let said = match message {
            Ok(Some(message)) => match message.request {
                Some(Request::Audio(bytes)) if bytes.len() <= MAX_CHUNK_BYTES => {
                    Input::Audio(Bytes::from(bytes))
                }
                Some(Request::Finalize(_)) => Input::Finalize,
                Some(Request::Audio(_)) => {
                    Input::Broken(Error::BodyTooLarge { limit_bytes: MAX_CHUNK_BYTES as u64 })
                }
                _ => {
                    Input::Broken(Error::InvalidMessage("use audio or finalize after the config".to_owned()))
                }
            },
            Ok(None) => Input::End,
            Err(e) => match malformed(&e, MAX_CHUNK_BYTES as u64) {
                Some(e) => Input::Broken(e),
                None => return,
            },
        };
        let over = matches!(said, Input::End);
        if input.send(said).await.is_err() {
            return;
        }
        if over {
            // Held until the session's end: dropping it would say that the client vanished.
            return input.closed().await;
        }
    }
}
