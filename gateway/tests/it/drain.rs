//! SIGTERM: not ready at once, running work finishes, then the end.

use serde_json::json;

use crate::audio::{pcm, wav_of};
use crate::harness::{finals, serve, soon, until};
use crate::worker::Worker;

const PATH: &str = "/api/v1/lightning/get_text";

#[tokio::test]
async fn running_streams_finish_and_new_work_is_refused() {
    let (served, queue) = serve(&[]).await;
    let _worker = Worker::start(&queue);
    let mut socket = served.socket(PATH).await;
    socket.audio(&pcm("1")).await;
    socket.frame().await.unwrap();
    served.stop.cancel();
    until("the drain", || served.gateway.door.is_draining()).await;
    let ready = served.get("/healthz").await;
    assert_eq!((ready.status, ready.text.as_str(), ready.header("connection")), (503, "false", "close"));
    assert_eq!(served.get("/api/v1/health").await.status, 200, "alive");
    let reply = served.post(PATH, "audio/wav", wav_of("1")).await;
    assert_eq!((reply.status, reply.json()["reason"].as_str()), (503, Some("Draining")));
    socket.audio(&pcm("2")).await;
    socket.say(r#"{"type":"close_stream"}"#).await;
    let (frames, code) = socket.rest().await;
    assert_eq!((finals(&frames), code), (vec!["w1 w2".to_owned()], Some(1000)));
    soon("the end", served.task).await.unwrap();
    assert!(tokio::net::TcpStream::connect(served.address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn streams_that_do_not_finish_are_told_and_ended() {
    let (served, queue) = serve(&["--drain-timeout-ms", "100"]).await;
    let worker = Worker::start(&queue);
    let mut socket = served.socket(PATH).await;
    socket.audio(&pcm("1")).await;
    socket.frame().await.unwrap();
    served.stop.cancel();
    let (frames, code) = socket.rest().await;
    assert_eq!((&frames.last().unwrap()["reason"], code), (&json!("Draining"), Some(1012)));
    soon("the end", served.task).await.unwrap();
    until("the slot", || worker.knobs.cancelled.load(std::sync::atomic::Ordering::Relaxed) == 1).await;
}
