//! WebSocket: the published frames, controls, errors and close codes.

use futures::SinkExt as _;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use crate::audio::{bytes, pcm, say, to_mulaw};
use crate::harness::{finals, served, until};

const PATH: &str = "/api/v1/lightning/get_text";

#[tokio::test]
async fn words_come_while_they_are_spoken() {
    let (served, _worker) = served(&[]).await;
    let mut socket = served
        .socket(&format!("{PATH}?word_timestamps=true&full_transcript=true&external_session_id=x9"))
        .await;
    socket.audio(&pcm("12|")).await;
    let frames = socket.frames_until(|f| f["is_final"] == true).await;
    let partial = &frames[0];
    assert_eq!(
        (&partial["type"], &partial["is_final"], &partial["transcript"]),
        (&json!("transcription"), &json!(false), &json!("w1"))
    );
    assert!(partial.get("language").is_none() && partial.get("words").is_none(), "only finals have them");
    let end = frames.last().unwrap();
    assert_eq!((&end["transcript"], &end["transcription"]), (&json!("w1 w2"), &json!("w1 w2")));
    assert_eq!(
        (&end["status"], &end["is_last"], &end["from_finalize"]),
        (&json!("success"), &json!(false), &json!(false))
    );
    assert_eq!(
        (&end["speech_final"], &end["language"], &end["languages"]),
        (&json!(true), &json!("en"), &json!(["en"]))
    );
    assert_eq!(end["words"][1], json!({"word": "w2", "start": 0.3, "end": 0.6, "confidence": 0.5}));
    assert_eq!((&end["external_session_id"], &end["full_transcript"]), (&json!("x9"), &json!("w1 w2")));
    assert!(end["session_id"].as_str().unwrap().starts_with("ses-"));

    socket.audio(&pcm("3")).await;
    socket.say(r#"{"type":"close_stream"}"#).await;
    let (frames, code) = socket.rest().await;
    let last = frames.last().unwrap();
    assert_eq!(
        (&last["is_last"], &last["transcript"], &last["full_transcript"]),
        (&json!(true), &json!("w3"), &json!("w1 w2 w3"))
    );
    assert_eq!(code, Some(1000));
    until("its place", || served.gateway.door.active() == (0, 0)).await;
    assert_eq!(served.license.counted.lock().unwrap().requests, 1);
}

#[tokio::test]
async fn every_path_and_both_generations_of_controls_work() {
    let (served, _worker) = served(&[]).await;
    for path in [
        "/waves/v1/stt/live?model=pulse",
        "/waves/v1/pulse/get_text",
        "/waves/v1/lightning/get_text",
        "/v1/listen/stream",
    ] {
        let mut socket = served.socket(path).await;
        socket.audio(&pcm("4")).await;
        socket.say(r#"{"type":"end"}"#).await;
        let (frames, code) = socket.rest().await;
        assert_eq!((finals(&frames), code), (vec!["w4".to_owned()], Some(1000)), "{path}");
        let words = frames.last().unwrap().get("words").is_some();
        assert_eq!(words, path.contains("pulse/"), "{path}: the default of its spec");
    }
}

#[tokio::test]
async fn opus_comes_as_a_stream_cut_anywhere_or_as_packets() {
    let (served, _worker) = served(&[]).await;
    let ogg = include_bytes!("fixtures/234-opus.ogg");
    let mut socket = served.socket(&format!("{PATH}?encoding=ogg_opus")).await;
    for piece in ogg.chunks(333) {
        socket.0.send(Message::Binary(piece.to_vec().into())).await.unwrap();
    }
    socket.say(r#"{"type":"close_stream"}"#).await;
    assert_eq!(finals(&socket.rest().await.0), ["w2 w3 w4"]);

    let mut socket = served.socket(&format!("{PATH}?encoding=opus")).await;
    let mut packets = ogg::PacketReader::new(std::io::Cursor::new(ogg));
    let mut number = 0;
    while let Some(packet) = packets.read_packet().unwrap() {
        number += 1;
        // The first two are headers of the container.
        if number > 2 {
            socket.0.send(Message::Binary(packet.data.into())).await.unwrap();
        }
    }
    socket.say(r#"{"type":"close_stream"}"#).await;
    assert_eq!(finals(&socket.rest().await.0), ["w2 w3 w4"]);

    let mut socket = served.socket(&format!("{PATH}?encoding=ogg_opus")).await;
    socket.audio(&pcm("1")).await;
    let (frames, code) = socket.rest().await;
    let last = frames.last().unwrap();
    assert_eq!((&last["type"], code), (&json!("error"), Some(1007)), "{last}");
    assert!(last["message"].as_str().unwrap().contains("ogg"), "{last}");
}

#[tokio::test]
async fn finalize_makes_text_final_and_the_stream_goes_on() {
    let (served, _worker) = served(&[]).await;
    let mut socket = served.socket(PATH).await;
    socket.audio(&pcm("5")).await;
    socket.say(r#"{"type":"finalize"}"#).await;
    let frames = socket.frames_until(|f| f["from_finalize"] == true).await;
    assert_eq!(finals(&frames), ["w5"]);
    // Nothing was said since: the answer comes all the same, and empty.
    socket.say(r#"{"type":"finalize"}"#).await;
    let frames = socket.frames_until(|f| f["from_finalize"] == true).await;
    assert_eq!(frames.last().unwrap()["transcript"], "");
    socket.audio(&pcm("6")).await;
    socket.say(r#"{"type":"close_stream"}"#).await;
    assert_eq!(finals(&socket.rest().await.0), ["w6"]);
}

#[tokio::test]
async fn progress_and_pongs_come_when_asked_for() {
    let (served, _worker) = served(&[]).await;
    let mut socket = served.socket(&format!("{PATH}?progress=true")).await;
    socket.say(r#"{"type":"keepalive"}"#).await;
    assert_eq!(socket.frame().await.unwrap(), json!({"type": "pong"}));
    socket.0.send(Message::Ping(b"x".to_vec().into())).await.unwrap();
    socket.audio(&pcm("...")).await;
    let mut steps = Vec::new();
    while steps.len() < 3 {
        let frame = socket.frame().await.unwrap();
        if frame["type"] == "progress" {
            steps.push(frame["processed_ms"].as_u64().unwrap());
        }
    }
    assert_eq!(steps, [100, 200, 300]);
}

#[tokio::test]
async fn live_audio_of_other_rates_and_encodings_is_heard() {
    let (served, _worker) = served(&[]).await;
    let mulaw: Vec<u8> = say("234", 8_000).into_iter().map(to_mulaw).collect();
    for (query, audio) in [
        ("sample_rate=8000", bytes(&say("234", 8_000))),
        ("sample_rate=48000", bytes(&say("234", 48_000))),
        ("sample_rate=44100&encoding=linear16", bytes(&say("234", 44_100))),
        ("sample_rate=8000&encoding=mulaw", mulaw),
    ] {
        let mut socket = served.socket(&format!("{PATH}?{query}")).await;
        // Odd pieces: samples are cut in two.
        for piece in audio.chunks(777) {
            socket.0.send(Message::Binary(piece.to_vec().into())).await.unwrap();
        }
        socket.say(r#"{"type":"close_stream"}"#).await;
        assert_eq!(finals(&socket.rest().await.0).join(" "), "w2 w3 w4", "{query}");
    }
}

#[tokio::test]
async fn bad_requests_are_refused_before_the_upgrade() {
    let (served, _worker) = served(&[]).await;
    for (query, status, reason) in [
        ("language=tlh", 400, "UnknownLanguage"),
        ("model=other", 404, "UnknownModel"),
        ("sample_rate=12345", 400, "InvalidParameter"),
        ("encoding=amr", 400, "InvalidParameter"),
        ("eou_timeout_ms=5", 400, "InvalidParameter"),
        ("session_id=ses-unknown", 404, "SessionNotFound"),
    ] {
        let (code, body) = served.refused_socket(&format!("{PATH}?{query}")).await;
        assert_eq!((code, body["reason"].as_str()), (status, Some(reason)), "{query}");
    }
    assert_eq!(served.gateway.door.active(), (0, 0));
}

#[tokio::test]
async fn text_where_audio_belongs_ends_the_stream_by_name() {
    let (served, worker) = served(&[]).await;
    for text in ["hello", "{}", r#"{"type":"dance"}"#] {
        let mut socket = served.socket(PATH).await;
        socket.audio(&pcm("1")).await;
        socket.say(text).await;
        let (frames, code) = socket.rest().await;
        let error = frames.last().unwrap();
        assert_eq!(
            (&error["type"], &error["status"], &error["reason"]),
            (&json!("error"), &json!("error"), &json!("InvalidMessage"))
        );
        assert_eq!(code, Some(1003), "{text}");
    }
    until("the slots", || worker.knobs.cancelled.load(std::sync::atomic::Ordering::Relaxed) == 3).await;
}

#[tokio::test]
async fn a_message_that_is_too_large_ends_the_stream_by_name() {
    let (served, _worker) = served(&[]).await;
    let mut socket = served.socket(PATH).await;
    drop(socket.0.send(Message::Binary(vec![0; (1 << 20) + 1].into())).await);
    let (frames, code) = socket.rest().await;
    assert_eq!((frames.last().map(|f| f["reason"].clone()), code), (Some(json!("BodyTooLarge")), Some(1009)));
}

#[tokio::test]
async fn speech_events_come_when_asked_for() {
    let (served, _worker) = served(&[]).await;
    // 0.3 s of sound, a pause of 0.6 s, 0.3 s of sound.
    let expected = [("speech_started", 0.0), ("speech_ended", 0.3), ("speech_started", 0.9)];
    for (query, expected) in [("vad_events=true", &expected[..]), ("vad=true", &expected[..]), ("", &[])] {
        let mut socket = served.socket(&format!("{PATH}?{query}")).await;
        socket.audio(&pcm("1|2")).await;
        socket.say(r#"{"type":"close_stream"}"#).await;
        let (frames, _) = socket.rest().await;
        let speech = frames.iter().filter_map(|f| Some((f["type"].as_str()?, f["timestamp"].as_f64()?)));
        let speech: Vec<_> = speech.filter(|(kind, _)| kind.starts_with("speech_")).collect();
        assert_eq!(speech, expected, "{query}");
    }
}

#[tokio::test]
async fn a_client_that_vanishes_frees_its_slot() {
    let (served, worker) = served(&[]).await;
    let mut socket = served.socket(PATH).await;
    socket.audio(&pcm("1")).await;
    socket.frame().await.unwrap();
    drop(socket);
    until("the slot", || worker.knobs.cancelled.load(std::sync::atomic::Ordering::Relaxed) == 1).await;
    until("its place", || served.gateway.door.active() == (0, 0)).await;
}
