//! Bad input over the whole path: a documented status and reason, and the service goes on.

use cli::client::session::Chunk;
use cli::wav::Recording;
use e2e::clients::{get_text, post, stream_chunks};
use e2e::{Resource, Service, quickstart};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

fn wav(sample_rate_hz: u32, channels: u16, samples: Vec<i16>) -> Vec<u8> {
    Recording { sample_rate_hz, channels, samples }.to_wav()
}

#[tokio::test]
async fn what_is_no_audio_is_refused_by_name() -> anyhow::Result<()> {
    let service = Service::start(&Resource { max_body_bytes: 4 << 20, ..Resource::default() }).await?;
    let sample = quickstart()?;
    let mut lying = sample.wav.clone();
    lying[40..44].copy_from_slice(&900_000_000_u32.to_le_bytes());
    let cases: [(&str, Vec<u8>, u16, &str); 5] = [
        ("no audio", Vec::new(), 400, "AudioMissing"),
        ("text where audio belongs", b"please recognize this".to_vec(), 415, "UnsupportedFormat"),
        ("half a header", sample.wav[..20].to_vec(), 400, "TruncatedAudio"),
        ("no samples", wav(16_000, 1, Vec::new()), 400, "AudioMissing"),
        ("a header that promises more than there is", lying, 400, "TruncatedAudio"),
    ];
    for (what, body, status, reason) in cases {
        let answer = get_text(&service.url, body).await?;
        assert_eq!((answer.status, answer.reason()), (status, reason), "{what}: {answer:?}");
        assert!(!answer.body["request_id"].as_str().unwrap_or_default().is_empty(), "{what}: {answer:?}");
    }
    let one = get_text(&service.url, wav(16_000, 1, vec![7])).await?;
    assert_eq!((one.status, one.text()), (200, ""), "one sample: {one:?}");
    // 4 GiB is what programs write that do not know the size yet: all that is there counts.
    let mut open = sample.wav.clone();
    open[40..44].copy_from_slice(&u32::MAX.to_le_bytes());
    sample.check(get_text(&service.url, open).await?.text())?;
    let queries: [(&str, &[u16], &str); 3] = [
        ("language=xx", &[400], "UnknownLanguage"),
        ("model=no-such-model", &[404], "UnknownModel"),
        ("encoding=linear16&sample_rate=7", &[400], "InvalidParameter"),
    ];
    for (query, statuses, reason) in queries {
        let path = format!("/api/v1/lightning/get_text?{query}");
        let answer = post(&service.url, &path, "application/octet-stream", sample.wav.clone()).await?;
        assert!(statuses.contains(&answer.status) && answer.reason() == reason, "{query}: {answer:?}");
    }
    assert_eq!(promised(&service, 5 << 20).await?, 413, "a body over the limit");
    let json = post(&service.url, "/api/v1/lightning/get_text", "application/json", b"{".to_vec()).await?;
    assert_eq!(json.status, 400, "{json:?}");
    sample.check(get_text(&service.url, sample.wav.clone()).await?.text())
}

/// The status that a promise of so many bytes gets, before any is sent.
async fn promised(service: &Service, bytes: usize) -> anyhow::Result<u16> {
    let mut socket = TcpStream::connect(service.url.trim_start_matches("http://")).await?;
    let head =
        format!("POST /api/v1/lightning/get_text HTTP/1.1\r\nhost: x\r\ncontent-length: {bytes}\r\n\r\n");
    socket.write_all(head.as_bytes()).await?;
    let mut line = String::new();
    BufReader::new(socket).read_line(&mut line).await?;
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
    status.ok_or_else(|| anyhow::anyhow!("an answer: {line:?}"))
}

#[tokio::test]
async fn every_rate_and_shape_is_heard() -> anyhow::Result<()> {
    let service = Service::start(&Resource::default()).await?;
    let sample = quickstart()?;
    let mono = &sample.recording.samples;
    let stereo: Vec<i16> = mono.iter().flat_map(|sample| [*sample, *sample]).collect();
    // Each sample three times is the same sound at 48 kHz, all but for images that the resampler removes.
    let tripled: Vec<i16> = mono.iter().flat_map(|sample| [*sample; 3]).collect();
    for (what, body) in [("stereo", wav(16_000, 2, stereo)), ("48 kHz", wav(48_000, 1, tripled))] {
        let answer = get_text(&service.url, body).await?;
        assert_eq!(answer.status, 200, "{what}: {answer:?}");
        sample.check(answer.text()).map_err(|error| error.context(what))?;
    }
    let silence = get_text(&service.url, wav(16_000, 1, vec![0; 48_000])).await?;
    assert_eq!((silence.status, silence.text()), (200, ""));
    Ok(())
}

#[tokio::test]
async fn a_stream_of_nothing_ends_in_order() -> anyhow::Result<()> {
    let service = Service::start(&Resource::default()).await?;
    let sample = quickstart()?;
    let (out, chunks) = mpsc::channel::<Chunk>(1);
    drop(out);
    let report = stream_chunks(&service.args(), &sample, chunks).await?;
    assert_eq!(report.text, "");
    Ok(())
}
