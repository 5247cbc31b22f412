//! The schedule of a worker, pure: which slots advance together, when an utterance is over, what its words are.
//!
//! Journey: `pull → [batch] → engine → reply`. Audio, flushes and ends of streams and whole recordings come in;
//! steps for the engine go out; the engine's tokens come back in and leave as words, segments and commits.
//! In order of travel:
//! - [`slots`]: the arena of slots: whose audio waits where;
//! - [`batcher`]: the state machine `push… / next(now) → Step | Wait`;
//! - [`cost`]: what steps cost, as measured;
//! - [`endpoint`]: where an utterance ends and where its audio is cut;
//! - [`words`]: tokens to text and words with times.
//!
//! Must not know: threads, channels, clocks (time comes in as an argument), Redis, libtorch.

mod absorb;
pub mod batcher;
pub mod cost;
pub mod endpoint;
pub mod event;
pub mod slots;
pub mod words;

pub use batcher::{Batcher, Limits, Next, Plan};
pub use event::{CutReason, Event, SegmentText, What};
pub use slots::{BatchError, NewJob, NewStream, Occupant};
pub use words::{Spoken, SpokenWord};

/// Samples per millisecond of the audio that engines take.
pub(crate) const SAMPLES_PER_MS: u64 = workers_engine::SAMPLE_RATE_HZ as u64 / 1_000;
