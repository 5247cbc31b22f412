//! The engine: slots of audio in, tokens out, through all steps of a batch.
//!
//! `samples → features → subsampling → conformer → decode → tokens`. Implements [`workers_engine::Engine`]; keeps
//! for each slot the samples that windows still reach back to, and counts its frames. Must not know queues or text.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use tch::{Kind, TchError};
use workers_engine::{Engine, EngineError, EngineInfo, SlotOptions, SlotOutput, SlotWork};

use crate::arena::Arena;
use crate::batch::{Batch, Row};
use crate::config::Config;
use crate::conformer::Conformer;
use crate::decode::Decoder;
use crate::device::{self, DeviceChoice};
use crate::features::{FeatureRow, Features, history_samples};
use crate::ffi::InferenceMode;
use crate::linear::Placement;
use crate::load::Weights;
use crate::subsampling::Subsampling;
use crate::tokenizer::read_pieces;

/// How a model is loaded.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// Name clients use for the model.
    pub model: String,
    /// Where to run.
    pub device: DeviceChoice,
    /// Type to compute in.
    pub precision: Precision,
    /// Slots to hold; none lets the engine choose by memory.
    pub slots: Option<usize>,
    /// Threads of libtorch on the CPU; none leaves its default, one a core.
    pub threads: Option<usize>,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            model: "asr".into(),
            device: DeviceChoice::Auto,
            precision: Precision::Fp32,
            slots: None,
            threads: None,
        }
    }
}

/// Type of weights, states and activations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Precision {
    /// 32-bit floating point.
    #[default]
    Fp32,
    /// bfloat16: half the memory, faster on CPUs and GPUs that have it.
    Bf16,
}

/// One slot's audio bookkeeping.
#[derive(Debug, Clone, Default)]
struct Slot {
    options: Option<SlotOptions>,
    history: Vec<i16>,
    samples: u64,
    frames: u64,
    ended: bool,
}

/// Where the time of a step went, in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct StepTimes {
    /// Samples to log-mel frames.
    pub features: f64,
    /// Subsampling and conformer blocks.
    pub encoder: f64,
    /// Projection, joint and prediction networks.
    pub decoder: f64,
}

/// A loaded model with its slots.
#[derive(Debug)]
pub struct TorchEngine {
    info: EngineInfo,
    config: Config,
    place: Placement,
    features: Features,
    subsampling: Subsampling,
    conformer: Conformer,
    decoder: Decoder,
    arena: Arena,
    slots: Vec<Slot>,
    times: StepTimes,
}

impl TorchEngine {
    /// Loads a model folder in the layout of Hugging Face.
    pub fn load(folder: &Path, options: &LoadOptions) -> Result<Self, EngineError> {
        let config = Config::read(folder)?;
        let pieces = read_pieces(folder, config.vocab_size, config.blank)?;
        let weights = Weights::read(folder)?;
        Self::build(config, pieces, weights, options)
    }

    /// A model of the given shape with random weights, for speed measurements.
    pub fn random(config: Config, options: &LoadOptions) -> Result<Self, EngineError> {
        let pieces = (0..config.vocab_size).map(|id| format!("▁{id}")).collect();
        Self::build(config, pieces, Weights::random(), options)
    }

    fn build(
        config: Config,
        pieces: Vec<String>,
        mut weights: Weights,
        options: &LoadOptions,
    ) -> Result<Self, EngineError> {
        if let Some(threads) = options.threads {
            tch::set_num_threads(threads.try_into().unwrap_or(i32::MAX));
        }
        let _inference = InferenceMode::enter();
        let kind = match options.precision {
            Precision::Fp32 => Kind::Float,
            Precision::Bf16 => Kind::BFloat16,
        };
        let place = Placement { device: device::choose(options.device)?, kind };
        let parts = (|| -> Result<_, TchError> {
            Ok((
                Features::new(config.features, place)?,
                Subsampling::load(&config.encoder, place, &mut weights)?,
                Conformer::load(&config.encoder, place, &mut weights)?,
                Decoder::load(&config, place, &mut weights)?,
            ))
        })();
        let (features, subsampling, conformer, decoder) = parts.map_err(run_error)?;
        weights.finish()?;
        let slots = options.slots.unwrap_or_else(|| default_slots(&config, kind)).max(1);
        let arena = Arena::new(&config, place, slots).map_err(run_error)?;
        let info = describe(&config, pieces, place, options.model.clone(), slots);
        Ok(Self {
            info,
            config,
            place,
            features,
            subsampling,
            conformer,
            decoder,
            arena,
            slots: vec![Slot::default(); slots],
            times: StepTimes::default(),
        })
    }

