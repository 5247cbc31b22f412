//! Live work: audio of one conversation in, words out while it is spoken. Pure.
//!
//! Journey: a session waits in Redis until a worker with a free slot claims it. The gateway then writes audio
//! into that worker's inbox ([`ToWorker`]) and reads events from its own ([`ToGateway`]). The worker commits
//! text together with the audio position it covers; the gateway keeps all audio after the last commit. When
//! the worker dies, drains or loses an entry, the session is claimed again under the next *epoch* and the
//! gateway replays from the commit. At a commit the engine's slot starts anew, so the text after it depends
//! only on the audio after it: a resumed session writes the same text as an undisturbed one.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::ids::{GatewayId, JobId, SessionId, WorkerId};
use crate::job::{BatchReply, RecognizeOptions, Timing, Word, WorkError};

/// Which claim of a session a message belongs to: 1 for the first worker, one more for each later one.
/// Messages of an older epoch are ignored by both sides.
pub type Epoch = u32;

/// A session as the gateway opens it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// [`crate::job::CONTRACT_VERSION`] of the writer.
    pub version: u32,
    /// The session.
    pub id: SessionId,
    /// Whose inbox gets the events.
    pub gateway: GatewayId,
    /// What is wanted.
    pub options: RecognizeOptions,
    /// When the gateway accepted it, Unix milliseconds.
    pub accepted_at_ms: u64,
    /// W3C `traceparent` of the request.
    #[serde(default)]
    pub traceparent: Option<String>,
}

/// What is kept of a session in Redis beside its waiting entry: everything but audio.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionState {
    /// The session as opened (its `gateway` changes when another one adopts it).
    pub session: Session,
    /// Number of claims so far.
    pub epoch: Epoch,
    /// Owner of the current claim.
    #[serde(default)]
    pub worker: Option<WorkerId>,
    /// Samples (16 kHz, from the session's start) that committed text covers.
    pub committed_samples: u64,
    /// Committed text so far, final segments joined by spaces.
    pub committed_text: String,
    /// Number of final segments so far.
    pub segments: u32,
}

/// Gateway → worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToWorker {
    /// Audio of a session.
    Audio {
        /// The session.
        session: SessionId,
        /// The claim.
        epoch: Epoch,
        /// Position of the first sample, 16 kHz from the session's start. A worker that sees a gap asks for
        /// a replay; audio it has already is skipped.
        at_samples: u64,
        /// 16-bit little-endian mono samples.
        pcm: Bytes,
    },
    /// Make everything before this position final now and go on (`finalize` of the WebSocket protocol).
    Flush {
        /// The session.
        session: SessionId,
        /// The claim.
        epoch: Epoch,
        /// Position in samples.
        at_samples: u64,
    },
    /// The audio ends at this position: finish, send [`SessionEvent::Closed`].
    End {
        /// The session.
        session: SessionId,
        /// The claim.
        epoch: Epoch,
        /// Position in samples.
        at_samples: u64,
    },
    /// The client is gone: free the slot, say nothing.
    Cancel {
        /// The session.
        session: SessionId,
        /// The claim.
        epoch: Epoch,
    },
    /// The caller of a batch job is gone.
    CancelBatch {
        /// The job.
        job: JobId,
    },
}

/// Worker → gateway.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ToGateway {
    /// Something happened in a session.
    Session {
        /// The session.
        session: SessionId,
        /// The claim.
        epoch: Epoch,
        /// What happened.
        event: SessionEvent,
    },
    /// A batch job is done.
    Batch(BatchReply),
}

/// Why a segment became final.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinalReason {
    /// The speaker paused.
    Endpoint,
    /// The client asked (`finalize`).
    Flush,
    /// The audio ended.
    End,
    /// The utterance reached its maximum length.
    MaxUtterance,
}

/// What a worker tells about a session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum SessionEvent {
    /// A worker has a slot for it: send audio from this position on.
    Claimed {
        /// Its inbox.
        worker: WorkerId,
        /// First sample it needs.
        resume_at_samples: u64,
        /// Milliseconds the session waited in the queue.
        queue_ms: f32,
    },
    /// An entry was lost: send audio again from this position on.
    Replay {
        /// First sample it needs.
        from_samples: u64,
    },
    /// Audio up to a position was decoded; the text of the current segment may have changed.
    Update {
        /// Decoded up to here.
        processed_samples: u64,
        /// Text of the segment so far when it changed since the last update, else `None`.
        partial: Option<Partial>,
        /// Where the time of this step went.
        timing: Timing,
    },
    /// Sound that is speech began or stopped.
    Speech {
        /// It began (else it stopped).
        started: bool,
        /// Where, milliseconds from the session's start.
        at_ms: u64,
    },
    /// A segment is final and committed.
    Final(Segment),
    /// Everything before this [`ToWorker::Flush`] is final (sent after its [`SessionEvent::Final`], if any).
    Flushed {
        /// Position of the flush.
        at_samples: u64,
    },
    /// The worker gives the session back (drain): it is claimed again under the next epoch.
    Released,
    /// All audio is decoded and all text sent: the session is over.
    Closed {
        /// Duration of its audio in milliseconds.
        audio_ms: u64,
    },
    /// The session failed for good.
    Failed(WorkError),
}

/// The not yet final text of the current segment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Partial {
    /// Text of the segment so far.
    pub text: String,
    /// Its words with times from the session's start.
    pub words: Vec<Word>,
}

/// A final piece of text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Segment {
    /// 0 for the session's first one; together with the session it names the segment, so a gateway that
    /// gets one twice (after a resume) keeps the first.
    pub index: u32,
    /// The text; may be empty after a flush or at the end.
    pub text: String,
    /// Its words with times from the session's start.
    pub words: Vec<Word>,
    /// Start of the segment in milliseconds.
    pub start_ms: u64,
    /// End of the segment in milliseconds.
    pub end_ms: u64,
    /// Audio before this position is never needed again.
    pub committed_samples: u64,
    /// Why it is final.
    pub reason: FinalReason,
    /// Language of the text.
    pub language: String,
}
