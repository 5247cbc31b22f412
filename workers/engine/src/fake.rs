//! A deterministic engine without a model: what tests, the contract suites and a cluster without a GPU run on.
//!
//! Journey: stands where the real engine stands, `pull → batch → [engine] → reply`. Samples come in per slot,
//! tokens go out per slot, and the text depends only on the samples since `open`: every letter is a short tone of
//! its own pitch ([`voice`] makes them, so a test can *say* the words it wants to read back), and the tones
//! lie inside the telephone band, so they survive 8 kHz, µ-law, stereo and resampling at the gateway.
//! Must not know: queues, sessions, text formatting, libtorch.
//!
//! It takes its audio in the same chunks as the real engine and refuses any other length, so that a batcher
//! which works with it works with the real one.

mod hear;
mod voice;

use std::sync::Arc;
use std::time::Duration;

use crate::{Engine, EngineError, EngineInfo, SAMPLE_RATE_HZ, SlotOptions, SlotOutput, SlotWork};
use hear::Ear;
pub use voice::{silence, speak, word};

/// What a fake engine pretends to be.
#[derive(Debug, Clone)]
pub struct FakeConfig {
    /// Model name it answers to.
    pub model: String,
    /// Slots it holds.
    pub max_slots: usize,
    /// Cost of a step that does not depend on the number of slots in it.
    pub step_cost: Duration,
    /// Cost of each chunk of each slot in a step.
    pub chunk_cost: Duration,
    /// The step, counted from 1, which fails, to test what a worker does then.
    pub fault: Option<Fault>,
}

/// A failure on order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// The step that fails, counted from 1.
    pub at_step: u64,
    /// The device does not recover.
    pub fatal: bool,
}

impl Default for FakeConfig {
    fn default() -> Self {
        Self {
            model: "fake-asr".to_owned(),
            max_slots: 64,
            step_cost: Duration::ZERO,
            chunk_cost: Duration::ZERO,
            fault: None,
        }
    }
}

/// Mel frames per encoder frame, as the demo model has it: 40 ms frames.
const SUBSAMPLING: usize = 4;
/// Samples between two mel frames.
const HOP_SAMPLES: usize = 160;
/// Samples of one encoder frame.
const FRAME_SAMPLES: usize = SUBSAMPLING * HOP_SAMPLES;

/// An engine that hears letters in tones.
#[derive(Debug)]
pub struct FakeEngine {
    info: EngineInfo,
    config: FakeConfig,
    slots: Vec<Option<FakeSlot>>,
    steps: u64,
}

#[derive(Debug)]
struct FakeSlot {
    options: SlotOptions,
    ear: Ear,
    samples: u64,
    frames: u32,
    ended: bool,
}

impl FakeEngine {
    /// An engine with every slot free.
    pub fn new(config: FakeConfig) -> Self {
        let info = EngineInfo {
            model: config.model.clone(),
            languages: vec!["en".to_owned()],
            frame_ms: (FRAME_SAMPLES * 1_000 / SAMPLE_RATE_HZ as usize) as u32,
            hop_samples: HOP_SAMPLES,
            subsampling: SUBSAMPLING,
            first_extra_samples: 256,
            lookaheads: vec![0, 1, 3, 6, 13],
            default_lookahead: 3,
            token_delay_ms: hear::DELAY_MS,
            pieces: hear::pieces(),
            max_slots: config.max_slots,
            device: "cpu (fake)".to_owned(),
        };
        let slots = (0..config.max_slots).map(|_| None).collect();
        Self { info, config, slots, steps: 0 }
    }

    /// Changes the look-aheads and the default one that the engine offers.
    #[must_use]
    pub fn with_lookaheads(mut self, lookaheads: Vec<usize>, default_lookahead: usize) -> Self {
        self.info.lookaheads = lookaheads;
        self.info.default_lookahead = default_lookahead;
        self
    }

    fn check(&self, work: &SlotWork<'_>, options: Option<SlotOptions>) -> Result<SlotOptions, EngineError> {
        let refuse = |detail: String| Err(EngineError::UseSlot { slot: work.slot, detail });
        let Some(slot) = self.slots.get(work.slot).and_then(Option::as_ref) else {
            return refuse("it was never opened".to_owned());
        };
        if slot.ended {
            return refuse("its audio has ended; open it again".to_owned());
        }
        if options.is_some_and(|o| o != slot.options) {
            return refuse("its options differ from those of the other slots in the step".to_owned());
        }
        let want = self.info.step_samples(slot.options, slot.frames == 0);
        let got = work.samples.len();
        if got > want || (got < want && !work.end) {
            return refuse(format!("the step takes {want} samples, it was given {got}"));
        }
        Ok(slot.options)
    }

    fn spend(&self, chunks: usize) {
        let cost = self.config.step_cost + self.config.chunk_cost * chunks as u32;
        if cost > Duration::ZERO {
            // The calling thread is the engine's own and nobody unparks it.
            std::thread::park_timeout(cost);
        }
    }
}

impl Engine for FakeEngine {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn open(&mut self, slot: usize, options: SlotOptions) -> Result<(), EngineError> {
        let refuse = |detail: String| Err(EngineError::UseSlot { slot, detail });
        if !self.info.lookaheads.contains(&options.lookahead) {
            return refuse(format!(
                "lookahead {} is not one of {:?}",
                options.lookahead, self.info.lookaheads
            ));
        }
        if options.chunks_per_step == 0 {
            return refuse("chunks_per_step is 0".to_owned());
        }
        let Some(entry) = self.slots.get_mut(slot) else {
            return refuse(format!("there are {} slots", self.info.max_slots));
        };
        *entry = Some(FakeSlot { options, ear: Ear::default(), samples: 0, frames: 0, ended: false });
        Ok(())
    }

