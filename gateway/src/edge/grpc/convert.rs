//! Messages of the public API ↔ the internal request, its answer and its events. Pure.

use prost_types::Duration;
use proto::speech::v1 as pb;
use proto::speech::v1::streaming_recognize_response::Response;
use queue::job::{Timing, Word};

use crate::audio::INPUT_RATES_HZ;
use crate::audio::SAMPLE_RATE_HZ;
use crate::audio::opus::Framing;
use crate::audio::raw::{Encoding, RawFormat};
use crate::dispatch::Answer;
use crate::error::Error;
use crate::request::{
    Batch, DEFAULT_ENDPOINTING_MS, Live, LiveFormat, Wanted, endpointing, live_format, raw_format,
};
use crate::session::LiveEvent;

/// A recording's config.
pub(super) fn batch(config: pb::RecognitionConfig) -> Result<Batch, Error> {
    let raw = match encoding(&config)? {
        None => None,
        Some(encoding) => Some(layout(&config, encoding)?),
    };
    Ok(Batch { wanted: wanted(config, 0), raw })
}

/// A live session's config, and whether word times are wanted.
pub(super) fn live(config: pb::StreamingConfig) -> Result<(Live, bool), Error> {
    let endpointing_ms = endpointing(config.endpointing_ms.unwrap_or(DEFAULT_ENDPOINTING_MS))?;
    let recognition = config.config.unwrap_or_default();
    let format = match pb::AudioEncoding::try_from(recognition.encoding) {
        Ok(pb::AudioEncoding::Opus) => LiveFormat::Opus(Framing::Packets),
        Ok(pb::AudioEncoding::OggOpus) => LiveFormat::Opus(Framing::Ogg),
        _ => {
            let encoding = encoding(&recognition)?.unwrap_or(Encoding::Linear16);
            LiveFormat::Raw(live_format(layout(&recognition, encoding)?)?)
        }
    };
    let word_timestamps = recognition.word_timestamps;
    let resume =
        match config.session_id.as_str() {
            "" => None,
            id => Some(id.parse().map_err(|_| Error::InvalidParameter {
                name: "session_id",
                detail: "not an id".to_owned(),
            })?),
        };
    let live = Live {
        wanted: wanted(recognition, endpointing_ms),
        format,
        interim: config.interim_results,
        progress: config.progress,
        resume,
    };
    Ok((live, word_timestamps))
}

fn wanted(config: pb::RecognitionConfig, endpointing_ms: u32) -> Wanted {
    let text = |t: String| (!t.trim().is_empty()).then_some(t);
    Wanted {
        model: text(config.model),
        language: text(config.language),
        lookahead: config.lookahead_frames,
        word_timestamps: config.word_timestamps,
        endpointing_ms,
    }
}

fn encoding(config: &pb::RecognitionConfig) -> Result<Option<Encoding>, Error> {
    match pb::AudioEncoding::try_from(config.encoding) {
        // A container says itself what it holds.
        Ok(pb::AudioEncoding::Unspecified | pb::AudioEncoding::Opus | pb::AudioEncoding::OggOpus) => Ok(None),
        Ok(pb::AudioEncoding::Linear16) => Ok(Some(Encoding::Linear16)),
        Ok(pb::AudioEncoding::Linear32) => Ok(Some(Encoding::Linear32)),
        Ok(pb::AudioEncoding::Mulaw) => Ok(Some(Encoding::Mulaw)),
        Ok(pb::AudioEncoding::Alaw) => Ok(Some(Encoding::Alaw)),
        Err(_) => Err(Error::InvalidParameter { name: "encoding", detail: "unknown number".to_owned() }),
    }
}

fn layout(config: &pb::RecognitionConfig, encoding: Encoding) -> Result<RawFormat, Error> {
    let or = |value: u32, default: u32| if value == 0 { default } else { value };
    let rate_hz = or(config.sample_rate_hz, SAMPLE_RATE_HZ);
    raw_format(encoding, rate_hz, or(config.channels, 1), &INPUT_RATES_HZ)
}

/// The answer to a recording.
pub(super) fn recognized(answer: Answer, request_id: &str, word_timestamps: bool) -> pb::RecognizeResponse {
    let t = answer.transcript;
    pb::RecognizeResponse {
        request_id: request_id.to_owned(),
        text: t.text,
        words: if word_timestamps { t.words.into_iter().map(word).collect() } else { Vec::new() },
        language: t.language,
        model: t.model,
        audio_duration: Some(duration(t.audio_ms)),
        timing: Some(timing(answer.timing)),
    }
}

/// An event of a session; `names` are those of session and request.
pub(super) fn told(
    event: LiveEvent,
    names: (&str, &str),
    word_timestamps: bool,
) -> pb::StreamingRecognizeResponse {
    let words = |w: Vec<Word>| if word_timestamps { w.into_iter().map(word).collect() } else { Vec::new() };
    let response = match event {
        LiveEvent::Started { resume_at_ms } => Response::Started(pb::Started {
            session_id: names.0.to_owned(),
            request_id: names.1.to_owned(),
            resume_at_ms,
        }),
        LiveEvent::Partial { segment, partial, processed_ms, timing: t } => Response::Result(pb::Result {
            segment,
            text: partial.text,
            is_final: false,
            start: partial.words.first().map(|w| duration(w.start_ms)),
            end: partial.words.last().map(|w| duration(w.end_ms)),
            words: words(partial.words),
            language: String::new(),
            processed_ms,
            timing: Some(timing(t)),
        }),
        LiveEvent::Final { segment, processed_ms, .. } => Response::Result(pb::Result {
            segment: segment.index,
            text: segment.text,
            is_final: true,
            words: words(segment.words),
            start: Some(duration(segment.start_ms)),
            end: Some(duration(segment.end_ms)),
            language: segment.language,
            processed_ms,
            timing: None,
        }),
        LiveEvent::Progress { processed_ms, timing: t } => {
            Response::Progress(pb::Progress { processed_ms, timing: Some(timing(t)) })
        }
        LiveEvent::Speech { started, at_ms } => {
            Response::Speech(pb::SpeechEvent { started, at: Some(duration(at_ms)) })
        }
        LiveEvent::Finalized => Response::Finalized(pb::Finalized {}),
        LiveEvent::Ended { audio_ms } => {
            Response::Ended(pb::Ended { audio_duration: Some(duration(audio_ms)) })
        }
    };
    pb::StreamingRecognizeResponse { response: Some(response) }
}

fn word(word: Word) -> pb::Word {
    pb::Word {
        word: word.word,
        start: Some(duration(word.start_ms)),
        end: Some(duration(word.end_ms)),
        confidence: word.confidence,
    }
}

fn timing(timing: Timing) -> pb::Timing {
    pb::Timing { queue_ms: timing.queue_ms, infer_ms: timing.infer_ms }
}

fn duration(ms: u64) -> Duration {
    Duration { seconds: (ms / 1_000) as i64, nanos: (ms % 1_000) as i32 * 1_000_000 }
}
