//! The state of one live session: what was heard, what was sent, what is final. Pure: no channels, no clock.
//!
//! In: audio and controls of the client, events of workers. Out: messages for the worker that holds the
//! session, and [`LiveEvent`]s for the client. Audio stays in the [`ring`] until text that covers it is
//! committed, so a worker that takes over (the next *epoch*) gets everything it needs. Nothing is sent twice
//! to the client: segments have numbers, and events of an older epoch are ignored.
//! The task that moves the messages is [`crate::live`].

pub mod ring;

use std::collections::VecDeque;
use std::time::Instant;

use queue::ids::{SessionId, WorkerId};
use queue::job::{Timing, WorkError, WorkErrorKind};
use queue::session::{Epoch, FinalReason, Partial, Segment, SessionEvent, SessionState, ToWorker};

use self::ring::Ring;
use crate::audio::{SAMPLE_RATE_HZ, samples_to_ms};

/// Audio a session may hold since its last commit, samples: 60 s. Then the client's socket is not read.
pub const RING_SAMPLES: u64 = 60 * SAMPLE_RATE_HZ as u64;
/// Largest message to a worker, samples: 1 s.
const MESSAGE_SAMPLES: u64 = SAMPLE_RATE_HZ as u64;
/// Less audio than this waits for more of it (or for a control), samples: 10 ms, less than any step of a model.
const TINY_SAMPLES: u64 = SAMPLE_RATE_HZ as u64 / 100;
/// A worker this close to the end of a full ring waits for audio that has no room: it is asked to commit.
const STARVED_SAMPLES: u64 = 3 * SAMPLE_RATE_HZ as u64;
/// Chunks whose way is measured at once.
const MARKS: usize = 64;
/// Flushes that wait for their answer.
const MAX_FLUSHES: usize = 16;

/// What the client is told.
#[derive(Debug, Clone, PartialEq)]
pub enum LiveEvent {
    /// The session is accepted; audio is expected from this position on.
    Started {
        /// Milliseconds from the session's start; 0 but for a session come back to.
        resume_at_ms: u64,
    },
    /// Text of the current segment so far.
    Partial {
        /// Number of the segment.
        segment: u32,
        /// The text and its words.
        partial: Partial,
        /// Decoded up to here, milliseconds.
        processed_ms: u64,
        /// Where the time of this step went.
        timing: Timing,
    },
    /// Audio was decoded, the text did not change.
    Progress {
        /// Decoded up to here, milliseconds.
        processed_ms: u64,
        /// Where the time of this step went.
        timing: Timing,
    },
    /// A segment is final.
    Final {
        /// The segment.
        segment: Segment,
        /// The client asked for it with a finalize.
        from_finalize: bool,
        /// Decoded up to here, milliseconds.
        processed_ms: u64,
    },
    /// Speech began or stopped.
    Speech {
        /// It began.
        started: bool,
        /// Where, milliseconds.
        at_ms: u64,
    },
    /// Everything before a finalize is final.
    Finalized,
    /// All audio is decoded and all text sent.
    Ended {
        /// Duration of the audio, milliseconds.
        audio_ms: u64,
    },
}

/// What an event of a worker means.
#[derive(Debug, PartialEq)]
pub enum Step {
    /// Nothing for the client.
    Nothing,
    /// Tell the client.
    Tell(LiveEvent),
    /// Tell the client several things, in order.
    TellAll(Vec<LiveEvent>),
    /// It failed for good.
    Failed(WorkError),
}

/// A position up to which everything shall be made final.
#[derive(Debug, Clone, Copy)]
struct Flush {
    at: u64,
    by_client: bool,
}

/// One live session.
#[derive(Debug)]
pub struct LiveSession {
    id: SessionId,
    ring: Ring,
    epoch: Epoch,
    worker: Option<WorkerId>,
    /// Next sample to be sent under this claim.
    cursor: u64,
    /// Flushes that are not answered yet.
    flushes: VecDeque<Flush>,
    /// How many of them were sent under this claim.
    flushes_sent: usize,
    ended: bool,
    end_sent: bool,
    next_segment: u32,
    processed: u64,
    /// Ends of chunks that came from the client and when, until they are decoded.
    marks: VecDeque<(u64, Instant)>,
}

impl LiveSession {
    /// A new session.
    pub fn new(id: SessionId) -> Self {
        Self {
            id,
            ring: Ring::default(),
            epoch: 0,
            worker: None,
            cursor: 0,
            flushes: VecDeque::new(),
            flushes_sent: 0,
            ended: false,
            end_sent: false,
            next_segment: 0,
            processed: 0,
            marks: VecDeque::new(),
        }
    }

