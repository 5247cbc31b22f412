//! The transcription API of `OpenAI`: a form with a file in; text, JSON, subtitles or a stream of words out.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::header;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::Stream;
use metrics::counter;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::context::{Context, count};
use super::upload::Upload;
use super::words::{Utterance, seconds, utterances};
use super::{subtitles, upload};
use crate::admit::{Admitted, Kind};
use crate::audio::SAMPLE_RATE_HZ;
use crate::audio::decode::{Recording, decode};
use crate::audio::raw::{Encoding, RawFormat};
use crate::dispatch::{self, Answer};
use crate::error::Error;
use crate::live::{Input, LiveCall};
use crate::request::{Batch, DEFAULT_ENDPOINTING_MS, Flag, Live, LiveFormat, Params};
use crate::serve::Gateway;
use crate::session::LiveEvent;

/// Audio given to a streamed recording's session at once, bytes: 1 s.
const PIECE: usize = 32_000;

/// How the text is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Json,
    Text,
    VerboseJson,
    Srt,
    Vtt,
}

/// `POST /v1/audio/transcriptions`.
pub async fn transcriptions(
    State(gateway): State<Arc<Gateway>>,
    context: Context,
    request: Request,
) -> Result<Response, Error> {
    counter!("gateway_requests_total", "edge" => "openai").increment(1);
    let admitted = gateway.enter(Kind::Batch, context.key())?;
    let upload = upload::read(&gateway, request).await?;
    let format = format(&upload.params)?;
    let batch = upload.params.batch(upload.content)?;
    if upload.params.flag("stream", Flag::No)?.is_yes() {
        let live = gateway.enter(Kind::Live, context.key())?;
        return Ok(stream(&gateway, live, batch, upload).await?.into_response());
    }
    let words = upload.params.get("timestamp_granularities[]").is_some_and(|g| g.contains("word"));
    let answer = dispatch::recognize(&gateway, admitted, batch, upload.body).await?;
    Ok(render(&answer, format, words))
}

/// `GET /v1/models`: what the workers serve.
pub async fn models(State(gateway): State<Arc<Gateway>>) -> Json<Value> {
    let mut names: Vec<_> = gateway.view.borrow().workers.iter().map(|w| w.model.clone()).collect();
    names.sort_unstable();
    names.dedup();
    let model = |id| json!({"id": id, "object": "model", "created": 0, "owned_by": "smallest"});
    Json(json!({"object": "list", "data": names.into_iter().map(model).collect::<Vec<_>>()}))
}

fn format(params: &Params) -> Result<Format, Error> {
    match params.get("response_format") {
        None | Some("json") => Ok(Format::Json),
        Some("text") => Ok(Format::Text),
        Some("verbose_json") => Ok(Format::VerboseJson),
        Some("srt") => Ok(Format::Srt),
        Some("vtt") => Ok(Format::Vtt),
        Some(_) => Err(Error::InvalidParameter {
            name: "response_format",
            detail: "use json, text, verbose_json, srt or vtt".to_owned(),
        }),
    }
}

fn render(answer: &Answer, format: Format, words: bool) -> Response {
    let t = &answer.transcript;
    let plain = |kind: &'static str, text: String| ([(header::CONTENT_TYPE, kind)], text).into_response();
    match format {
        Format::Json => Json(json!({"text": t.text})).into_response(),
        Format::Text => plain("text/plain; charset=utf-8", format!("{}\n", t.text)),
        Format::Srt => plain("application/x-subrip; charset=utf-8", subtitles::srt(&t.words)),
        Format::Vtt => plain("text/vtt; charset=utf-8", subtitles::vtt(&t.words)),
        Format::VerboseJson => Json(verbose(answer, words)).into_response(),
    }
}

fn verbose(answer: &Answer, words: bool) -> Value {
    let t = &answer.transcript;
    let segments: Vec<Value> =
        utterances(&t.words).iter().enumerate().map(|(id, u)| segment(id, u)).collect();
    let mut body = json!({
        "task": "transcribe",
        "language": t.language,
        "duration": seconds(t.audio_ms),
        "text": t.text,
        "segments": segments,
    });
    if words {
        let word = |w: &queue::job::Word| json!({"word": w.word, "start": seconds(w.start_ms), "end": seconds(w.end_ms)});
        body["words"] = t.words.iter().map(word).collect();
    }
    body
}

/// A segment with all fields that clients of the API expect; those of another kind of model are neutral.
fn segment(id: usize, utterance: &Utterance<'_>) -> Value {
    let (start, end) = utterance.span_ms();
    let n = utterance.words.len() as f64;
    let log_prob = utterance.words.iter().map(|w| f64::from(w.confidence.max(1e-6)).ln()).sum::<f64>() / n;
    json!({
        "id": id, "seek": 0, "start": seconds(start), "end": seconds(end), "text": utterance.text(),
        "tokens": [], "temperature": 0.0, "avg_logprob": log_prob, "compression_ratio": 1.0, "no_speech_prob": 0.0,
    })
}

/// A recording through a live session, as fast as the workers go: words come out while it is still decoded.
async fn stream(
    gateway: &Arc<Gateway>,
    admitted: Admitted,
    batch: Batch,
    upload: Upload,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>> + use<>>, Error> {
    let (body, lease) = upload.body;
    let max_seconds = gateway.config.limits.max_audio_seconds;
    let recording = gateway.pool.run(move || decode(body, batch.raw, max_seconds, lease)).await?;
    let mut wanted = batch.wanted;
    wanted.endpointing_ms = DEFAULT_ENDPOINTING_MS;
    let raw = RawFormat { encoding: Encoding::Linear16, rate_hz: SAMPLE_RATE_HZ, channels: 1 };
    let format = LiveFormat::Raw(raw);
    let request = Live { wanted, format, interim: false, progress: false, resume: None };
    let LiveCall { input, events, failed, .. } = dispatch::open(gateway, admitted, request).await?;
    tokio::spawn(feed(recording, input));
    let state = Some((events, failed, String::new()));
    Ok(Sse::new(futures::stream::unfold(state, |state| async move {
        let (mut events, failed, mut text) = state?;
        while let Some(event) = events.recv().await {
            match event {
                LiveEvent::Final { segment, .. } if !segment.text.is_empty() => {
                    let gap = if text.is_empty() { "" } else { " " };
                    let delta = format!("{gap}{}", segment.text);
                    text.push_str(&delta);
                    let event = sse(&json!({"type": "transcript.text.delta", "delta": delta}));
                    return Some((Ok(event), Some((events, failed, text))));
                }
                LiveEvent::Ended { .. } => {
                    let event = sse(&json!({"type": "transcript.text.done", "text": text}));
                    return Some((Ok(event), None));
                }
                _ => {}
            }
        }
        let error = failed.await.ok()?;
        count(&error);
        let mut body = error.openai_body();
        body["type"] = json!("error");
        Some((Ok(sse(&body)), None))
    })))
}

fn sse(body: &Value) -> Event {
    let name = body["type"].as_str().unwrap_or_default();
    Event::default().event(name).data(body.to_string())
}

async fn feed(recording: Recording, input: mpsc::Sender<Input>) {
    let pcm: Bytes = recording.pcm;
    for start in (0..pcm.len()).step_by(PIECE) {
        let piece = pcm.slice(start..pcm.len().min(start + PIECE));
        if input.send(Input::Audio(piece)).await.is_err() {
            return;
        }
    }
    if input.send(Input::End).await.is_ok() {
        input.closed().await;
    }
    drop(recording.lease);
}
