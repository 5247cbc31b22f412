//! The transcription API of `OpenAI`.

use serde_json::{Value, json};

use crate::audio::wav_of;
use crate::harness::{Reply, Served, form, served};
use crate::worker::MODEL;

const PATH: &str = "/v1/audio/transcriptions";

async fn ask(served: &Served, script: &str, fields: &[(&str, &str)]) -> Reply {
    let (kind, body) = form(("file", &wav_of(script)), fields);
    served.post(PATH, &kind, body).await
}

#[tokio::test]
async fn every_response_format_is_answered() {
    let (served, _worker) = served(&[]).await;
    let model = ("model", "whisper-1");
    assert_eq!(ask(&served, "12", &[model]).await.json(), json!({"text": "w1 w2"}));
    assert_eq!(ask(&served, "12", &[model, ("response_format", "text")]).await.text, "w1 w2\n");
    let srt = ask(&served, "12", &[model, ("response_format", "srt")]).await.text;
    assert_eq!(srt, "1\n00:00:00,000 --> 00:00:00,600\nw1 w2\n\n");
    let vtt = ask(&served, "12", &[model, ("response_format", "vtt")]).await.text;
    assert!(vtt.starts_with("WEBVTT\n\n00:00:00.000 --> "), "{vtt}");
    let fields = [
        model,
        ("response_format", "verbose_json"),
        ("timestamp_granularities[]", "word"),
        ("timestamp_granularities[]", "segment"),
    ];
    let verbose = ask(&served, "1||2", &fields).await.json();
    assert_eq!((&verbose["language"], &verbose["duration"]), (&json!("en"), &json!(1.8)));
    assert_eq!(verbose["words"][1], json!({"word": "w2", "start": 1.5, "end": 1.8}));
    assert_eq!(verbose["segments"].as_array().unwrap().len(), 2);
    assert_eq!(verbose["segments"][1]["text"], "w2");
}

#[tokio::test]
async fn words_stream_as_events() {
    let (served, _worker) = served(&[]).await;
    let reply = ask(&served, "12|3|", &[("model", MODEL), ("stream", "true")]).await;
    assert!(reply.header("content-type").starts_with("text/event-stream"));
    let events: Vec<Value> = reply
        .text
        .lines()
        .filter_map(|l| l.strip_prefix("data: "))
        .map(|d| serde_json::from_str(d).unwrap())
        .collect();
    let deltas: String = events.iter().filter_map(|e| e["delta"].as_str()).collect();
    assert_eq!(deltas, "w1 w2 w3");
    assert_eq!(events.last(), Some(&json!({"type": "transcript.text.done", "text": "w1 w2 w3"})));
}

#[tokio::test]
async fn errors_have_openais_shape() {
    let (served, _worker) = served(&[]).await;
    let reply = ask(&served, "1", &[("model", "gpt-9")]).await;
    let error = &reply.json()["error"];
    assert_eq!((reply.status, &error["type"]), (404, &json!("invalid_request_error")));
    assert!(error["message"].as_str().unwrap().contains("gpt-9"));
    let reply = ask(&served, "1", &[("response_format", "docx")]).await;
    assert_eq!((reply.status, &reply.json()["error"]["param"]), (400, &json!("response_format")));
    let models = served.get("/v1/models").await.json();
    assert_eq!(models["data"][0]["id"], MODEL);
}
