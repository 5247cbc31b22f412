//! REST: happy paths in every published shape.

use serde_json::json;

use crate::audio::{pcm, say, wav_of};
use crate::harness::{form, serve, served, until};
use crate::worker::{MODEL, Worker};

const PATH: &str = "/api/v1/lightning/get_text";

#[tokio::test]
async fn a_wav_becomes_its_transcript() {
    let (served, _worker) = served(&[]).await;
    let reply = served.post(&format!("{PATH}?word_timestamps=true"), "audio/wav", wav_of("1 2 | 3")).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let body = reply.json();
    assert_eq!(body["status"], "success");
    assert_eq!(body["transcription"], "w1 w2 w3");
    assert_eq!(body["words"][2], json!({"word": "w3", "start": 1.2, "end": 1.5, "confidence": 0.5}));
    assert_eq!(body["utterances"].as_array().unwrap().len(), 1);
    assert_eq!((&body["language"], &body["model"]), (&json!("en"), &json!(MODEL)));
    assert_eq!(body["metadata"]["duration"], 1.5);
    assert_eq!(body["metadata"]["fileSize"], 48_044);
    assert_eq!(body["timing"]["infer_ms"], 2.0);
    assert_eq!(body["request_id"], reply.header("x-request-id"));
    let counted = *served.license.counted.lock().unwrap();
    assert_eq!((counted.audio_ms, counted.requests), (1_500, 1));
}

#[tokio::test]
async fn words_come_only_when_asked_for() {
    let (served, _worker) = served(&[]).await;
    let body = served.post(PATH, "application/octet-stream", wav_of("4")).await.json();
    assert_eq!((&body["words"], &body["utterances"]), (&json!([]), &json!([])));
}

#[tokio::test]
async fn every_published_path_answers() {
    let (served, _worker) = served(&[]).await;
    for path in [
        "/api/v1/lightning/get_text",
        "/api/v1/pulse/get_text",
        "/waves/v1/lightning/get_text",
        "/waves/v1/pulse/get_text?model=pulse",
        "/waves/v1/stt/?model=pulse-pro&language=en-US",
    ] {
        let reply = served.post(path, "audio/wav", wav_of("7")).await;
        assert_eq!((reply.status, reply.json()["transcription"].as_str()), (200, Some("w7")), "{path}");
    }
}

#[tokio::test]
async fn request_ids_of_clients_come_back() {
    let (served, _worker) = served(&[]).await;
    let request = served.http.post(served.url(PATH)).header("x-request-id", "mine-1").body(wav_of("1"));
    let reply = crate::harness::Reply::of(request.send().await.unwrap()).await;
    assert_eq!((reply.header("x-request-id"), &reply.json()["request_id"]), ("mine-1", &json!("mine-1")));
}

#[tokio::test]
async fn raw_samples_are_read_as_the_query_says() {
    let (served, _worker) = served(&[]).await;
    let raw = |query: &str| format!("{PATH}?{query}");
    let linear = served.post(&raw("encoding=linear16"), "application/octet-stream", pcm("1 5")).await;
    assert_eq!(linear.json()["transcription"], "w1 w5");
    let mulaw: Vec<u8> = say("3 8", 8_000).into_iter().map(crate::audio::to_mulaw).collect();
    let query = raw("encoding=mulaw&sample_rate=8000");
    let reply = served.post(&query, "application/octet-stream", mulaw.clone()).await;
    assert_eq!(reply.json()["transcription"], "w3 w8");
    let reply = served.post(PATH, "audio/basic", mulaw).await;
    assert_eq!(reply.json()["transcription"], "w3 w8");
}

#[tokio::test]
async fn listen_answers_in_its_own_shape_to_a_form() {
    let (served, _worker) = served(&[]).await;
    let (kind, body) = form(("audio", &wav_of("2 6")), &[("timestamps", "true"), ("language", "en")]);
    let reply = served.post("/v1/listen", &kind, body).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let body = reply.json();
    assert_eq!((&body["text"], &body["duration"]), (&json!("w2 w6"), &json!(0.6)));
    assert_eq!((&body["confidence"], &body["words"][1]["word"]), (&json!(0.5), &json!("w6")));
}

#[tokio::test]
async fn an_address_is_fetched_where_that_is_allowed() {
    let (served, queue) = serve(&["--allow-url-fetch", "any"]).await;
    let _worker = Worker::start(&queue);
    let files = axum::Router::new()
        .route("/a.wav", axum::routing::get(|| async { wav_of("9 1") }))
        .route("/moved", axum::routing::get(|| async { axum::response::Redirect::to("/a.wav") }))
        .route("/loop", axum::routing::get(|| async { axum::response::Redirect::to("/loop") }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let files_at = listener.local_addr().unwrap();
    let files = tokio::spawn(async move { axum::serve(listener, files).await });
    for (path, status, text) in [
        ("/a.wav", 200, "w9 w1"),
        ("/moved", 200, "w9 w1"),
        ("/loop", 400, "URL_FETCH_FAILED"),
        ("/missing", 400, "URL_FETCH_FAILED"),
    ] {
        let body = json!({"url": format!("http://{files_at}{path}"), "language": "en"}).to_string();
        let reply = served.post(PATH, "application/json", body.into_bytes()).await;
        assert_eq!(reply.status, status, "{path}: {}", reply.text);
        assert!(reply.text.contains(text), "{path}: {}", reply.text);
    }
    files.abort();
}

#[tokio::test]
async fn addresses_are_not_fetched_unless_allowed() {
    let (served, _worker) = served(&[]).await;
    let reply = served.post(PATH, "application/json", br#"{"url": "http://127.0.0.1/a.wav"}"#.to_vec()).await;
    assert_eq!((reply.status, reply.json()["reason"].as_str()), (403, Some("UrlFetchDisabled")));
}

#[tokio::test]
async fn a_client_that_vanishes_takes_its_job_along() {
    let (served, queue) = serve(&[]).await;
    let request = served.http.post(served.url(PATH)).header("content-type", "audio/wav").body(wav_of("1"));
    let waiting = tokio::spawn(request.send());
    until("the job", || served.gateway.view.borrow().depth.batch == 1).await;
    waiting.abort();
    until("the job's end", || served.gateway.view.borrow().depth.batch == 0).await;
    until("its place", || served.gateway.door.active() == (0, 0)).await;
    drop(queue);
}
