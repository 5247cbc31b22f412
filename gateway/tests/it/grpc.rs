//! gRPC: recordings, live streams, health, reflection, errors with details.

use std::sync::atomic::Ordering;

use futures::{Stream, StreamExt as _};
use prost::Message as _;
use proto::speech::v1 as pb;
use proto::speech::v1::speech_client::SpeechClient;
use proto::speech::v1::streaming_recognize_request::Request as Ask;
use proto::speech::v1::streaming_recognize_response::Response as Told;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::audio::{pcm, wav_of};
use crate::harness::{Served, limits, serve, serve_on, served, soon, until};
use crate::worker::{Knobs, MODEL, Worker};

async fn channel(served: &Served) -> Channel {
    Channel::from_shared(served.url("")).unwrap().connect().await.unwrap()
}

async fn connected() -> (Served, Worker, SpeechClient<Channel>) {
    let (served, worker) = served(&[]).await;
    let client = SpeechClient::new(channel(&served).await);
    (served, worker, client)
}

fn recording(content: Vec<u8>, config: pb::RecognitionConfig) -> pb::RecognizeRequest {
    pb::RecognizeRequest { config: Some(config), audio: Some(pb::recognize_request::Audio::Content(content)) }
}

fn detail(status: &Status) -> pb::ErrorDetail {
    let rpc = tonic_types::pb::Status::decode(status.details()).unwrap();
    let any = rpc.details.iter().find(|d| d.type_url.ends_with("smallest.speech.v1.ErrorDetail")).unwrap();
    pb::ErrorDetail::decode(&any.value[..]).unwrap()
}

fn ask(request: Ask) -> pb::StreamingRecognizeRequest {
    pb::StreamingRecognizeRequest { request: Some(request) }
}

/// Opens a stream: the way in, and what comes out.
async fn stream(
    client: &mut SpeechClient<Channel>,
    config: pb::StreamingConfig,
) -> (mpsc::Sender<pb::StreamingRecognizeRequest>, impl Stream<Item = Result<Told, Status>> + Unpin + use<>) {
    let (say, said) = mpsc::channel(64);
    say.send(ask(Ask::Config(config))).await.unwrap();
    let told = client.streaming_recognize(ReceiverStream::new(said)).await.unwrap().into_inner();
    (say, told.map(|m| m.map(|m| m.response.unwrap())))
}

#[tokio::test]
async fn a_recording_becomes_its_transcript() {
    let (_served, _worker, mut client) = connected().await;
    let config =
        pb::RecognitionConfig { word_timestamps: true, language: "en-GB".to_owned(), ..Default::default() };
    let mut request = tonic::Request::new(recording(wav_of("1 7"), config));
    request.metadata_mut().insert("x-request-id", "mine".parse().unwrap());
    let answer = client.recognize(request).await.unwrap().into_inner();
    assert_eq!((answer.text.as_str(), answer.request_id.as_str()), ("w1 w7", "mine"));
    assert_eq!((answer.model.as_str(), answer.language.as_str()), (MODEL, "en"));
    let start = answer.words[1].start.unwrap();
    assert_eq!((start.seconds, start.nanos), (0, 300_000_000));
    assert_eq!(answer.timing.unwrap().infer_ms.to_bits(), 2.0_f32.to_bits());
}

#[tokio::test]
async fn errors_carry_their_reason() {
    let (_served, _worker, mut client) = connected().await;
    let config = pb::RecognitionConfig::default;
    let cases = [
        (recording(Vec::new(), config()), Code::InvalidArgument, "AudioMissing"),
        (pb::RecognizeRequest::default(), Code::InvalidArgument, "AudioMissing"),
        (recording(b"some text".to_vec(), config()), Code::InvalidArgument, "UnsupportedFormat"),
        (
            recording(wav_of("1"), pb::RecognitionConfig { language: "xx".to_owned(), ..config() }),
            Code::InvalidArgument,
            "UnknownLanguage",
        ),
        (
            recording(wav_of("1"), pb::RecognitionConfig { model: "xx".to_owned(), ..config() }),
            Code::NotFound,
            "UnknownModel",
        ),
        (
            recording(pcm("1"), pb::RecognitionConfig { encoding: 77, ..config() }),
            Code::InvalidArgument,
            "InvalidParameter",
        ),
    ];
    for (request, code, reason) in cases {
        let status = client.recognize(request).await.unwrap_err();
        let detail = detail(&status);
        assert_eq!((status.code(), detail.reason.as_str()), (code, reason), "{status:?}");
        assert!(!detail.request_id.is_empty());
    }
}

