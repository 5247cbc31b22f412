//! The bookkeeping of slots: whose audio has come how far, and whether given work fits.
//!
//! Pure. Work comes in as the worker gives it; rows of a step go out, or an error that names the slot. Keeps for
//! each slot the samples that windows still reach back to. Must not know tensors.

use workers_engine::{EngineError, EngineInfo, SlotOptions, SlotWork};

use crate::batch::Row;
use crate::config::{EncoderConfig, FeatureConfig};
use crate::features::history_samples;

/// One slot's audio.
#[derive(Debug, Clone, Default)]
struct Slot {
    options: Option<SlotOptions>,
    history: Vec<i16>,
    samples: u64,
    frames: u64,
    ended: bool,
}

/// All slots.
#[derive(Debug)]
pub(crate) struct Slots {
    encoder: EncoderConfig,
    features: FeatureConfig,
    all: Vec<Slot>,
}

impl Slots {
    pub(crate) fn new(encoder: EncoderConfig, features: FeatureConfig, count: usize) -> Self {
        Self { encoder, features, all: vec![Slot::default(); count] }
    }

    /// Opens a slot: nothing heard yet, so its history is the silence before the audio.
    pub(crate) fn open(
        &mut self,
        slot: usize,
        options: SlotOptions,
        info: &EngineInfo,
    ) -> Result<(), EngineError> {
        let count = self.all.len();
        let Some(place) = self.all.get_mut(slot) else {
            return Err(unusable(slot, format!("there are {count} slots")));
        };
        if !info.lookaheads.contains(&options.lookahead) || options.chunks_per_step == 0 {
            let detail = format!("{options:?} is not supported; look-aheads are {:?}", info.lookaheads);
            return Err(unusable(slot, detail));
        }
        let before = self.features.hop * (self.encoder.subsampling - 1) + self.features.window / 2 + 1;
        *place = Slot { options: Some(options), history: vec![0; before], ..Slot::default() };
        Ok(())
    }

    /// Checks that all work fits one step; returns the options it shares, or none for no work.
    pub(crate) fn check(
        &self,
        work: &[SlotWork<'_>],
        info: &EngineInfo,
    ) -> Result<Option<SlotOptions>, EngineError> {
        let mut shared = None;
        let mut seen = vec![false; self.all.len()];
        for item in work {
            let options = self.check_one(item, info)?;
            if *shared.get_or_insert(options) != options || std::mem::replace(&mut seen[item.slot], true) {
                return Err(unusable(item.slot, "a step takes slots of the same options, each once".into()));
            }
        }
        Ok(shared)
    }

    fn check_one(&self, work: &SlotWork<'_>, info: &EngineInfo) -> Result<SlotOptions, EngineError> {
        let wrong = |detail: String| Err(unusable(work.slot, detail));
        let Some(slot) = self.all.get(work.slot) else {
            return wrong(format!("there are {} slots", self.all.len()));
        };
        let Some(options) = slot.options else {
            return wrong("it is not open".into());
        };
        if slot.ended {
            return wrong("its audio has ended; open it again".into());
        }
        let (expected, given) = (info.step_samples(options, slot.samples == 0), work.samples.len());
        if given > expected || (given < expected && !work.end) {
            return wrong(format!("it takes {expected} samples in this step, {given} were given"));
        }
        Ok(options)
    }

    /// Where a step finds the slot of checked `work`, or none when it adds no frame.
    ///
    /// Audio shorter than one hop has no frame; the reference would still decode one of zeros.
    pub(crate) fn row(&self, work: &SlotWork<'_>) -> Option<Row> {
        let slot = &self.all[work.slot];
        let samples = slot.samples + work.samples.len() as u64;
        let mel_frames = work.end.then(|| samples / self.features.hop as u64);
        let adds = mel_frames.is_none_or(|mel| mel > 0 && self.encoder.encoder_frames(mel) > slot.frames);
        adds.then_some(Row { slot: work.slot, start: slot.frames, mel_frames })
    }

    /// Samples before the slot's next ones, as far back as windows reach.
    pub(crate) fn history(&self, slot: usize) -> &[i16] {
        &self.all[slot].history
    }

    /// Encoder frames decoded so far.
    pub(crate) fn frames(&self, slot: usize) -> u64 {
        self.all[slot].frames
    }

    /// Moves the slot past `work`, which gave `frames` encoder frames.
    pub(crate) fn advance(&mut self, work: &SlotWork<'_>, frames: u64) {
        let kept = history_samples(&self.features);
        let slot = &mut self.all[work.slot];
        slot.samples += work.samples.len() as u64;
        slot.frames += frames;
        slot.ended = work.end;
        if work.samples.len() >= kept {
            slot.history.clear();
            slot.history.extend_from_slice(&work.samples[work.samples.len() - kept..]);
        } else {
            slot.history.extend_from_slice(work.samples);
            let surplus = slot.history.len().saturating_sub(kept);
            slot.history.drain(..surplus);
        }
    }
}

fn unusable(slot: usize, detail: String) -> EngineError {
    EngineError::UseSlot { slot, detail }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use tch::Device;

    use super::*;
    use crate::batch::Batch;
    use crate::config::Config;

    fn info(config: &Config) -> EngineInfo {
        EngineInfo {
            model: "shape".into(),
            languages: Vec::new(),
            frame_ms: 80,
            hop_samples: config.features.hop,
            subsampling: config.encoder.subsampling,
            first_extra_samples: config.features.window / 2,
            lookaheads: (0..14).collect(),
            default_lookahead: 1,
            token_delay_ms: 0,
            pieces: Arc::from([]),
            max_slots: 1,
            device: "none".into(),
        }
    }

    proptest! {
        /// Whatever the step size, a recording gives the frames that the reference counts for its whole length,
        /// each mel frame is used once, and the history always reaches back far enough.
        #[test]
        fn steps_add_up_to_the_whole(samples in 0usize..60_000, lookahead in 0usize..14, chunks in 1usize..6, stages in 1u32..4) {
            let mut config = Config::width_600m();
            config.encoder.subsampling = 1 << stages;
            let (encoder, features, info) = (config.encoder, config.features, info(&config));
            let options = SlotOptions { lookahead, chunks_per_step: chunks };
            let mut slots = Slots::new(encoder, features, 1);
            slots.open(0, options, &info).unwrap();
            let audio = vec![0i16; samples];
            let (mut at, mut mel, mut end) = (0, 0, false);
            while !end {
                let until = at + info.step_samples(options, at == 0);
                end = until >= samples;
                let work = SlotWork { slot: 0, samples: &audio[at..until.min(samples)], end };
                prop_assert_eq!(slots.check(&[work], &info).unwrap(), Some(options));
                let mut frames = 0;
                if let Some(row) = slots.row(&work) {
                    let batch = Batch::new(encoder, vec![row], options, Device::Cpu).unwrap();
                    let span = (batch.stage_frames(0) - 1) * features.hop + features.window + 1;
                    prop_assert!(slots.history(0).len() + info.step_samples(options, at == 0) >= span);
                    mel += batch.stage_valid(&row, 0).len();
                    frames = batch.valid(&row) as u64;
                }
                slots.advance(&work, frames);
                at = until;
            }
            let whole = samples / features.hop;
            prop_assert_eq!(mel, whole);
            prop_assert_eq!(slots.frames(0), if whole == 0 { 0 } else { encoder.encoder_frames(whole as u64) });
        }
    }
}
