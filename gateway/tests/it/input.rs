//! Bad input: a documented status and body for each, and the gateway as it was before.

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::audio::{bytes, pcm, say, to_mulaw, wav, wav_file, wav_of};
use crate::harness::{Reply, Served, form, served, soon};

const PATH: &str = "/api/v1/lightning/get_text";

/// Name, query, content type, body; status and reason of the answer.
type Case = (&'static str, &'static str, &'static str, Vec<u8>, u16, &'static str);

#[tokio::test]
async fn every_rate_and_layout_is_read() {
    let (served, _worker) = served(&[]).await;
    let stereo: Vec<i16> = say("234", 44_100).iter().flat_map(|s| [*s, *s]).collect();
    let mulaw: Vec<u8> = say("234", 8_000).into_iter().map(to_mulaw).collect();
    let float: Vec<u8> =
        say("234", 48_000).iter().flat_map(|s| (f32::from(*s) / 32_768.0).to_le_bytes()).collect();
    let wide: Vec<u8> =
        say("234", 16_000).iter().flat_map(|s| [0, s.to_le_bytes()[0], s.to_le_bytes()[1]]).collect();
    let files: [(&str, Vec<u8>); 15] = [
        ("8 kHz", wav(&say("234", 8_000), 8_000, 1)),
        ("44.1 kHz", wav(&say("234", 44_100), 44_100, 1)),
        ("48 kHz", wav(&say("234", 48_000), 48_000, 1)),
        ("stereo 44.1 kHz", wav(&stereo, 44_100, 2)),
        ("mu-law", wav_file(7, 1, 8_000, 8, &mulaw)),
        ("float", wav_file(3, 1, 48_000, 32, &float)),
        ("24 bits", wav_file(1, 1, 16_000, 24, &wide)),
        ("adpcm", include_bytes!("fixtures/234-adpcm.wav").to_vec()),
        ("flac", include_bytes!("fixtures/234.flac").to_vec()),
        ("mp3", include_bytes!("fixtures/234.mp3").to_vec()),
        ("ogg", include_bytes!("fixtures/234.ogg").to_vec()),
        ("opus in ogg", include_bytes!("fixtures/234-opus.ogg").to_vec()),
        ("opus in webm", include_bytes!("fixtures/234-opus.webm").to_vec()),
        ("m4a", include_bytes!("fixtures/234.m4a").to_vec()),
        ("mkv", include_bytes!("fixtures/234.mkv").to_vec()),
    ];
    for (name, file) in files {
        let reply = served.post(PATH, "application/octet-stream", file).await;
        assert_eq!(reply.status, 200, "{name}: {}", reply.text);
        assert_eq!(reply.json()["transcription"], "w2 w3 w4", "{name}");
    }
}