    /// Where the time of the last step went. On a GPU only the sum is exact: work is queued ahead.
    pub fn times(&self) -> StepTimes {
        self.times
    }

    /// Runs the shapes that serving will use, so that no first caller waits for a kernel to be made.
    pub fn warm_up(&mut self) -> Result<(), EngineError> {
        let lookaheads = self.info.lookaheads.clone();
        for lookahead in lookaheads {
            for rows in [1, self.slots.len().min(8)] {
                let options = SlotOptions { lookahead, chunks_per_step: 1 };
                for slot in 0..rows {
                    self.open(slot, options)?;
                }
                for first in [true, false] {
                    let samples = vec![0; self.info.step_samples(options, first)];
                    let work: Vec<_> =
                        (0..rows).map(|slot| SlotWork { slot, samples: &samples, end: false }).collect();
                    self.step(&work)?;
                }
            }
        }
        self.slots.fill(Slot::default());
        Ok(())
    }

    /// Checks one slot's work against its options; returns the options.
    fn check_work(&self, work: &SlotWork<'_>) -> Result<SlotOptions, EngineError> {
        let wrong = |detail: String| Err(EngineError::UseSlot { slot: work.slot, detail });
        let Some(slot) = self.slots.get(work.slot) else {
            return wrong(format!("there are {} slots", self.slots.len()));
        };
        let Some(options) = slot.options else {
            return wrong("it is not open".into());
        };
        if slot.ended {
            return wrong("its audio has ended; open it again".into());
        }
        let expected = self.info.step_samples(options, slot.samples == 0);
        let given = work.samples.len();
        if given > expected || (given < expected && !work.end) {
            return wrong(format!("it takes {expected} samples in this step, {given} were given"));
        }
        Ok(options)
    }

