//! What a step's output does to one slot: new words, commits, the end. Pure.
//!
//! Journey: `engine → [absorb] → event → reply`. In: a slot, the engine's output for it. Out: what happened, and
//! whether the slot is free now. Must not know: other slots, order, clocks.

use std::time::Duration;

use workers_engine::{EngineInfo, SlotOutput};

use crate::SAMPLES_PER_MS;
use crate::endpoint::{Decoded, Rules};
use crate::event::{CutReason, SegmentText, What};
use crate::slots::{Kind, MarkerKind, Slot};
use crate::words::{Spoken, TimeBase, begins_word, spoken};

/// What one slot did in a step.
pub(crate) struct Stepped<'a> {
    pub(crate) info: &'a EngineInfo,
    pub(crate) output: &'a SlotOutput,
    pub(crate) samples: usize,
    /// The step flushed the slot at its first marker.
    pub(crate) end: bool,
    pub(crate) waited: Duration,
    pub(crate) took: Duration,
}

/// What becomes of the slot.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Keep,
    Free,
}

/// Takes a step's output into a slot.
pub(crate) fn absorb(slot: &mut Slot, step: &Stepped<'_>) -> (Vec<What>, Fate) {
    slot.failures = 0;
    slot.consumed += step.samples;
    slot.frames = step.output.frames;
    slot.tokens.extend_from_slice(&step.output.tokens);
    slot.took += step.took;
    slot.waited.get_or_insert(step.waited);
    match slot.kind {
        Kind::Stream(rules) => stream(slot, rules, step),
        Kind::Job { .. } => (job(slot, step), if step.end { Fate::Free } else { Fate::Keep }),
    }
}

fn job(slot: &Slot, step: &Stepped<'_>) -> Vec<What> {
    if !step.end {
        return Vec::new();
    }
    let spoken = words(slot, step.info, slot.tokens.len());
    vec![What::Transcript { spoken, waited: slot.waited.unwrap_or_default(), took: slot.took }]
}

fn stream(slot: &mut Slot, rules: Rules, step: &Stepped<'_>) -> (Vec<What>, Fate) {
    let mut events = vec![What::Update {
        processed_samples: slot.base + slot.consumed as u64,
        partial: (!step.output.tokens.is_empty()).then(|| words(slot, step.info, slot.tokens.len())),
        waited: step.waited,
        took: step.took,
    }];
    if !slot.speaking && !slot.tokens.is_empty() {
        slot.speaking = true;
        let at_ms = words(slot, step.info, slot.tokens.len()).words.first().map_or(0, |w| w.start_ms);
        events.push(What::Speech { started: true, at_ms });
    }
    if step.end {
        return at_marker(slot, step.info, events);
    }
    let decoded = Decoded { tokens: &slot.tokens, frames: slot.frames, frame_ms: step.info.frame_ms };
    let stopped = slot.speaking && rules.speech_stopped(decoded);
    let cut = rules.cut(decoded, |t| begins_word(&step.info.pieces, t));
    if stopped {
        slot.speaking = false;
        events.push(What::Speech { started: false, at_ms: speech_end(slot, step.info) });
    }
    if let Some(cut) = cut {
        let frame_samples = (step.info.subsampling * step.info.hop_samples) as u64;
        let offset = (u64::from(cut.frame) * frame_samples).min(slot.consumed as u64);
        let segment = segment(slot, step.info, cut.tokens, slot.base + offset);
        events.push(What::Final(SegmentText { reason: cut.reason, ..segment }));
        slot.restart(slot.base + offset);
    }
    (events, Fate::Keep)
}

/// The audio up to the first marker is decoded.
fn at_marker(slot: &mut Slot, info: &EngineInfo, mut events: Vec<What>) -> (Vec<What>, Fate) {
    let Some(marker) = slot.markers.pop_front() else { return (events, Fate::Keep) };
    if slot.speaking {
        slot.speaking = false;
        events.push(What::Speech { started: false, at_ms: speech_end(slot, info) });
    }
    let said = !slot.tokens.is_empty();
    let mut finish = |slot: &Slot, reason| {
        let segment = segment(slot, info, slot.tokens.len(), marker.at);
        events.push(What::Final(SegmentText { reason, ..segment }));
    };
    match marker.kind {
        MarkerKind::Flush => {
            // An empty flush is committed too: the slot starts anew there, here and after a resume.
            if said || marker.at > slot.base {
                finish(slot, CutReason::Flush);
            }
            slot.restart(marker.at);
            events.push(What::Flushed { at_samples: marker.at });
            (events, Fate::Keep)
        }
        MarkerKind::End => {
            if said {
                finish(slot, CutReason::End);
            }
            events.push(What::Ended { at_samples: marker.at });
            (events, Fate::Free)
        }
    }
}

fn segment(slot: &Slot, info: &EngineInfo, tokens: usize, committed_samples: u64) -> SegmentText {
    let spoken = words(slot, info, tokens);
    let start_ms = spoken.words.first().map_or(slot.base / SAMPLES_PER_MS, |w| w.start_ms);
    let end_ms = spoken.words.last().map_or(committed_samples / SAMPLES_PER_MS, |w| w.end_ms);
    SegmentText { spoken, start_ms, end_ms, committed_samples, reason: CutReason::Endpoint }
}

fn speech_end(slot: &Slot, info: &EngineInfo) -> u64 {
    let end = slot.tokens.last().map_or(slot.frames, |t| t.frame + 1);
    times(slot, info).at_ms(end)
}

fn words(slot: &Slot, info: &EngineInfo, tokens: usize) -> Spoken {
    spoken(&slot.tokens[..tokens], &info.pieces, times(slot, info))
}

fn times(slot: &Slot, info: &EngineInfo) -> TimeBase {
    TimeBase { start_ms: slot.base / SAMPLES_PER_MS, frame_ms: info.frame_ms, delay_ms: info.token_delay_ms }
}