#[tokio::test]
async fn one_sample_and_silence_are_answered_without_words() {
    let (served, _worker) = served(&[]).await;
    for (name, file) in [("one sample", wav(&[5], 16_000, 1)), ("silence", wav_of("||||"))] {
        let reply = served.post(PATH, "audio/wav", file).await;
        assert_eq!((reply.status, reply.json()["transcription"].as_str()), (200, Some("")), "{name}");
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_by_name() {
    let (served, _worker) = served(&["--max-body-bytes", "100000", "--max-audio-seconds", "2"]).await;
    let good = wav_of("123");
    let mut lying = good.clone();
    lying[40..44].copy_from_slice(&900_000_u32.to_le_bytes());
    let mut impossible = good.clone();
    impossible[22..24].copy_from_slice(&99_u16.to_le_bytes());
    let (flac, opus) = (include_bytes!("fixtures/234.flac"), include_bytes!("fixtures/234-opus.ogg"));
    let cases: Vec<Case> = vec![
        ("no audio", "", "audio/wav", Vec::new(), 400, "AudioMissing"),
        ("no samples", "", "audio/wav", wav(&[], 16_000, 1), 400, "AudioMissing"),
        ("truncated header", "", "audio/wav", good[..30].to_vec(), 400, "TruncatedAudio"),
        ("lying header", "", "audio/wav", lying, 400, "TruncatedAudio"),
        ("99 channels", "", "audio/wav", impossible, 400, "InvalidAudio"),
        ("truncated flac", "", "audio/flac", flac[..60].to_vec(), 400, "TruncatedAudio"),
        ("truncated opus", "", "audio/ogg", opus[..60].to_vec(), 400, "TruncatedAudio"),
        ("text", "", "application/octet-stream", b"please transcribe".to_vec(), 415, "UnsupportedFormat"),
        ("noise", "", "application/octet-stream", vec![1; 999], 415, "UnsupportedFormat"),
        ("text type", "", "text/plain", good.clone(), 415, "UnsupportedContentType"),
        (
            "curl's default type",
            "",
            "application/x-www-form-urlencoded",
            good.clone(),
            415,
            "UnsupportedContentType",
        ),
        ("too large", "", "audio/wav", vec![0; 100_001], 413, "BodyTooLarge"),
        (
            "too long",
            "?encoding=mulaw&sample_rate=8000",
            "audio/mulaw",
            vec![255; 16_001],
            413,
            "AudioTooLong",
        ),
        ("language", "?language=tlh", "audio/wav", good.clone(), 400, "UnknownLanguage"),
        ("model", "?model=other", "audio/wav", good.clone(), 404, "UnknownModel"),
        ("look-ahead", "?lookahead=99", "audio/wav", good.clone(), 400, "UnsupportedOption"),
        ("flag", "?word_timestamps=2x", "audio/wav", good.clone(), 400, "InvalidParameter"),
        ("feature", "?diarize=true", "audio/wav", good.clone(), 400, "InvalidParameter"),
        ("rate", "?encoding=linear16&sample_rate=1", "audio/wav", pcm("1"), 400, "InvalidParameter"),
        ("broken JSON", "", "application/json", b"{".to_vec(), 400, "InvalidMessage"),
        ("no url", "", "application/json", b"{}".to_vec(), 400, "MissingParameter"),
        ("no boundary", "", "multipart/form-data", b"x".to_vec(), 400, "InvalidMessage"),
    ];
    for (name, query, kind, body, status, reason) in cases {
        let reply = served.post(&format!("{PATH}{query}"), kind, body).await;
        let json = reply.json();
        assert_eq!((reply.status, json["reason"].as_str()), (status, Some(reason)), "{name}: {}", reply.text);
        for field in ["status", "error", "message", "code", "error_code", "request_id"] {
            assert!(json[field].is_string(), "{name}: {field} in {}", reply.text);
        }
    }
    let (kind, body) = form(("other", b"x"), &[]);
    assert_eq!(served.post(PATH, &kind, body).await.json()["reason"], "AudioMissing");
    // Nothing stuck, nothing held, and the next one is served.
    assert_eq!((served.gateway.door.active(), served.gateway.budget.used()), ((0, 0), 0));
    assert_eq!(served.post(PATH, "audio/wav", good).await.status, 200);
}

#[tokio::test]
async fn two_hours_are_served_and_a_sample_more_is_refused() {
    let (served, _worker) = served(&[]).await;
    let query = format!("{PATH}?encoding=linear16");
    let mut two_hours = vec![0_u8; 2 * 3_600 * 16_000 * 2];
    let reply = served.post(&query, "application/octet-stream", two_hours.clone()).await;
    assert_eq!((reply.status, &reply.json()["metadata"]["duration"]), (200, &Value::from(7_200.0)));
    two_hours.extend([0, 0]);
    let reply = served.post(&query, "application/octet-stream", two_hours).await;
    assert_eq!((reply.status, reply.json()["reason"].as_str()), (413, Some("AudioTooLong")));
}

#[tokio::test]
async fn long_headers_and_unknown_paths_are_answered() {
    let (served, _worker) = served(&[]).await;
    let request = served.http.post(served.url(PATH)).header("x-filler", "x".repeat(17_000)).body(wav_of("1"));
    let reply = Reply::of(request.send().await.unwrap()).await;
    assert_eq!((reply.status, reply.json()["reason"].as_str()), (431, Some("HeaderTooLarge")));
    assert_eq!(answer_to_long_header(&served, 200_000).await, "HTTP/1.1 431");
    assert_eq!(served.get("/api/v1/other").await.json()["reason"], "NotFound");
    assert_eq!(served.get(PATH).await.status, 405);
    let reply = served.http.delete(served.url("/v1/listen")).send().await.unwrap();
    assert_eq!(reply.status().as_u16(), 405);
}

/// Start of the answer to a header of so many bytes, whatever becomes of the connection behind it.
async fn answer_to_long_header(served: &Served, bytes: usize) -> String {
    let stream = tokio::net::TcpStream::connect(served.address).await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    let head = format!("GET /health HTTP/1.1\r\nHost: x\r\nX-Filler: {}\r\n\r\n", "x".repeat(bytes));
    // The gateway stops reading somewhere within it; then the rest cannot be written.
    let writing = tokio::spawn(async move { drop(writer.write_all(head.as_bytes()).await) });
    let mut answer = [0; 12];
    soon("an answer", reader.read_exact(&mut answer)).await.unwrap();
    writing.abort();
    String::from_utf8(answer.to_vec()).unwrap()
}

#[tokio::test]
async fn long_headers_over_http_2_are_answered_and_the_connection_goes_on() {
    let (served, _worker) = served(&[]).await;
    let http = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    let get = |bytes: usize| http.get(served.url("/health")).header("x-filler", "x".repeat(bytes)).send();
    let reply = Reply::of(get(17_000).await.unwrap()).await;
    assert_eq!((reply.status, reply.json()["reason"].as_str()), (431, Some("HeaderTooLarge")));
    // Beyond what is read at all there is no body, but the same status.
    assert_eq!(get(70_000).await.unwrap().status().as_u16(), 431);
    assert_eq!(get(100).await.unwrap().status().as_u16(), 200);
    // A header without end is an attack: the connection is closed, with the protocol's word for it.
    let closed = format!("{:?}", get(200_000).await.unwrap_err());
    assert!(closed.contains("ENHANCE_YOUR_CALM"), "{closed}");
    assert_eq!(get(100).await.unwrap().status().as_u16(), 200);
}

#[tokio::test]
async fn a_body_that_never_comes_is_given_up() {
    let (served, _worker) = served(&["--idle-timeout-ms", "100"]).await;
    let mut stream = tokio::net::TcpStream::connect(served.address).await.unwrap();
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: audio/wav\r\nContent-Length: 1000\r\n\r\nRIFF"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 64];
    let n = soon("an answer", stream.read(&mut answer)).await.unwrap();
    assert!(answer[..n].starts_with(b"HTTP/1.1 408"), "{:?}", String::from_utf8_lossy(&answer[..n]));
    assert_eq!(served.gateway.budget.used(), 0);
}

#[tokio::test]
async fn raw_bytes_with_half_a_sample_are_read_without_it() {
    let (served, _worker) = served(&[]).await;
    let mut odd = bytes(&say("6", 16_000));
    odd.push(1);
    let reply = served.post(&format!("{PATH}?encoding=linear16"), "application/octet-stream", odd).await;
    assert_eq!(reply.json()["transcription"], "w6");
}