    /// Checks that all work fits one step; returns the options it shares.
    fn check_step(&self, work: &[SlotWork<'_>]) -> Result<Option<SlotOptions>, EngineError> {
        let mut shared = None;
        let mut seen = vec![false; self.slots.len()];
        for item in work {
            let options = self.check_work(item)?;
            if *shared.get_or_insert(options) != options || std::mem::replace(&mut seen[item.slot], true) {
                let detail = "a step takes slots of the same options, each once".into();
                return Err(EngineError::UseSlot { slot: item.slot, detail });
            }
        }
        Ok(shared)
    }

    /// Where the step finds `work`'s slot, or none when it adds no frame.
    fn row(&self, work: &SlotWork<'_>) -> Option<Row> {
        let slot = &self.slots[work.slot];
        let samples = slot.samples + work.samples.len() as u64;
        let mel_frames = work.end.then(|| samples / self.config.features.hop as u64);
        let adds =
            mel_frames.is_none_or(|mel| mel > 0 && self.config.encoder.encoder_frames(mel) > slot.frames);
        adds.then_some(Row { slot: work.slot, start: slot.frames, mel_frames })
    }

    /// Runs the model over rows that add frames: tokens a row.
    fn run(
        &mut self,
        batch: &Batch,
        work: &[&SlotWork<'_>],
    ) -> Result<Vec<Vec<workers_engine::Token>>, TchError> {
        let rows: Vec<FeatureRow<'_>> = batch
            .rows
            .iter()
            .zip(work)
            .map(|(row, work)| FeatureRow {
                history: &self.slots[row.slot].history,
                samples: work.samples,
                valid: batch.stage_valid(row, 0),
            })
            .collect();
        let begin = Instant::now();
        let mels = self.features.extract(&rows, batch.stage_frames(0))?;
        let features = begin.elapsed().as_secs_f64();
        let hidden = self.subsampling.forward(&mels, batch, &mut self.arena.stages)?;
        let encoded = self.conformer.forward(hidden, batch, &mut self.arena)?;
        let encoder = begin.elapsed().as_secs_f64();
        let tokens = self.decoder.search(&encoded, batch, &mut self.arena.decoder)?;
        let decoder = begin.elapsed().as_secs_f64();
        self.times = StepTimes { features, encoder: encoder - features, decoder: decoder - encoder };
        Ok(tokens)
    }

    /// Moves a slot's bookkeeping past `work`.
    fn advance(&mut self, work: &SlotWork<'_>, frames: u64) {
        let kept = history_samples(&self.config.features);
        let slot = &mut self.slots[work.slot];
        slot.samples += work.samples.len() as u64;
        slot.frames += frames;
        slot.ended = work.end;
        slot.history.extend_from_slice(work.samples);
        let surplus = slot.history.len().saturating_sub(kept);
        slot.history.drain(..surplus);
    }
}

impl Engine for TorchEngine {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn open(&mut self, slot: usize, options: SlotOptions) -> Result<(), EngineError> {
        let wrong = |detail: String| Err(EngineError::UseSlot { slot, detail });
        if slot >= self.slots.len() {
            return wrong(format!("there are {} slots", self.slots.len()));
        }
        if !self.info.lookaheads.contains(&options.lookahead) || options.chunks_per_step == 0 {
            return wrong(format!(
                "{options:?} is not supported; look-aheads are {:?}",
                self.info.lookaheads
            ));
        }
        let _inference = InferenceMode::enter();
        self.arena.clear(slot).map_err(run_error)?;
        self.arena.decoder.reset(slot, self.decoder.start()).map_err(run_error)?;
        let features = &self.config.features;
        let before = features.hop * (self.config.encoder.subsampling - 1) + features.window / 2 + 1;
        self.slots[slot] = Slot { options: Some(options), history: vec![0; before], ..Slot::default() };
        Ok(())
    }

    fn step(&mut self, work: &[SlotWork<'_>]) -> Result<Vec<SlotOutput>, EngineError> {
        let Some(options) = self.check_step(work)? else {
            return Ok(Vec::new());
        };
        let _inference = InferenceMode::enter();
        let (rows, active): (Vec<Row>, Vec<&SlotWork<'_>>) =
            work.iter().filter_map(|work| self.row(work).map(|row| (row, work))).unzip();
        let mut outputs: Vec<SlotOutput> = work
            .iter()
            .map(|work| SlotOutput {
                slot: work.slot,
                tokens: Vec::new(),
                frames: self.slots[work.slot].frames as u32,
            })
            .collect();
        if !rows.is_empty() {
            let batch = Batch::new(
                self.config.encoder,
                rows,
                options.lookahead,
                options.chunks_per_step,
                self.place.device,
            )
            .map_err(run_error)?;
            let mut found = self.run(&batch, &active).map_err(run_error)?.into_iter().zip(&batch.rows);
            for output in &mut outputs {
                if batch.rows.iter().any(|row| row.slot == output.slot)
                    && let Some((tokens, row)) = found.next()
                {
                    output.tokens = tokens;
                    output.frames += batch.valid(row) as u32;
                }
            }
        }
        for (work, output) in work.iter().zip(&outputs) {
            let frames = u64::from(output.frames) - self.slots[work.slot].frames;
            self.advance(work, frames);
        }
        Ok(outputs)
    }
}

fn describe(
    config: &Config,
    pieces: Vec<String>,
    place: Placement,
    model: String,
    slots: usize,
) -> EngineInfo {
    let (features, subsampling) = (&config.features, config.encoder.subsampling);
    let frame_samples = (features.hop * subsampling) as u32;
    EngineInfo {
        model,
        languages: vec!["en".into()],
        frame_ms: frame_samples * 1000 / workers_engine::SAMPLE_RATE_HZ,
        hop_samples: features.hop,
        subsampling,
        first_extra_samples: features.window / 2,
        lookaheads: config.lookaheads.clone(),
        default_lookahead: config.default_lookahead,
        token_delay_ms: config.token_delay_ms,
        pieces: Arc::from(pieces),
        max_slots: slots,
        device: device::describe(place.device),
    }
}

/// Slots whose states fit a gibibyte, at most 256.
fn default_slots(config: &Config, kind: Kind) -> usize {
    const BUDGET: usize = 1 << 30;
    (BUDGET / Arena::bytes_per_slot(config, kind)).clamp(4, 256)
}

/// Errors of libtorch: a CUDA error outlives the step, anything else does not.
fn run_error(error: TchError) -> EngineError {
    let detail = error.to_string();
    let first = detail.lines().next().unwrap_or_default().to_owned();
    EngineError::RunModel { fatal: detail.contains("CUDA error"), detail: first }
}
