//! The arena of slots: who sits where, whose audio waits. Pure.
//!
//! Journey: `pull → [slots] → batcher → engine`. In: occupants with their audio, flushes and ends. Out: slots for the
//! batcher. A slot index is used again, an [`Occupant`] never: what belongs to a former occupant of a slot
//! cannot reach the present one. Live streams and recordings have slots of their own each, so that neither
//! keeps the other out. Must not know: the engine, order and deadlines.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use workers_engine::{SlotOptions, Token};

use crate::endpoint::Rules;

/// One occupancy of a slot; the caller counts them up and never uses one again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Occupant(pub u64);

/// A live stream that wants a slot.
#[derive(Debug, Clone)]
pub struct NewStream {
    /// How its slot is run.
    pub options: SlotOptions,
    /// When its utterances end.
    pub rules: Rules,
    /// Position of its first sample: 0, or the last commit of a resumed session.
    pub start_samples: u64,
}

/// A recording that wants a slot.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// How its slot is run.
    pub options: SlotOptions,
    /// All of its audio, 16 kHz mono.
    pub samples: Vec<i16>,
    /// When its caller stops waiting.
    pub expires: Option<Duration>,
}

/// Flushes of one stream that may wait; more is a caller gone wild.
pub const MAX_MARKERS: usize = 64;

/// Why something could not be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// No slot of this kind is free.
    #[error("failed to open a slot: all {limit} of its kind are in use")]
    OpenSlot {
        /// Slots of the kind.
        limit: usize,
    },
    /// The occupant is not here (it ended, failed or was closed) or is here already.
    #[error("failed to find occupant {0:?}: it has no slot of its own here")]
    FindOccupant(Occupant),
    /// The bound on waiting audio is reached: push it again later.
    #[error("failed to keep more audio: {pending} samples wait, the limit is {limit}")]
    KeepAudio {
        /// Samples waiting.
        pending: usize,
        /// Limit.
        limit: usize,
    },
    /// Too many flushes wait.
    #[error("failed to keep another flush: {MAX_MARKERS} wait")]
    KeepMarker,
}

impl BatchError {
    /// A stable word for metrics and logs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::OpenSlot { .. } => "OpenSlot",
            Self::FindOccupant(_) => "FindOccupant",
            Self::KeepAudio { .. } => "KeepAudio",
            Self::KeepMarker => "KeepMarker",
        }
    }
}

/// A place in the audio where something must happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Marker {
    /// Samples from the session's start.
    pub(crate) at: u64,
    pub(crate) kind: MarkerKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MarkerKind {
    Flush,
    End,
}

/// What sits in a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Stream(Rules),
    Job { expires: Option<Duration> },
}

impl Kind {
    pub(crate) fn is_stream(self) -> bool {
        matches!(self, Self::Stream(_))
    }
}

/// One slot in use. `audio[0]` lies at `base`, which is also the engine's first sample since it opened the slot;
/// all of it stays until a commit, so that the slot can start anew at any position after `base`.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) occupant: Occupant,
    pub(crate) kind: Kind,
    pub(crate) options: SlotOptions,
    pub(crate) base: u64,
    pub(crate) audio: Vec<i16>,
    /// Samples of `audio` that the engine has.
    pub(crate) consumed: usize,
    /// The engine knows the slot's present beginning.
    pub(crate) opened: bool,
    pub(crate) markers: VecDeque<Marker>,
    /// When the next step's audio was complete.
    pub(crate) ready_since: Option<Duration>,
    pub(crate) tokens: Vec<Token>,
    pub(crate) frames: u32,
    pub(crate) speaking: bool,
    /// Steps in a row that failed.
    pub(crate) failures: u32,
    /// From ready to the first step, and time in steps: for recordings.
    pub(crate) waited: Option<Duration>,
    pub(crate) took: Duration,
}

impl Slot {
    fn new(occupant: Occupant, kind: Kind, options: SlotOptions, base: u64) -> Self {
        Self {
            occupant,
            kind,
            options,
            base,
            audio: Vec::new(),
            consumed: 0,
            opened: false,
            markers: VecDeque::new(),
            ready_since: None,
            tokens: Vec::new(),
            frames: 0,
            speaking: false,
            failures: 0,
            waited: None,
            took: Duration::ZERO,
        }
    }