#[tokio::test]
async fn a_stream_tells_partials_finals_progress_and_its_end() {
    let (served, _worker, mut client) = connected().await;
    let config = pb::StreamingConfig {
        config: Some(pb::RecognitionConfig { word_timestamps: true, ..Default::default() }),
        interim_results: true,
        progress: true,
        ..Default::default()
    };
    let (say, mut told) = stream(&mut client, config).await;
    for chunk in pcm("12|3").chunks(3_200) {
        say.send(ask(Ask::Audio(chunk.to_vec()))).await.unwrap();
    }
    say.send(ask(Ask::Finalize(pb::Finalize {}))).await.unwrap();
    drop(say);
    let mut all = Vec::new();
    while let Some(event) = soon("an event", told.next()).await {
        all.push(event.unwrap());
    }
    let Told::Started(started) = &all[0] else { panic!("{:?}", all[0]) };
    assert!(started.session_id.starts_with("ses-") && started.resume_at_ms == 0);
    let results: Vec<_> =
        all.iter().filter_map(|t| if let Told::Result(r) = t { Some(r) } else { None }).collect();
    let partial = results.iter().find(|r| !r.is_final).unwrap();
    assert_eq!((partial.text.as_str(), partial.words.len(), partial.segment), ("w1", 1, 0));
    let finals: Vec<_> = results
        .iter()
        .filter(|r| r.is_final && !r.text.is_empty())
        .map(|r| (r.segment, r.text.as_str()))
        .collect();
    assert_eq!(finals, [(0, "w1 w2"), (1, "w3")]);
    assert!(all.iter().any(|t| matches!(t, Told::Progress(p) if p.processed_ms == 300)));
    assert!(all.iter().any(|t| matches!(t, Told::Finalized(_))));
    assert!(matches!(all.last(), Some(Told::Ended(e)) if e.audio_duration.unwrap().seconds == 1));
    until("its place", || served.gateway.door.active() == (0, 0)).await;
}

#[tokio::test]
async fn a_stream_must_begin_with_its_config_and_go_on_with_audio() {
    let (_served, _worker, mut client) = connected().await;
    let first = futures::stream::iter([ask(Ask::Audio(pcm("1")))]);
    let status = client.streaming_recognize(first).await.unwrap_err();
    assert_eq!((status.code(), detail(&status).reason.as_str()), (Code::InvalidArgument, "InvalidMessage"));

    let (say, mut told) = stream(&mut client, pb::StreamingConfig::default()).await;
    say.send(ask(Ask::Config(pb::StreamingConfig::default()))).await.unwrap();
    let status = loop {
        if let Err(status) = soon("the error", told.next()).await.unwrap() {
            break status;
        }
    };
    assert_eq!(detail(&status).reason, "InvalidMessage");
}

#[tokio::test]
async fn refusals_say_when_to_come_back() {
    let queue = queue::memory::MemoryQueue::new(limits());
    let served = serve_on(std::sync::Arc::new(queue), &["--max-active-requests", "0"], Some("secret")).await;
    let mut client = SpeechClient::new(channel(&served).await);
    let status =
        client.recognize(recording(wav_of("1"), pb::RecognitionConfig::default())).await.unwrap_err();
    assert_eq!((status.code(), detail(&status).reason.as_str()), (Code::Unauthenticated, "KeyMissing"));
    let mut request = tonic::Request::new(recording(wav_of("1"), pb::RecognitionConfig::default()));
    request.metadata_mut().insert("authorization", "Bearer secret".parse().unwrap());
    let status = client.recognize(request).await.unwrap_err();
    assert_eq!((status.code(), detail(&status).retry_after_ms), (Code::ResourceExhausted, 1_000));
    assert_eq!(status.metadata().get("retry-after").unwrap(), "1");
}

#[tokio::test]
async fn health_follows_readiness_and_reflection_lists_the_service() {
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    let (served, _worker, _) = connected().await;
    let mut health = HealthClient::new(channel(&served).await);
    let request = HealthCheckRequest { service: "smallest.speech.v1.Speech".to_owned() };
    let mut changes = health.watch(request).await.unwrap().into_inner();
    let mut last = 0;
    while last != 1 {
        last = soon("serving", changes.message()).await.unwrap().unwrap().status;
    }
    *served.license.denied.lock().unwrap() = Some(|| gateway::Error::LicenseExpired("yesterday".to_owned()));
    while last != 2 {
        last = soon("not serving", changes.message()).await.unwrap().unwrap().status;
    }

    let request = tonic_reflection::pb::v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = ServerReflectionClient::new(channel(&served).await);
    let answer = client.server_reflection_info(futures::stream::iter([request])).await.unwrap();
    let answer = answer.into_inner().message().await.unwrap().unwrap().message_response.unwrap();
    let MessageResponse::ListServicesResponse(listed) = answer else { panic!("{answer:?}") };
    let names: Vec<_> = listed.service.iter().map(|s| s.name.as_str()).collect();
    assert!(
        names.contains(&"smallest.speech.v1.Speech") && names.contains(&"grpc.health.v1.Health"),
        "{names:?}"
    );
}

