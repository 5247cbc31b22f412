//! Workers that die, drain or talk late, and gateways that are lost: the client sees a pause, nothing else.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use queue::ids::GatewayId;
use queue::memory::MemoryQueue;
use queue::port::{GatewayPort as _, WorkerPort as _};
use queue::session::{FinalReason, Segment, SessionEvent, ToGateway};
use serde_json::Value;

use crate::audio::pcm;
use crate::harness::{Served, Socket, finals, limits, serve, serve_on, until};
use crate::worker::Worker;

const PATH: &str = "/api/v1/lightning/get_text?word_timestamps=true";

async fn served() -> (Served, MemoryQueue) {
    serve(&[]).await
}

/// What an undisturbed session writes: texts and words with times.
fn written(frames: &[Value]) -> Vec<(String, Value)> {
    let finals = frames.iter().filter(|f| f["is_final"] == true && f["transcript"] != "");
    finals.map(|f| (f["transcript"].as_str().unwrap().to_owned(), f["words"].clone())).collect()
}

async fn undisturbed(served: &Served, script: &str) -> Vec<(String, Value)> {
    let mut socket = served.socket(PATH).await;
    socket.audio(&pcm(script)).await;
    socket.say(r#"{"type":"close_stream"}"#).await;
    written(&socket.rest().await.0)
}

/// Speaks the first part and waits until it is heard.
async fn speak_first(served: &Served) -> (Socket, Vec<Value>) {
    let mut socket = served.socket(PATH).await;
    socket.audio(&pcm("12|34")).await;
    let frames = socket.frames_until(|f| f["transcript"] == "w3 w4").await;
    (socket, frames)
}

async fn speak_rest(mut socket: Socket, mut frames: Vec<Value>) -> Vec<(String, Value)> {
    socket.audio(&pcm("5|6")).await;
    socket.say(r#"{"type":"close_stream"}"#).await;
    let (rest, code) = socket.rest().await;
    frames.extend(rest);
    assert_eq!(code, Some(1000), "{frames:?}");
    written(&frames)
}

#[tokio::test]
async fn a_worker_that_dies_in_mid_stream_is_replaced_and_the_text_is_the_same() {
    let (served, queue) = served().await;
    let first = Worker::start(&queue);
    let expected = undisturbed(&served, "12|345|6").await;
    assert_eq!(expected.iter().map(|w| w.0.as_str()).collect::<Vec<_>>(), ["w1 w2", "w3 w4 w5", "w6"]);
    let (socket, frames) = speak_first(&served).await;
    first.kill();
    let _second = Worker::start(&queue);
    assert_eq!(speak_rest(socket, frames).await, expected);
}

#[tokio::test]
async fn a_worker_that_drains_hands_its_sessions_over() {
    let (served, queue) = served().await;
    let first = Worker::start(&queue);
    let expected = undisturbed(&served, "12|345|6").await;
    let (socket, frames) = speak_first(&served).await;
    first.knobs.drain.store(true, Ordering::Relaxed);
    until("the drain", || first.knobs.drained.load(Ordering::Relaxed)).await;
    let _second = Worker::start(&queue);
    assert_eq!(speak_rest(socket, frames).await, expected);
}

#[tokio::test]
async fn late_words_of_a_dead_worker_are_not_seen() {
    let (served, queue) = served().await;
    let first = Worker::start(&queue);
    let (mut socket, frames) = speak_first(&served).await;
    first.kill();
    let _second = Worker::start(&queue);
    let id: queue::ids::SessionId = frames[0]["session_id"].as_str().unwrap().parse().unwrap();
    // The second worker has claimed when it has heard the replayed words.
    socket.audio(&pcm("7")).await;
    let mut frames = frames;
    frames.extend(socket.frames_until(|f| f["transcript"] == "w3 w4 w7").await);
    let ghost = Segment {
        index: 1,
        text: "ghost".to_owned(),
        words: Vec::new(),
        start_ms: 0,
        end_ms: 1,
        committed_samples: 30_000,
        reason: FinalReason::Endpoint,
        language: "en".to_owned(),
    };
    let to: GatewayId = served.gateway.id.clone();
    let event = |epoch, event| (to.clone(), ToGateway::Session { session: id.clone(), epoch, event });
    queue
        .publish(&[event(1, SessionEvent::Final(ghost)), event(1, SessionEvent::Closed { audio_ms: 1 })])
        .await
        .unwrap();
    socket.say(r#"{"type":"close_stream"}"#).await;
    frames.extend(socket.rest().await.0);
    assert_eq!(finals(&frames), ["w1 w2", "w3 w4 w7"]);
}

#[tokio::test]
async fn a_worker_that_lost_audio_gets_it_again() {
    let (served, queue) = served().await;
    let _worker = Worker::start(&queue);
    let mut socket = served.socket(PATH).await;
    socket.audio(&pcm("1")).await;
    let id: queue::ids::SessionId =
        socket.frame().await.unwrap()["session_id"].as_str().unwrap().parse().unwrap();
    let ask = SessionEvent::Replay { from_samples: 0 };
    let message = ToGateway::Session { session: id.clone(), epoch: 1, event: ask };
    queue.publish(&[(served.gateway.id.clone(), message)]).await.unwrap();
    socket.audio(&pcm("2")).await;
    socket.say(r#"{"type":"close_stream"}"#).await;
    assert_eq!(finals(&socket.rest().await.0), ["w1 w2"]);
    assert_eq!(queue.session(&id).await.unwrap(), None, "nothing outlives the session");
}

#[tokio::test]
async fn a_client_that_lost_its_gateway_comes_back_through_another() {
    let (lost, queue) = served().await;
    let _worker = Worker::start(&queue);
    let (socket, frames) = speak_first(&lost).await;
    let id = frames[0]["session_id"].as_str().unwrap().to_owned();
    let other = serve_on(Arc::new(queue.clone()), &[], None).await;
    let mut again = other.socket(&format!("{PATH}&session_id={id}")).await;
    // The first segment was final; the client speaks again from its end, 1,000 ms.
    again.audio(&pcm("..345|6")).await;
    again.say(r#"{"type":"close_stream"}"#).await;
    let (rest, code) = again.rest().await;
    assert_eq!((finals(&rest), code), (vec!["w3 w4 w5".to_owned(), "w6".to_owned()], Some(1000)));
    let end = rest.last().unwrap();
    assert_eq!(
        (&end["words"][0]["start"], end["session_id"].as_str()),
        (&Value::from(2.7), Some(id.as_str()))
    );
    drop((socket, limits()));
}