    /// Samples that the engine does not have yet.
    pub(crate) fn pending(&self) -> usize {
        self.audio.len() - self.consumed
    }

    /// Starts anew at a position; audio before it is forgotten.
    pub(crate) fn restart(&mut self, at: u64) {
        let forget = (at.saturating_sub(self.base) as usize).min(self.audio.len());
        self.audio.drain(..forget);
        self.base += forget as u64;
        self.consumed = 0;
        self.opened = false;
        self.tokens.clear();
        self.frames = 0;
        self.ready_since = None;
    }
}

/// All slots of an engine.
#[derive(Debug)]
pub struct Slots {
    places: Vec<Option<Slot>>,
    free: Vec<usize>,
    by_occupant: HashMap<Occupant, usize>,
    streams: KindCount,
    jobs: KindCount,
    pending_limit: usize,
}

#[derive(Debug)]
struct KindCount {
    used: usize,
    limit: usize,
}

impl Slots {
    /// An arena with slots for so many streams and recordings; a stream may have `pending_limit` samples waiting.
    pub fn new(streams: usize, jobs: usize, pending_limit: usize) -> Self {
        let total = streams + jobs;
        Self {
            places: (0..total).map(|_| None).collect(),
            // Low indices first.
            free: (0..total).rev().collect(),
            by_occupant: HashMap::new(),
            streams: KindCount { used: 0, limit: streams },
            jobs: KindCount { used: 0, limit: jobs },
            pending_limit,
        }
    }

    /// Gives a stream a slot.
    pub fn open_stream(&mut self, occupant: Occupant, stream: &NewStream) -> Result<(), BatchError> {
        let slot = Slot::new(occupant, Kind::Stream(stream.rules), stream.options, stream.start_samples);
        self.place(slot)
    }

    /// Gives a recording a slot, with all of its audio.
    pub fn open_job(&mut self, occupant: Occupant, job: NewJob) -> Result<(), BatchError> {
        let mut slot = Slot::new(occupant, Kind::Job { expires: job.expires }, job.options, 0);
        slot.markers.push_back(Marker { at: job.samples.len() as u64, kind: MarkerKind::End });
        slot.audio = job.samples;
        self.place(slot)
    }

    /// Adds audio of a stream; all of it or, at the bound, none.
    pub fn push(&mut self, occupant: Occupant, samples: &[i16]) -> Result<(), BatchError> {
        let limit = self.pending_limit;
        let slot = self.of_mut(occupant)?;
        let pending = slot.pending();
        if pending + samples.len() > limit {
            return Err(BatchError::KeepAudio { pending, limit });
        }
        if slot.markers.back().is_none_or(|m| m.kind != MarkerKind::End) {
            slot.audio.extend_from_slice(samples);
        }
        Ok(())
    }

    /// Marks the end of what was pushed so far: a flush.
    pub fn flush(&mut self, occupant: Occupant) -> Result<(), BatchError> {
        self.mark(occupant, MarkerKind::Flush)
    }

    /// Marks the end of what was pushed so far: no audio follows.
    pub fn end(&mut self, occupant: Occupant) -> Result<(), BatchError> {
        self.mark(occupant, MarkerKind::End)
    }

    /// Frees the slot of an occupant; nothing more comes of it.
    pub fn close(&mut self, occupant: Occupant) {
        let Some(index) = self.by_occupant.remove(&occupant) else { return };
        if let Some(slot) = self.places[index].take() {
            self.count(slot.kind).used -= 1;
            self.free.push(index);
        }
    }

    /// Frees the slots of all occupants that are not wanted any more.
    pub fn retain(&mut self, wanted: impl Fn(Occupant) -> bool) {
        let dead: Vec<_> = self.by_occupant.keys().copied().filter(|o| !wanted(*o)).collect();
        for occupant in dead {
            self.close(occupant);
        }
    }

    /// Streams that have a slot.
    pub fn streams(&self) -> usize {
        self.streams.used
    }

    /// Recordings that have a slot.
    pub fn jobs(&self) -> usize {
        self.jobs.used
    }

    /// Samples kept for all occupants: those that wait and those after the last commits.
    pub fn kept_samples(&self) -> usize {
        self.used().map(|(_, slot)| slot.audio.len()).sum()
    }

    pub(crate) fn used(&self) -> impl Iterator<Item = (usize, &Slot)> {
        self.places.iter().enumerate().filter_map(|(i, s)| Some((i, s.as_ref()?)))
    }