    fn step(&mut self, work: &[SlotWork<'_>]) -> Result<Vec<SlotOutput>, EngineError> {
        self.steps += 1;
        if let Some(fault) = self.config.fault.filter(|f| f.at_step == self.steps) {
            return Err(EngineError::RunModel { detail: "a fault on order".to_owned(), fatal: fault.fatal });
        }
        let mut options = None;
        for w in work {
            options = Some(self.check(w, options)?);
        }
        self.spend(options.map_or(0, |o| o.chunks_per_step) * work.len());
        Ok(work.iter().filter_map(|w| self.slots[w.slot].as_mut().map(|slot| slot.advance(w))).collect())
    }
}

impl FakeSlot {
    fn advance(&mut self, work: &SlotWork<'_>) -> SlotOutput {
        self.samples += work.samples.len() as u64;
        let mut tokens = Vec::new();
        self.ear.hear(work.samples, &mut tokens);
        if work.end {
            self.ear.finish(&mut tokens);
            self.ended = true;
            self.frames = self.frames.max(self.samples.div_ceil(FRAME_SAMPLES as u64) as u32);
        } else {
            self.frames += ((self.options.lookahead + 1) * self.options.chunks_per_step) as u32;
        }
        let last = self.frames.saturating_sub(1);
        for token in &mut tokens {
            token.frame = (token.frame / FRAME_SAMPLES as u32).min(last);
        }
        SlotOutput { slot: work.slot, tokens, frames: self.frames }
    }
}

/// Text of tokens, for tests of engines: pieces joined, `▁` as a space.
pub fn text(pieces: &Arc<[String]>, tokens: &[crate::Token]) -> String {
    let joined: String =
        tokens.iter().filter_map(|t| pieces.get(t.id as usize)).map(String::as_str).collect();
    joined.replace('▁', " ").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(engine: &mut FakeEngine, audio: &[i16], options: SlotOptions) -> String {
        engine.open(0, options).unwrap();
        let (mut at, mut tokens) = (0, Vec::new());
        loop {
            let want = engine.info.step_samples(options, at == 0);
            let end = audio.len() - at < want;
            let samples = &audio[at..(at + want).min(audio.len())];
            let out = engine.step(&[SlotWork { slot: 0, samples, end }]).unwrap();
            tokens.extend(out.into_iter().flat_map(|o| o.tokens));
            if end {
                return text(&engine.info.pieces, &tokens);
            }
            at += want;
        }
    }

    #[test]
    fn it_hears_what_was_said() {
        let mut engine = FakeEngine::new(FakeConfig::default());
        let audio = speak(&["hello", "world", "don't", "zz"]);
        for lookahead in [0, 1, 3, 6, 13] {
            let options = SlotOptions { lookahead, chunks_per_step: 1 };
            assert_eq!(run(&mut engine, &audio, options), "hello world don't zz");
        }
    }

    #[test]
    fn it_hears_the_same_at_any_offset_and_level() {
        let mut engine = FakeEngine::new(FakeConfig::default());
        let options = SlotOptions { lookahead: 3, chunks_per_step: 4 };
        for offset in [0, 1, 37, 80, 159, 333] {
            for divide in [1, 3, 6] {
                let mut audio = vec![0; offset];
                audio.extend(speak(&["sphinx", "quartz"]).iter().map(|s| s / divide));
                assert_eq!(run(&mut engine, &audio, options), "sphinx quartz", "{offset} {divide}");
            }
        }
    }

    #[test]
    fn silence_and_noise_give_no_words() {
        let mut engine = FakeEngine::new(FakeConfig::default());
        let options = SlotOptions { lookahead: 3, chunks_per_step: 1 };
        assert_eq!(run(&mut engine, &silence(2_000), options), "");
        let mut state = 1_u32;
        let noise: Vec<i16> = (0..32_000)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                ((state >> 16) as i16) / 4
            })
            .collect();
        assert_eq!(run(&mut engine, &noise, options), "");
    }

    #[test]
    fn it_refuses_wrong_lengths_and_unopened_slots() {
        let mut engine = FakeEngine::new(FakeConfig::default());
        let unopened = engine.step(&[SlotWork { slot: 1, samples: &[], end: true }]);
        assert_eq!(unopened.unwrap_err().reason(), "UseSlot");
        engine.open(1, SlotOptions { lookahead: 3, chunks_per_step: 1 }).unwrap();
        let short = engine.step(&[SlotWork { slot: 1, samples: &[0; 100], end: false }]);
        assert!(short.unwrap_err().to_string().contains("it was given 100"));
        assert!(engine.open(1, SlotOptions { lookahead: 4, chunks_per_step: 1 }).is_err());
        assert!(engine.open(999, SlotOptions { lookahead: 3, chunks_per_step: 1 }).is_err());
    }

    #[test]
    fn a_fault_on_order_fails_that_step_only() {
        let fault = Some(Fault { at_step: 2, fatal: true });
        let mut engine = FakeEngine::new(FakeConfig { fault, ..FakeConfig::default() });
        assert!(engine.step(&[]).is_ok());
        assert!(matches!(engine.step(&[]), Err(EngineError::RunModel { fatal: true, .. })));
        assert!(engine.step(&[]).is_ok());
    }
}