#[tokio::test]
async fn a_caller_that_vanishes_or_never_reads_frees_its_slot() {
    let (served, queue) = serve(&["--max-unread-results", "64"]).await;
    let worker = Worker::start_with(&queue, Knobs { chatter: 60.into(), ..Knobs::default() });
    served.sees_worker().await;
    let cancelled = |n| move |w: &Worker| w.knobs.cancelled.load(Ordering::Relaxed) == n;
    let mut client = SpeechClient::new(channel(&served).await);

    let (say, told) = stream(&mut client, pb::StreamingConfig::default()).await;
    say.send(ask(Ask::Audio(pcm("1")))).await.unwrap();
    drop((say, told, client));
    until("the first slot", || cancelled(1)(&worker)).await;

    let mut client = SpeechClient::new(channel(&served).await);
    let config = pb::StreamingConfig { interim_results: true, ..Default::default() };
    let (say, mut told) = stream(&mut client, config).await;
    for chunk in pcm("1234512345").chunks(3_200) {
        say.send(ask(Ask::Audio(chunk.to_vec()))).await.unwrap();
    }
    until("the second slot", || cancelled(2)(&worker)).await;
    let status = loop {
        if let Err(status) = soon("the error", told.next()).await.unwrap() {
            break status;
        }
    };
    assert_eq!((status.code(), detail(&status).reason.as_str()), (Code::ResourceExhausted, "SlowClient"));
    until("free places", || served.gateway.door.active() == (0, 0)).await;
}

/// A call made of bytes: what a client sends that is not ours.
async fn raw(served: &Served, path: &str, body: impl Stream<Item = Vec<u8>> + Send + 'static) -> Status {
    let body = axum::body::Body::from_stream(body.map(Ok::<_, std::convert::Infallible>));
    let request = axum::http::Request::post(served.url(path)).header("content-type", "application/grpc");
    let request = request.header("te", "trailers").body(tonic::body::Body::new(body)).unwrap();
    let mut channel = channel(served).await;
    std::future::poll_fn(|cx| tower::Service::poll_ready(&mut channel, cx)).await.unwrap();
    let response = soon("an answer", tower::Service::call(&mut channel, request)).await.unwrap();
    Status::from_header_map(response.headers()).unwrap()
}

/// The head of a message that says how long it is, and its bytes.
fn message(says_bytes: u32, bytes: Vec<u8>) -> Vec<u8> {
    [vec![0], says_bytes.to_be_bytes().to_vec(), bytes].concat()
}

#[tokio::test]
async fn a_message_that_never_becomes_one_is_answered_and_leaves_nothing() {
    const RECOGNIZE: &str = "/smallest.speech.v1.Speech/Recognize";
    const STREAM: &str = "/smallest.speech.v1.Speech/StreamingRecognize";
    let args = ["--idle-timeout-ms", "300", "--max-buffered-bytes", "100000", "--max-body-bytes", "1000000"];
    let (served, _worker) = served(&args).await;
    let (invalid, garbage) = (Code::InvalidArgument, message(3, vec![0xff; 3]));
    // As much as it says, slowly: only the memory of all requests stops it.
    let much = std::iter::once(message(900_000, Vec::new())).chain(std::iter::repeat_n(vec![0; 20_000], 45));
    let cases: [(&str, Vec<Vec<u8>>, Code, &str); 6] = [
        (RECOGNIZE, vec![garbage.clone()], invalid, "InvalidMessage"),
        (RECOGNIZE, vec![message(1 << 30, Vec::new())], invalid, "BodyTooLarge"),
        (RECOGNIZE, vec![message(1_000, vec![0; 10])], Code::DeadlineExceeded, "RequestTimeout"),
        (RECOGNIZE, much.collect(), Code::ResourceExhausted, "Overloaded"),
        (STREAM, vec![garbage], invalid, "InvalidMessage"),
        (STREAM, vec![message(1 << 21, Vec::new())], invalid, "BodyTooLarge"),
    ];
    for (path, said, code, reason) in cases {
        // The client stays: it neither ends its message nor hangs up.
        let said = futures::stream::iter(said).chain(futures::stream::pending());
        let status = raw(&served, path, said).await;
        assert_eq!((status.code(), detail(&status).reason.as_str()), (code, reason), "{path} {status:?}");
        let left = || (served.gateway.door.active(), served.gateway.budget.used());
        until("free places and memory", || left() == ((0, 0), 0)).await;
    }
}

#[tokio::test]
async fn metadata_that_is_too_long_is_refused_as_a_status() {
    let (_served, _worker, mut client) = connected().await;
    let mut request = tonic::Request::new(recording(wav_of("1"), pb::RecognitionConfig::default()));
    request.metadata_mut().insert("x-long", "x".repeat(20 * 1024).parse().unwrap());
    let status = client.recognize(request).await.unwrap_err();
    assert_eq!((status.code(), detail(&status).reason.as_str()), (Code::InvalidArgument, "HeaderTooLarge"));
}
