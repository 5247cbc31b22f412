//! Transcripts in the published JSON shapes of the HTTP edges. Pure.

use queue::job::{Transcript, Word};
use serde_json::{Value, json};

use crate::dispatch::Answer;

/// A pause between words that ends an utterance, milliseconds.
const PAUSE_MS: u64 = 800;

/// Milliseconds as seconds.
pub fn seconds(ms: u64) -> f64 {
    ms as f64 / 1e3
}

/// `{word, start, end, confidence}` of every word, in seconds.
pub fn words(words: &[Word]) -> Value {
    words
        .iter()
        .map(|w| json!({"word": w.word, "start": seconds(w.start_ms), "end": seconds(w.end_ms), "confidence": w.confidence}))
        .collect()
}

/// Words between two pauses.
#[derive(Debug, Clone, PartialEq)]
pub struct Utterance<'a> {
    /// Its words, at least one.
    pub words: &'a [Word],
}

impl Utterance<'_> {
    /// Its text.
    pub fn text(&self) -> String {
        self.words.iter().map(|w| w.word.as_str()).collect::<Vec<_>>().join(" ")
    }

    /// Start and end in milliseconds.
    pub fn span_ms(&self) -> (u64, u64) {
        let first = self.words.first().map_or(0, |w| w.start_ms);
        (first, self.words.last().map_or(first, |w| w.end_ms))
    }
}

/// Cuts words at pauses.
pub fn utterances(words: &[Word]) -> Vec<Utterance<'_>> {
    words
        .chunk_by(|a, b| b.start_ms < a.end_ms.saturating_add(PAUSE_MS))
        .map(|words| Utterance { words })
        .collect()
}

/// Arithmetic mean of the words' confidences; 0 without words.
pub fn confidence(transcript: &Transcript) -> f32 {
    let n = transcript.words.len().max(1) as f32;
    transcript.words.iter().map(|w| w.confidence).sum::<f32>() / n
}

/// How much of an answer a client asked for.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Name of the request.
    pub request_id: &'a str,
    /// Word times were asked for.
    pub word_timestamps: bool,
    /// Name of the file, where one was told.
    pub file_name: Option<&'a str>,
}

/// The body of `…/get_text` and `/waves/v1/stt/`.
pub fn get_text(answer: &Answer, asked: Asked<'_>) -> Value {
    let t = &answer.transcript;
    let list = if asked.word_timestamps { &t.words[..] } else { &[] };
    let utterances: Value = utterances(list)
        .iter()
        .map(|u| {
            let (start, end) = u.span_ms();
            json!({"text": u.text(), "start": seconds(start), "end": seconds(end)})
        })
        .collect();
    let elapsed = answer.elapsed.as_secs_f64();
    let mut metadata = json!({
        "duration": seconds(t.audio_ms),
        "fileSize": answer.bytes,
        "processing_time_ms": elapsed * 1e3,
        "rtfx": seconds(t.audio_ms) / elapsed.max(1e-6),
    });
    if let Some(name) = asked.file_name {
        metadata["filename"] = json!(name);
    }
    json!({
        "status": "success",
        "request_id": asked.request_id,
        "transcription": t.text,
        "words": words(list),
        "utterances": utterances,
        "language": t.language,
        "model": t.model,
        "audio_length": seconds(t.audio_ms),
        "metadata": metadata,
        "timing": {"queue_ms": answer.timing.queue_ms, "infer_ms": answer.timing.infer_ms},
    })
}

/// The body of `/v1/listen`.
pub fn listen(answer: &Answer, asked: Asked<'_>) -> Value {
    let t = &answer.transcript;
    let list = if asked.word_timestamps { &t.words[..] } else { &[] };
    json!({
        "request_id": asked.request_id,
        "text": t.text,
        "confidence": confidence(t),
        "duration": seconds(t.audio_ms),
        "language": t.language,
        "words": words(list),
        "speakers": [],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(word: &str, start_ms: u64, end_ms: u64) -> Word {
        Word { word: word.to_owned(), start_ms, end_ms, confidence: 0.5 }
    }

    #[test]
    fn utterances_end_at_pauses() {
        let words = [word("one", 0, 300), word("two", 1_099, 1_300), word("three", 2_100, 2_400)];
        let cut: Vec<_> = utterances(&words).iter().map(|u| (u.text(), u.span_ms())).collect();
        assert_eq!(cut, [("one two".to_owned(), (0, 1_300)), ("three".to_owned(), (2_100, 2_400))]);
        assert!(utterances(&[]).is_empty());
    }
}
