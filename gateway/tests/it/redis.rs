//! The same gateway over a real `redis-server`: what travels, and what happens when it is away.

use std::sync::Arc;
use std::time::Duration;

use queue::redis::{RedisConfig, RedisQueue, Timeouts};
use queue::testing::RedisServer;
use serde_json::json;

use crate::audio::{pcm, wav_of};
use crate::harness::{Served, finals, limits, serve_on, soon, until};
use crate::worker::Worker;

const PATH: &str = "/api/v1/lightning/get_text";

async fn served(args: &[&str]) -> (Served, RedisQueue, RedisServer) {
    let redis = RedisServer::start().unwrap();
    let config = RedisConfig {
        url: redis.url(),
        root_certificates: None,
        deployment: "test/gateway".to_owned(),
        component: "asr",
        limits: limits(),
    };
    let short = Duration::from_millis(300);
    let timeouts = Timeouts { connect: short, response: short, retry_for: short };
    let queue = RedisQueue::connect_within(&config, timeouts).await.unwrap();
    let served = serve_on(Arc::new(queue.clone()), args, None).await;
    (served, queue, redis)
}

#[tokio::test]
async fn recordings_and_streams_travel_through_redis() {
    let (served, queue, _server) = served(&[]).await;
    let first = Worker::start(&queue);
    let reply = served.post(PATH, "audio/wav", wav_of("12|3")).await;
    assert_eq!(reply.json()["transcription"], "w1 w2 w3", "{}", reply.text);

    let mut socket = served.socket(PATH).await;
    socket.audio(&pcm("12|34")).await;
    let mut frames = socket.frames_until(|f| f["transcript"] == "w3 w4").await;
    first.kill();
    let _second = Worker::start(&queue);
    socket.audio(&pcm("5|6")).await;
    socket.say(r#"{"type":"close_stream"}"#).await;
    let (rest, code) = socket.rest().await;
    frames.extend(rest);
    assert_eq!(
        (finals(&frames), code),
        (vec!["w1 w2".to_owned(), "w3 w4 w5".to_owned(), "w6".to_owned()], Some(1000))
    );
}

#[tokio::test]
async fn a_stream_outlives_a_pause_of_redis() {
    let (served, queue, redis) = served(&[]).await;
    let _worker = Worker::start(&queue);
    let mut socket = served.socket(PATH).await;
    socket.audio(&pcm("12")).await;
    let mut frames = socket.frames_until(|f| f["transcript"] == "w1 w2").await;
    redis.pause();
    until("not ready", || served.gateway.not_ready().is_some()).await;
    let reply = soon("a named error", served.post(PATH, "audio/wav", wav_of("1"))).await;
    assert_eq!((reply.status, reply.json()["reason"].as_str()), (503, Some("QueueUnavailable")));
    socket.audio(&pcm("3")).await;
    redis.resume();
    until("ready again", || served.gateway.not_ready().is_none()).await;
    socket.audio(&pcm("4")).await;
    socket.say(r#"{"type":"close_stream"}"#).await;
    frames.extend(socket.rest().await.0);
    assert_eq!(finals(&frames), ["w1 w2 w3 w4"]);
}

#[tokio::test]
async fn after_redis_was_lost_streams_end_by_name_and_new_work_is_served() {
    let (served, queue, mut redis) = served(&["--stall-timeout-ms", "500"]).await;
    let worker = Worker::start(&queue);
    let mut socket = served.socket(PATH).await;
    socket.audio(&pcm("12")).await;
    socket.frames_until(|f| f["transcript"] == "w1 w2").await;
    // Everything that Redis knew is gone, and so is the worker.
    worker.kill();
    redis.stop();
    until("not ready", || served.gateway.not_ready().is_some()).await;
    redis.start_again().unwrap();
    until("ready again", || served.gateway.not_ready().is_none()).await;
    socket.audio(&pcm("34")).await;
    socket.say(r#"{"type":"close_stream"}"#).await;
    let (frames, code) = socket.rest().await;
    assert_eq!((frames.last().map(|f| f["reason"].clone()), code), (Some(json!("SessionLost")), Some(1013)));

    let _worker = Worker::start(&queue);
    let reply = soon("an answer", served.post(PATH, "audio/wav", wav_of("7"))).await;
    assert_eq!((reply.status, reply.json()["transcription"].as_str()), (200, Some("w7")));
    let mut socket = served.socket(PATH).await;
    socket.audio(&pcm("8")).await;
    socket.say(r#"{"type":"close_stream"}"#).await;
    assert_eq!(finals(&socket.rest().await.0), ["w8"]);
}