    /// A session that a client came back to: it goes on after its last commit.
    pub fn resumed(state: &SessionState) -> Self {
        let start = state.committed_samples;
        Self {
            ring: Ring::at(start),
            epoch: state.epoch,
            cursor: start,
            processed: start,
            next_segment: state.segments,
            ..Self::new(state.session.id.clone())
        }
    }

    /// Position up to which audio was decoded, samples.
    pub fn processed(&self) -> u64 {
        self.processed
    }

    /// Position up to which audio came from the client, samples.
    pub fn heard(&self) -> u64 {
        self.ring.end()
    }

    /// First position that is not committed, samples.
    pub fn committed(&self) -> u64 {
        self.ring.start()
    }

    /// The claim that is followed.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The worker that holds the session.
    pub fn worker(&self) -> Option<&WorkerId> {
        self.worker.as_ref()
    }

    /// The client has said that its audio is over.
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// More input of the client can be taken.
    pub fn has_room(&self) -> bool {
        !self.ended && self.ring.end() - self.ring.start() < RING_SAMPLES && self.flushes.len() < MAX_FLUSHES
    }

    /// Something of the client waits for an answer of a worker.
    pub fn is_waiting(&self) -> bool {
        self.ended || !self.flushes.is_empty() || self.processed + STARVED_SAMPLES < self.ring.end()
    }

    /// Takes audio: whole samples, 16-bit little-endian.
    pub fn push(&mut self, pcm: &[u8], now: Instant) {
        self.ring.push(pcm);
        if !pcm.is_empty() && self.marks.len() < MARKS {
            self.marks.push_back((self.ring.end(), now));
        }
        self.unblock();
    }

    /// The client wants everything so far made final. When it is already, the answer comes at once.
    pub fn finalize(&mut self) -> Option<LiveEvent> {
        if self.flushes.is_empty() && self.ring.start() == self.ring.end() {
            return Some(LiveEvent::Finalized);
        }
        self.flushes.push_back(Flush { at: self.ring.end(), by_client: true });
        None
    }

    /// The client's audio is over.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// A full ring frees itself by commits only. When the worker has decoded all of it and still found no
    /// reason to commit (long silence), it is asked to.
    fn unblock(&mut self) {
        let full = self.ring.end() - self.ring.start() >= RING_SAMPLES;
        let starved = self.processed + STARVED_SAMPLES >= self.ring.end();
        let asked = self.flushes.back().is_some_and(|f| f.at == self.ring.end());
        if full && starved && !asked && !self.ended && self.flushes.len() < MAX_FLUSHES {
            self.flushes.push_back(Flush { at: self.ring.end(), by_client: false });
        }
    }

    /// There is something to be sent to the worker.
    pub fn has_message(&self) -> bool {
        self.worker.is_some() && self.plan().is_some()
    }

    /// The next message for the worker; it counts as sent.
    pub fn next_message(&mut self) -> Option<ToWorker> {
        self.worker.as_ref()?;
        let plan = self.plan()?;
        let (session, epoch) = (self.id.clone(), self.epoch);
        Some(match plan {
            Plan::Audio(to) => {
                let at_samples = self.cursor;
                self.cursor = to;
                ToWorker::Audio { session, epoch, at_samples, pcm: self.ring.read(at_samples..to) }
            }
            Plan::Flush(at_samples) => {
                self.flushes_sent += 1;
                ToWorker::Flush { session, epoch, at_samples }
            }
            Plan::End => {
                self.end_sent = true;
                ToWorker::End { session, epoch, at_samples: self.ring.end() }
            }
        })
    }

    fn plan(&self) -> Option<Plan> {
        let flush = self.flushes.get(self.flushes_sent).map(|f| f.at);
        if let Some(at) = flush.filter(|at| *at <= self.cursor) {
            return Some(Plan::Flush(at));
        }
        let until = flush.unwrap_or_else(|| self.ring.end());
        let ready = until.saturating_sub(self.cursor);
        if ready >= TINY_SAMPLES || (ready > 0 && (flush.is_some() || self.ended)) {
            return Some(Plan::Audio(until.min(self.cursor + MESSAGE_SAMPLES)));
        }
        (self.ended && ready == 0 && !self.end_sent).then_some(Plan::End)
    }

