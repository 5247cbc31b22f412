//! Keys, license, limits and readiness.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use gateway::Error;
use queue::memory::MemoryQueue;
use queue::port::QueueLimits;
use serde_json::json;

use crate::audio::{pcm, wav_of};
use crate::harness::{Reply, finals, limits, serve, serve_on, until};
use crate::worker::{Knobs, Worker};

const PATH: &str = "/api/v1/lightning/get_text";

#[tokio::test]
async fn keys_are_asked_for_when_there_are_keys() {
    let queue = MemoryQueue::new(limits());
    let served = serve_on(Arc::new(queue.clone()), &["--host", "127.0.0.1"], Some("secret\n")).await;
    let _worker = Worker::start(&queue);
    let ask = async |scheme: Option<&str>, query: &str| {
        let mut request = served.http.post(served.url(&format!("{PATH}{query}"))).body(wav_of("1"));
        if let Some(value) = scheme {
            request = request.header("authorization", value);
        }
        Reply::of(request.send().await.unwrap()).await
    };
    let refused = ask(None, "").await;
    assert_eq!((refused.status, refused.header("www-authenticate")), (401, "Bearer"));
    assert_eq!(refused.json()["message"], "Unauthorized: No tokens provided");
    for bad in [Some("Bearer wrong"), Some("Basic secret"), Some("secret")] {
        assert_eq!(ask(bad, "").await.status, 401, "{bad:?}");
    }
    for good in [Some("Bearer secret"), Some("token secret")] {
        assert_eq!(ask(good, "").await.status, 200, "{good:?}");
    }
    assert_eq!(ask(None, "?token=secret").await.status, 200);
    assert_eq!(served.refused_socket(PATH).await.0, 401);
    let mut socket = served.socket(&format!("{PATH}?token=secret")).await;
    socket.say(r#"{"type":"close_stream"}"#).await;
    assert_eq!(socket.rest().await.1, Some(1000));
    // Probes and metrics need no key.
    assert_eq!(
        (served.get("/healthz").await.text.as_str(), served.get("/metrics").await.status),
        ("true", 200)
    );
}

#[tokio::test]
async fn a_license_that_says_no_refuses_new_work_and_lets_streams_finish() {
    let (served, queue) = serve(&[]).await;
    let _worker = Worker::start(&queue);
    served.sees_worker().await;
    let mut socket = served.socket(PATH).await;
    socket.audio(&pcm("1")).await;
    socket.frame().await.unwrap();
    let deny = |error: fn() -> Error| *served.license.denied.lock().unwrap() = Some(error);
    for (error, status, code) in [
        (|| Error::LicenseExpired("yesterday".to_owned()), 403, "LICENSE_EXPIRED"),
        (|| Error::LicenseInvalid("signature".to_owned()), 401, "INVALID_LICENSE"),
        (|| Error::LicenseUnknown("away".to_owned()), 503, "SERVICE_UNAVAILABLE"),
    ] as [(fn() -> Error, u16, &str); 3]
    {
        deny(error);
        let reply = served.post(PATH, "audio/wav", wav_of("1")).await;
        assert_eq!((reply.status, reply.json()["code"].as_str()), (status, Some(code)));
        assert_eq!(served.refused_socket(PATH).await.0, status);
        let health = served.get("/health/license").await;
        assert_eq!((health.status, &health.json()["status"]), (503, &json!("unhealthy")));
    }
    assert_eq!(
        (served.get("/healthz").await.text.as_str(), served.get("/api/v1/health").await.status),
        ("false", 200)
    );
    socket.audio(&pcm("2")).await;
    socket.say(r#"{"type":"close_stream"}"#).await;
    assert_eq!(finals(&socket.rest().await.0), ["w1 w2"]);
}

#[tokio::test]
async fn too_many_at_once_are_told_when_to_come_back() {
    let (served, queue) = serve(&["--max-active-requests", "1", "--max-streams", "5"]).await;
    let _worker = Worker::start_with(&queue, Knobs { hold_batches: true.into(), ..Knobs::default() });
    *served.license.max_streams.lock().unwrap() = Some(1);
    let waiting = tokio::spawn(served.http.post(served.url(PATH)).body(wav_of("1")).send());
    until("the first request", || served.gateway.door.active().0 == 1).await;
    let refused = served.post(PATH, "audio/wav", wav_of("1")).await;
    assert_eq!((refused.status, refused.header("retry-after")), (429, "1"));
    assert_eq!(
        (&refused.json()["code"], &refused.json()["retry_after"]),
        (&json!("RATE_LIMIT_EXCEEDED"), &json!(1))
    );
    let socket = served.socket(PATH).await;
    assert_eq!(served.refused_socket(PATH).await.0, 429);
    drop(socket);
    waiting.abort();
    until("free places", || served.gateway.door.active() == (0, 0)).await;
}

#[tokio::test]
async fn a_full_queue_is_told() {
    let queue = MemoryQueue::new(QueueLimits { max_batch_depth: 1, max_session_depth: 1, ..limits() });
    let served = serve_on(Arc::new(queue.clone()), &[], None).await;
    let waiting = tokio::spawn(served.http.post(served.url(PATH)).body(wav_of("1")).send());
    until("the first request", || served.gateway.view.borrow().depth.batch == 1).await;
    let refused = served.post(PATH, "audio/wav", wav_of("1")).await;
    assert_eq!((refused.status, refused.header("retry-after")), (429, "5"));
    assert_eq!(refused.json()["reason"], "QueueFull");
    let _socket = served.socket(PATH).await;
    let (status, body) = served.refused_socket(PATH).await;
    assert_eq!((status, &body["reason"]), (429, &json!("QueueFull")));
    waiting.abort();
}

#[tokio::test]
async fn an_answer_that_does_not_come_in_time_is_told_and_its_job_dropped() {
    let (served, queue) = serve(&["--request-timeout-ms", "300"]).await;
    let worker = Worker::start_with(&queue, Knobs { hold_batches: true.into(), ..Knobs::default() });
    let reply = served.post(PATH, "audio/wav", wav_of("1")).await;
    assert_eq!((reply.status, reply.json()["reason"].as_str()), (504, Some("DeadlineExceeded")));
    assert_eq!(worker.knobs.held_jobs.load(Ordering::Relaxed), 1);
    assert_eq!(served.gateway.door.active(), (0, 0));
}

#[tokio::test]
async fn health_and_metrics_tell_what_is_there() {
    let (served, queue) = serve(&[]).await;
    assert_eq!(served.get("/health/asr").await.status, 503);
    let _worker = Worker::start(&queue);
    served.sees_worker().await;
    let health = served.get("/health?detailed=true").await.json();
    assert_eq!(health["status"], "healthy");
    assert_eq!(
        health["components"],
        json!({
            "api_server": "healthy", "lightning_asr": "healthy", "license_proxy": "healthy", "redis": "healthy",
        })
    );
    assert!(health["uptime_seconds"].is_u64() && health["version"].is_string());
    assert_eq!(served.get("/health/asr").await.json()["workers"][0]["model"], "test-asr");
    assert_eq!(served.get("/health/redis").await.json(), json!({"status": "healthy"}));
    served.post(PATH, "audio/wav", wav_of("1")).await;
    served.post(PATH, "audio/wav", Vec::new()).await;
    let metrics = served.get("/metrics").await.text;
    for name in [
        "gateway_requests_total",
        "gateway_errors_total",
        "gateway_e2e_latency_seconds_bucket",
        "gateway_queue_up",
    ] {
        assert!(metrics.contains(name), "{name} in {metrics}");
    }
}