    pub(crate) fn get(&self, index: usize) -> Option<&Slot> {
        self.places.get(index)?.as_ref()
    }

    pub(crate) fn of_mut(&mut self, occupant: Occupant) -> Result<&mut Slot, BatchError> {
        self.by_occupant
            .get(&occupant)
            .and_then(|&i| self.places[i].as_mut())
            .ok_or(BatchError::FindOccupant(occupant))
    }

    fn mark(&mut self, occupant: Occupant, kind: MarkerKind) -> Result<(), BatchError> {
        let slot = self.of_mut(occupant)?;
        if slot.markers.back().is_some_and(|m| m.kind == MarkerKind::End) {
            return Ok(());
        }
        if slot.markers.len() >= MAX_MARKERS {
            return Err(BatchError::KeepMarker);
        }
        slot.markers.push_back(Marker { at: slot.base + slot.audio.len() as u64, kind });
        Ok(())
    }

    fn place(&mut self, slot: Slot) -> Result<(), BatchError> {
        if self.by_occupant.contains_key(&slot.occupant) {
            return Err(BatchError::FindOccupant(slot.occupant));
        }
        let count = self.count(slot.kind);
        let limit = count.limit;
        if count.used >= limit {
            return Err(BatchError::OpenSlot { limit });
        }
        count.used += 1;
        let index = self.free.pop().expect("a kind below its limit leaves a slot free");
        self.by_occupant.insert(slot.occupant, index);
        self.places[index] = Some(slot);
        Ok(())
    }

    fn count(&mut self, kind: Kind) -> &mut KindCount {
        if kind.is_stream() { &mut self.streams } else { &mut self.jobs }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIVE: SlotOptions = SlotOptions { lookahead: 3, chunks_per_step: 1 };

    fn stream() -> NewStream {
        NewStream { options: LIVE, rules: Rules::default(), start_samples: 0 }
    }

    #[test]
    fn streams_and_jobs_do_not_keep_each_other_out() {
        let mut slots = Slots::new(1, 1, 100);
        slots.open_stream(Occupant(1), &stream()).unwrap();
        assert_eq!(slots.open_stream(Occupant(2), &stream()), Err(BatchError::OpenSlot { limit: 1 }));
        let job = NewJob { options: LIVE, samples: vec![0; 10], expires: None };
        slots.open_job(Occupant(3), job).unwrap();
        assert_eq!((slots.streams(), slots.jobs()), (1, 1));
        slots.close(Occupant(1));
        slots.open_stream(Occupant(2), &stream()).unwrap();
    }

    #[test]
    fn a_former_occupant_reaches_nobody() {
        let mut slots = Slots::new(1, 0, 100);
        slots.open_stream(Occupant(1), &stream()).unwrap();
        slots.close(Occupant(1));
        slots.open_stream(Occupant(2), &stream()).unwrap();
        assert_eq!(slots.push(Occupant(1), &[1, 2]), Err(BatchError::FindOccupant(Occupant(1))));
        assert_eq!(slots.of_mut(Occupant(2)).unwrap().pending(), 0);
    }

    #[test]
    fn waiting_audio_and_flushes_are_bounded() {
        let mut slots = Slots::new(1, 0, 100);
        slots.open_stream(Occupant(1), &stream()).unwrap();
        slots.push(Occupant(1), &[0; 60]).unwrap();
        assert_eq!(slots.push(Occupant(1), &[0; 60]), Err(BatchError::KeepAudio { pending: 60, limit: 100 }));
        for _ in 0..MAX_MARKERS {
            slots.flush(Occupant(1)).unwrap();
        }
        assert_eq!(slots.flush(Occupant(1)), Err(BatchError::KeepMarker));
    }

    #[test]
    fn nothing_follows_an_end() {
        let mut slots = Slots::new(1, 0, 100);
        slots.open_stream(Occupant(1), &stream()).unwrap();
        slots.push(Occupant(1), &[0; 60]).unwrap();
        slots.end(Occupant(1)).unwrap();
        slots.push(Occupant(1), &[0; 10]).unwrap();
        slots.flush(Occupant(1)).unwrap();
        let slot = slots.of_mut(Occupant(1)).unwrap();
        assert_eq!((slot.pending(), slot.markers.len()), (60, 1));
    }
}