    /// Takes an event of a worker.
    pub fn on_event(&mut self, epoch: Epoch, event: SessionEvent) -> Step {
        if let SessionEvent::Claimed { worker, resume_at_samples, .. } = event {
            return self.on_claimed(epoch, worker, resume_at_samples);
        }
        if epoch != self.epoch {
            return Step::Nothing;
        }
        match event {
            SessionEvent::Claimed { .. } => Step::Nothing,
            SessionEvent::Replay { from_samples } => self.send_again(from_samples),
            SessionEvent::Update { processed_samples, partial, timing } => {
                self.on_update(processed_samples, partial, timing)
            }
            SessionEvent::Speech { started, at_ms } => Step::Tell(LiveEvent::Speech { started, at_ms }),
            SessionEvent::Final(segment) => self.on_final(segment),
            SessionEvent::Flushed { at_samples } => self.on_flushed(at_samples),
            SessionEvent::Released => {
                self.worker = None;
                Step::Nothing
            }
            SessionEvent::Closed { audio_ms } => Step::Tell(LiveEvent::Ended { audio_ms }),
            SessionEvent::Failed(e) => Step::Failed(e),
        }
    }

    /// When chunks came that are decoded by now.
    pub fn take_decoded(&mut self) -> impl Iterator<Item = Instant> + '_ {
        let done = self.marks.iter().take_while(|(end, _)| *end <= self.processed).count();
        self.marks.drain(..done).map(|(_, came)| came)
    }

    /// When the chunk came with which the audio that is decoded by now was complete.
    pub fn completed_by(&self) -> Option<Instant> {
        self.marks.iter().find(|(end, _)| *end >= self.processed).map(|(_, came)| *came)
    }

    fn on_claimed(&mut self, epoch: Epoch, worker: WorkerId, resume_at: u64) -> Step {
        if epoch <= self.epoch {
            return Step::Nothing;
        }
        self.epoch = epoch;
        self.worker = Some(worker);
        self.send_again(resume_at)
    }

    /// Everything from a position on goes to the worker (again).
    fn send_again(&mut self, from: u64) -> Step {
        if from < self.ring.start() {
            return Step::Failed(WorkError {
                kind: WorkErrorKind::AudioLost,
                message: format!(
                    "a worker asked for audio from {} ms, it is held from {} ms on",
                    samples_to_ms(from),
                    samples_to_ms(self.ring.start())
                ),
            });
        }
        self.cursor = from.min(self.ring.end());
        self.flushes_sent = 0;
        self.end_sent = false;
        self.processed = self.processed.min(self.cursor);
        if self.epoch > 1 {
            // The way of chunks that are decoded twice would be measured wrongly.
            self.marks.clear();
        }
        Step::Nothing
    }

    fn on_update(&mut self, processed: u64, partial: Option<Partial>, timing: Timing) -> Step {
        self.processed = self.processed.max(processed.min(self.ring.end()));
        self.unblock();
        let processed_ms = samples_to_ms(self.processed);
        Step::Tell(match partial {
            Some(partial) => LiveEvent::Partial { segment: self.next_segment, partial, processed_ms, timing },
            None => LiveEvent::Progress { processed_ms, timing },
        })
    }

    fn on_final(&mut self, segment: Segment) -> Step {
        self.ring.commit(segment.committed_samples);
        self.cursor = self.cursor.max(self.ring.start());
        self.processed = self.processed.max(self.ring.start());
        if segment.index < self.next_segment {
            return Step::Nothing;
        }
        self.next_segment = segment.index + 1;
        let asked = self.flushes.front().is_some_and(|f| f.by_client);
        let from_finalize = segment.reason == FinalReason::Flush && asked;
        Step::Tell(LiveEvent::Final { segment, from_finalize, processed_ms: samples_to_ms(self.processed) })
    }

    fn on_flushed(&mut self, at: u64) -> Step {
        let answered = self.flushes.iter().take_while(|f| f.at <= at).count();
        self.flushes_sent = self.flushes_sent.saturating_sub(answered);
        let by_client = self.flushes.drain(..answered).filter(|f| f.by_client).count();
        match by_client {
            0 => Step::Nothing,
            1 => Step::Tell(LiveEvent::Finalized),
            n => Step::TellAll(vec![LiveEvent::Finalized; n]),
        }
    }
}

enum Plan {
    /// Audio from the cursor up to a position.
    Audio(u64),
    /// A flush at a position.
    Flush(u64),
    End,
}

#[cfg(test)]
mod tests;
