//! Clients of every protocol, as small as tests need them.

use crate::Sample;
use anyhow::{Context, bail};
use cli::args;
use cli::client::session::{self, Chunk};
use cli::client::timeline::Report;
use cli::client::{self, ClientError};
use cli::demo::streaming_config;
use futures::{SinkExt, StreamExt};
use proto::speech::v1::recognize_request::Audio;
use proto::speech::v1::{RecognitionConfig, RecognizeRequest, RecognizeResponse};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

/// Milliseconds of audio a message.
pub const CHUNK_MS: u32 = 40;

/// Streams a recording in real time over gRPC.
pub async fn stream(service: &args::Service, sample: &Sample) -> Result<Report, ClientError> {
    let (out, chunks) = mpsc::channel(4);
    tokio::spawn(session::speak_in_real_time(chunks_of(sample), out));
    stream_chunks(service, sample, chunks).await
}

/// Streams chunks as they come over gRPC, in the format of `sample`.
pub async fn stream_chunks(
    service: &args::Service,
    sample: &Sample,
    chunks: mpsc::Receiver<Chunk>,
) -> Result<Report, ClientError> {
    let stub = client::connect(service).await?;
    session::run(stub, streaming_config(&sample.recording), chunks, |_, _| {}, &service.url).await
}

/// A recording in pieces of [`CHUNK_MS`].
pub fn chunks_of(sample: &Sample) -> Vec<Chunk> {
    let pieces = sample.recording.chunks(CHUNK_MS).into_iter();
    pieces.map(|(until_ms, audio)| Chunk { until_ms, audio }).collect()
}

/// Sends a recording over gRPC.
pub async fn recognize(service: &args::Service, content: Vec<u8>) -> Result<RecognizeResponse, ClientError> {
    let config = RecognitionConfig { word_timestamps: true, ..Default::default() };
    let request = RecognizeRequest { config: Some(config), audio: Some(Audio::Content(content)) };
    client::recognize(client::connect(service).await?, request, &service.url).await
}

/// A REST answer.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Seconds of `Retry-After`.
    pub retry_after: Option<String>,
    /// The JSON body; null when it is none.
    pub body: Value,
}

impl Answer {
    /// The stable word of an error.
    pub fn reason(&self) -> &str {
        self.body["reason"].as_str().unwrap_or_default()
    }

    /// The transcript.
    pub fn text(&self) -> &str {
        self.body["transcription"].as_str().unwrap_or_default()
    }
}

/// `POST` of bytes; `path` may hold a query.
pub async fn post(url: &str, path: &str, content_type: &str, body: Vec<u8>) -> anyhow::Result<Answer> {
    let request = http()?.post(format!("{url}{path}")).header("content-type", content_type).body(body);
    answer(request.send().await?).await
}

/// A recording over REST, word times asked for.
pub async fn get_text(url: &str, body: Vec<u8>) -> anyhow::Result<Answer> {
    post(url, "/api/v1/lightning/get_text?word_timestamps=true", "application/octet-stream", body).await
}

/// A recording over `OpenAI`'s API.
pub async fn openai(url: &str, wav: Vec<u8>) -> anyhow::Result<Answer> {
    let boundary = "a-line-that-no-recording-holds";
    let fields =
        [("model", "demo-asr"), ("response_format", "verbose_json"), ("timestamp_granularities[]", "word")];
    let mut body = Vec::new();
    for (name, value) in fields {
        let part =
            format!("--{boundary}\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
        body.extend_from_slice(part.as_bytes());
    }
    let head = format!(
        "--{boundary}\r\ncontent-disposition: form-data; name=\"file\"; filename=\"speech.wav\"\r\n\
         content-type: audio/wav\r\n\r\n"
    );
    body.extend_from_slice(head.as_bytes());
    body.extend_from_slice(&wav);
    body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    post(url, "/v1/audio/transcriptions", &format!("multipart/form-data; boundary={boundary}"), body).await
}

/// `GET`.
pub async fn get(url: &str) -> anyhow::Result<Answer> {
    answer(http()?.get(url).send().await?).await
}

async fn answer(response: reqwest::Response) -> anyhow::Result<Answer> {
    let status = response.status().as_u16();
    let header = response.headers().get("retry-after");
    let retry_after = header.and_then(|value| value.to_str().ok()).map(str::to_owned);
    let body = serde_json::from_str(&response.text().await?).unwrap_or_default();
    Ok(Answer { status, retry_after, body })
}

fn http() -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder().no_proxy().timeout(crate::PATIENCE).build()
}

/// Streams a recording in real time over the WebSocket, as Smallest's own clients do; final frames come back.
pub async fn websocket(url: &str, sample: &Sample) -> anyhow::Result<Vec<Value>> {
    let address = url.replacen("http", "ws", 1);
    let query =
        format!("sample_rate={}&encoding=linear16&word_timestamps=true", sample.recording.sample_rate_hz);
    let (socket, _) =
        tokio_tungstenite::connect_async(format!("{address}/api/v1/lightning/get_text?{query}")).await?;
    let (mut sink, mut frames) = socket.split();
    let (out, mut chunks) = mpsc::channel::<Chunk>(4);
    tokio::spawn(session::speak_in_real_time(chunks_of(sample), out));
    let mut finals = Vec::new();
    let mut speaking = true;
    loop {
        tokio::select! {
            chunk = chunks.recv(), if speaking => if let Some(chunk) = chunk {
                sink.send(Message::Binary(chunk.audio.into())).await?;
            } else {
                speaking = false;
                sink.send(Message::Text(r#"{"type":"close_stream"}"#.into())).await?;
            },
            frame = frames.next() => match frame.context("the service ends the stream with is_last")?? {
                Message::Text(text) => {
                    let frame: Value = serde_json::from_str(&text)?;
                    if frame["type"] == "error" {
                        bail!("the service says {frame}");
                    }
                    let last = frame["is_last"] == true;
                    if frame["is_final"] == true {
                        finals.push(frame);
                    }
                    if last {
                        return Ok(finals);
                    }
                }
                Message::Close(reason) => bail!("closed before is_last: {reason:?}"),
                _ => {}
            },
        }
    }
}

/// The text of final frames.
pub fn text_of(finals: &[Value]) -> String {
    let texts =
        finals.iter().filter_map(|frame| frame["transcript"].as_str()).filter(|text| !text.is_empty());
    texts.collect::<Vec<_>>().join(" ")
}
