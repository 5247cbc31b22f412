//! Batch work: one recording in, one transcript out. Pure.
//!
//! Journey: gateway `dispatch → [BatchJob] → Redis → worker → [BatchReply] → Redis → gateway relay`.
//! Messages travel as `MessagePack` with field names, so that a gateway and a worker of neighbouring versions
//! understand each other: new fields carry `#[serde(default)]`, fields are never renamed.

use serde::{Deserialize, Serialize};

use crate::ids::{GatewayId, JobId};

/// Version of the messages in this crate; a reader refuses a higher major one.
pub const CONTRACT_VERSION: u32 = 1;

/// What the caller wants recognized, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecognizeOptions {
    /// Model name; `None` is the deployment's default.
    #[serde(default)]
    pub model: Option<String>,
    /// BCP-47 language, such as `en`.
    pub language: String,
    /// Encoder frames of look-ahead; `None` is the model's default (live) or its largest (batch).
    #[serde(default)]
    pub lookahead: Option<u32>,
    /// Word times are wanted.
    #[serde(default)]
    pub word_timestamps: bool,
    /// Milliseconds of silence after which a live utterance is final; 0 turns end-pointing off.
    #[serde(default)]
    pub endpointing_ms: u32,
}

/// One accepted recording; its audio lies beside it (see [`crate::port::GatewayPort::submit`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchJob {
    /// [`CONTRACT_VERSION`] of the writer.
    pub version: u32,
    /// The job.
    pub id: JobId,
    /// Whose inbox gets the reply.
    pub gateway: GatewayId,
    /// What is wanted.
    pub options: RecognizeOptions,
    /// Samples of 16 kHz mono audio.
    pub samples: u64,
    /// When the gateway accepted it, Unix milliseconds.
    pub accepted_at_ms: u64,
    /// When the caller stops waiting, Unix milliseconds; a worker drops the job after this.
    pub deadline_ms: u64,
    /// W3C `traceparent` of the request.
    #[serde(default)]
    pub traceparent: Option<String>,
}

/// One recognized word.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Word {
    /// The word as written.
    pub word: String,
    /// Start in milliseconds from the start of the recording or session.
    pub start_ms: u64,
    /// End in milliseconds.
    pub end_ms: u64,
    /// Geometric mean of its tokens' probabilities, 0 to 1.
    pub confidence: f32,
}

/// What was said in one recording.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Transcript {
    /// The text.
    pub text: String,
    /// Its words with times; always filled, edges leave them out when not asked for.
    pub words: Vec<Word>,
    /// Name of the model that wrote it.
    pub model: String,
    /// Language of the text.
    pub language: String,
    /// Duration of the audio in milliseconds.
    pub audio_ms: u64,
}

/// Where the time of one piece of work went, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// From accepted to claimed by a worker.
    pub queue_ms: f32,
    /// In the engine.
    pub infer_ms: f32,
}

/// Why work failed, as told to the caller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkError {
    /// What kind of failure.
    pub kind: WorkErrorKind,
    /// For people: what failed, which input, what to do.
    pub message: String,
}

/// Kinds of failure; the gateway's error table maps each to HTTP and gRPC codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkErrorKind {
    /// The model asked for is not served by this deployment.
    UnknownModel,
    /// The model does not write this language.
    UnknownLanguage,
    /// An option is outside what the model supports.
    UnsupportedOption,
    /// The audio is gone or unreadable.
    AudioLost,
    /// It failed on every allowed attempt and went to the dead letters.
    AttemptsExhausted,
    /// The deadline passed before it was done.
    DeadlineExceeded,
    /// The caller cancelled.
    Cancelled,
    /// The license says no.
    LicenseDenied,
    /// Nothing heard from the client or worker for too long.
    IdleTimeout,
    /// The engine failed.
    Engine,
}

impl WorkErrorKind {
    /// A stable word for metrics and error bodies.
    pub fn reason(self) -> &'static str {
        match self {
            Self::UnknownModel => "UnknownModel",
            Self::UnknownLanguage => "UnknownLanguage",
            Self::UnsupportedOption => "UnsupportedOption",
            Self::AudioLost => "AudioLost",
            Self::AttemptsExhausted => "AttemptsExhausted",
            Self::DeadlineExceeded => "DeadlineExceeded",
            Self::Cancelled => "Cancelled",
            Self::LicenseDenied => "LicenseDenied",
            Self::IdleTimeout => "IdleTimeout",
            Self::Engine => "Engine",
        }
    }
}

/// The answer to one batch job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BatchReply {
    /// Which job.
    pub job: JobId,
    /// What came of it.
    pub outcome: Result<Transcript, WorkError>,
    /// Where the time went.
    pub timing: Timing,
}
