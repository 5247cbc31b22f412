//! Events of a live session in the published JSON frames of the WebSocket. Pure.

use queue::job::Word;
use queue::session::FinalReason;
use serde::Serialize;

use super::words::seconds;
use crate::error::Error;
use crate::request::{Flag, Params};
use crate::session::LiveEvent;

/// Longest `full_transcript`, bytes; its start is forgotten beyond that.
const MAX_FULL: usize = 1 << 20;

/// What a client wants to see, and what it was shown.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent wishes of the client, each named")]
pub struct View {
    session_id: String,
    external_session_id: Option<String>,
    word_timestamps: bool,
    vad_events: bool,
    /// All final text so far, when it was asked for.
    full: Option<String>,
    /// A final with `from_finalize` was shown for the finalize that is not answered yet.
    finalize_shown: bool,
    /// A frame with `is_last` was shown.
    last_shown: bool,
}

#[derive(Serialize)]
struct Times<'a> {
    word: &'a str,
    start: f64,
    end: f64,
    confidence: f32,
}

#[derive(Serialize)]
struct Spoken<'a> {
    text: &'a str,
    start: f64,
    end: f64,
}

#[derive(Serialize, Default)]
#[expect(clippy::struct_field_names, reason = "the published name of the field")]
struct Transcription<'a> {
    r#type: &'static str,
    status: &'static str,
    session_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    external_session_id: Option<&'a str>,
    transcript: &'a str,
    transcription: &'a str,
    is_final: bool,
    is_last: bool,
    from_finalize: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    speech_final: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    full_transcript: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    language: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    languages: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    words: Option<Vec<Times<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    utterances: Option<Vec<Spoken<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    redacted_entities: Option<[(); 0]>,
    processed_ms: u64,
}

impl View {
    /// What a query asks for. `words` is the default of the path for word times.
    pub fn new(session_id: String, params: &Params, words: Flag) -> Result<Self, Error> {
        let external = params.get("external_session_id").map(|id| id.chars().take(256).collect());
        let full = params.flag("full_transcript", Flag::No)?.is_yes();
        let vad = params.flag("vad", Flag::No)?;
        Ok(Self {
            session_id,
            external_session_id: external,
            word_timestamps: params.flag("word_timestamps", words)?.is_yes(),
            vad_events: params.flag("vad_events", vad)?.is_yes(),
            full: full.then(String::new),
            finalize_shown: false,
            last_shown: false,
        })
    }

    /// The frame of an event; `None` when the client sees nothing of it.
    pub fn frame(&mut self, event: &LiveEvent) -> Option<String> {
        match event {
            LiveEvent::Started { .. } => None,
            LiveEvent::Partial { partial, processed_ms, .. } => {
                let frame = Transcription { processed_ms: *processed_ms, ..self.blank() };
                Some(text(&Transcription {
                    transcript: &partial.text,
                    transcription: &partial.text,
                    ..frame
                }))
            }
            LiveEvent::Progress { processed_ms, timing } => Some(text(&serde_json::json!({
                "type": "progress", "session_id": self.session_id, "processed_ms": processed_ms,
                "queue_ms": timing.queue_ms, "infer_ms": timing.infer_ms,
            }))),
            LiveEvent::Final { .. } => self.final_frame(event),
            LiveEvent::Speech { started, at_ms } => self.vad_events.then(|| {
                let kind = if *started { "speech_started" } else { "speech_ended" };
                text(&serde_json::json!({
                    "type": kind, "session_id": self.session_id, "timestamp": seconds(*at_ms),
                }))
            }),
            LiveEvent::Finalized => {
                let shown = std::mem::take(&mut self.finalize_shown);
                (!shown).then(|| text(&Transcription { is_final: true, from_finalize: true, ..self.blank() }))
            }
            LiveEvent::Ended { audio_ms } => {
                let frame =
                    Transcription { is_final: true, is_last: true, processed_ms: *audio_ms, ..self.blank() };
                (!self.last_shown).then(|| text(&frame))
            }
        }
    }

    fn final_frame(&mut self, event: &LiveEvent) -> Option<String> {
        let LiveEvent::Final { segment, from_finalize, processed_ms } = event else { return None };
        let is_last = segment.reason == FinalReason::End;
        if segment.text.is_empty() && !from_finalize && !is_last {
            return None;
        }
        self.finalize_shown |= from_finalize;
        self.last_shown |= is_last;
        if let Some(full) = &mut self.full {
            append(full, &segment.text);
        }
        let spoken =
            Spoken { text: &segment.text, start: seconds(segment.start_ms), end: seconds(segment.end_ms) };
        let utterances = if segment.text.is_empty() { Vec::new() } else { vec![spoken] };
        Some(text(&Transcription {
            transcript: &segment.text,
            transcription: &segment.text,
            is_final: true,
            is_last,
            from_finalize: *from_finalize,
            speech_final: Some(segment.reason == FinalReason::Endpoint),
            language: Some(&segment.language),
            languages: vec![&segment.language],
            words: self.word_timestamps.then(|| segment.words.iter().map(times).collect()),
            utterances: self.word_timestamps.then_some(utterances),
            redacted_entities: Some([]),
            processed_ms: *processed_ms,
            ..self.blank()
        }))
    }

    fn blank(&self) -> Transcription<'_> {
        Transcription {
            r#type: "transcription",
            status: "success",
            session_id: &self.session_id,
            external_session_id: self.external_session_id.as_deref(),
            full_transcript: self.full.as_deref(),
            ..Transcription::default()
        }
    }

    /// The frame of an error.
    pub fn error(&self, error: &Error) -> String {
        let facts = error.facts();
        text(&serde_json::json!({
            "type": "error", "status": "error", "session_id": self.session_id, "message": error.to_string(),
            "error": error.to_string(), "code": facts.code, "reason": facts.reason,
            "retry_after": facts.retry_after.map(|d| d.as_secs()),
        }))
    }
}

fn times(word: &Word) -> Times<'_> {
    Times {
        word: &word.word,
        start: seconds(word.start_ms),
        end: seconds(word.end_ms),
        confidence: word.confidence,
    }
}

fn append(full: &mut String, text: &str) {
    if !full.is_empty() && !text.is_empty() {
        full.push(' ');
    }
    full.push_str(text);
    if full.len() > MAX_FULL {
        let cut = full.len() - MAX_FULL;
        let cut = full.char_indices().map(|(i, _)| i).find(|i| *i >= cut).unwrap_or(0);
        full.drain(..cut);
    }
}

fn text(frame: &impl Serialize) -> String {
    serde_json::to_string(frame).expect("frames hold only what JSON can")
}
