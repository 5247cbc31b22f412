//! The trace of a request goes with its work into the queue, and the parts of the request are spans of it.

use queue::ids::WorkerId;
use queue::job::{BatchReply, Timing, Transcript};
use queue::port::WorkerPort as _;
use telemetry::testing::record;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use crate::audio::wav_of;
use crate::harness::{PATIENCE, serve, soon, until};

const PATH: &str = "/api/v1/lightning/get_text";
const CALLER: &str = "00f067aa0ba902b7";

/// The trace and the span of a `traceparent`.
fn parts(traceparent: Option<&str>) -> (String, String) {
    let parts: Vec<_> = traceparent.unwrap().split('-').collect();
    (parts[1].to_owned(), parts[2].to_owned())
}

#[tokio::test]
async fn a_recordings_trace_goes_into_the_queue_and_shows_its_parts() {
    let spans = record();
    let trace = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    let (served, queue) = serve(&[]).await;
    let request = served.http.post(served.url(PATH)).header("content-type", "audio/wav");
    let request = request.header("traceparent", format!("00-{trace}-{CALLER}-01")).body(wav_of("1"));
    let sent = tokio::spawn(request.send());
    let worker = WorkerId::generate();
    let claimed = soon("a job", queue.claim_jobs(&worker, 1, PATIENCE)).await.unwrap().remove(0);
    let (carried, span) = parts(claimed.job.traceparent.as_deref());
    assert_eq!(carried, trace);
    let transcript = Transcript {
        text: "one".to_owned(),
        words: Vec::new(),
        model: "test".to_owned(),
        language: "en".to_owned(),
        audio_ms: 100,
    };
    let timing = Timing { queue_ms: 1.0, infer_ms: 2.0 };
    let reply = BatchReply { job: claimed.job.id.clone(), outcome: Ok(transcript), timing };
    queue.complete(&worker, &claimed, reply).await.unwrap();
    assert_eq!(soon("an answer", sent).await.unwrap().unwrap().status().as_u16(), 200);
    until("the request's span", || spans.of(trace).iter().any(|s| s.name == "request")).await;
    let found = spans.of(trace);
    let request = found.iter().find(|s| s.name == "request").unwrap();
    assert_eq!((request.id.as_str(), request.parent.as_str()), (span.as_str(), CALLER));
    for name in ["decode", "submit", "await_answer"] {
        assert!(found.iter().any(|s| s.name == name && s.parent == request.id), "{name}: {found:?}");
    }
}

#[tokio::test]
async fn a_streams_trace_goes_into_the_queue_and_shows_its_wait() {
    let spans = record();
    let trace = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
    let (served, queue) = serve(&[]).await;
    let mut request = format!("ws://{}{PATH}", served.address).into_client_request().unwrap();
    request.headers_mut().insert("traceparent", format!("00-{trace}-{CALLER}-01").parse().unwrap());
    let (socket, _) = tokio_tungstenite::connect_async(request).await.unwrap();
    let worker = WorkerId::generate();
    let claimed = soon("a session", queue.claim_sessions(&worker, 1, PATIENCE)).await.unwrap().remove(0);
    let (carried, span) = parts(claimed.state.session.traceparent.as_deref());
    assert_eq!(carried, trace);
    until("the wait's span", || spans.of(trace).iter().any(|s| s.name == "queue" && s.parent == span)).await;
    drop(socket);
    until("the request's span", || spans.of(trace).iter().any(|s| s.name == "request" && s.id == span)).await;
}
