//! The engine: slots of audio in, tokens out, through all steps of a batch.
//!
//! `samples → features → subsampling → conformer → decode → tokens`. Implements [`workers_engine::Engine`]; keeps
//! for each slot the samples that windows still reach back to, and counts its frames. Must not know queues or text.

use std::num::NonZero;
use std::path::Path;
use std::sync::Arc;
use std::thread::ThreadId;
use std::time::Instant;

use tch::{Device, Kind, TchError, Tensor};
use workers_engine::{Engine, EngineError, EngineInfo, SlotOptions, SlotOutput, SlotWork, Token};

use crate::arena::Arena;
use crate::batch::{Batch, Row};
use crate::config::Config;
use crate::conformer::Conformer;
use crate::decode::Decoder;
use crate::device::{self, DeviceChoice};
use crate::features::{FeatureRow, Features};
use crate::ffi::{self, InferenceMode};
use crate::linear::Placement;
use crate::load::Weights;
use crate::slots::Slots;
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
    /// Threads of libtorch on the CPU; none takes half of the cores, and one beside a GPU.
    pub threads: Option<usize>,
    /// On the CPU, run the plain tensor operations that a GPU runs, instead of the kernels: for tests that compare.
    pub plain: bool,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            model: "asr".into(),
            device: DeviceChoice::Auto,
            precision: Precision::Fp32,
            slots: None,
            threads: None,
            plain: false,
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
    slots: Slots,
    times: StepTimes,
    threads: i32,
    /// The thread of the last step, or the one that loaded: OpenMP knows there how many `threads` to take.
    settled_on: ThreadId,
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
        ffi::keep_memory();
        let _inference = InferenceMode::enter();
        let device = device::choose(options.device)?;
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let threads = options.threads.unwrap_or_else(|| default_threads(device, cores));
        let threads = threads.try_into().unwrap_or(i32::MAX);
        tch::set_num_threads(threads);
        let kind = kind(options.precision, device);
        let place = Placement { device, kind, fused: device == Device::Cpu && !options.plain };
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
        let slots = options.slots.unwrap_or_else(|| default_slots(&config, place)).max(1);
        let arena = Arena::new(&config, place, slots).map_err(run_error)?;
        let info = describe(&config, pieces, place, options.model.clone(), slots);
        Ok(Self {
            info,
            place,
            features,
            subsampling,
            conformer,
            decoder,
            arena,
            slots: Slots::new(config.encoder, config.features, slots),
            config,
            times: StepTimes::default(),
            threads,
            settled_on: std::thread::current().id(),
        })
    }

    /// Where the time of the last step went. On a GPU only the sum is exact: work is queued ahead.
    pub fn times(&self) -> StepTimes {
        self.times
    }

    /// Computes with as many threads as were asked for, on whatever thread this is: the number is each thread's own to
    /// OpenMP, and without it MKL takes all cores for the first spectra.
    fn settle_threads(&mut self) {
        let here = std::thread::current().id();
        if self.settled_on != here {
            tch::set_num_threads(self.threads);
            self.settled_on = here;
        }
    }

    /// Checks the work, runs the model over what adds frames, and moves the slots on.
    fn advance(&mut self, work: &[SlotWork<'_>]) -> Result<(Vec<SlotOutput>, Option<Observed>), EngineError> {
        let Some(options) = self.slots.check(work, &self.info)? else {
            return Ok((Vec::new(), None));
        };
        let _inference = InferenceMode::enter();
        self.settle_threads();
        let (rows, adding): (Vec<Row>, Vec<&SlotWork<'_>>) =
            work.iter().filter_map(|work| self.slots.row(work).map(|row| (row, work))).unzip();
        let observed =
            if rows.is_empty() { None } else { Some(self.run(options, rows, &adding).map_err(run_error)?) };
        let mut outputs = Vec::with_capacity(work.len());
        let mut found =
            observed.iter().flat_map(|observed| observed.batch.rows.iter().zip(&observed.tokens)).peekable();
        for item in work {
            let before = self.slots.frames(item.slot);
            let mut output = SlotOutput { slot: item.slot, tokens: Vec::new(), frames: before as u32 };
            if let Some((row, tokens)) = found.next_if(|(row, _)| row.slot == item.slot) {
                output.tokens.clone_from(tokens);
                output.frames += observed.as_ref().map_or(0, |observed| observed.batch.valid(row) as u32);
            }
            self.slots.advance(item, u64::from(output.frames) - before);
            outputs.push(output);
        }
        Ok((outputs, observed))
    }

    /// Runs the model over rows that add frames.
    fn run(
        &mut self,
        options: SlotOptions,
        rows: Vec<Row>,
        work: &[&SlotWork<'_>],
    ) -> Result<Observed, TchError> {
        let batch = Batch::new(self.config.encoder, rows, options, self.place.device)?;
        let audio: Vec<FeatureRow<'_>> = batch
            .rows
            .iter()
            .zip(work)
            .map(|(row, work)| FeatureRow {
                history: self.slots.history(row.slot),
                samples: work.samples,
                valid: batch.stage_valid(row, 0),
            })
            .collect();
        let begin = Instant::now();
        let mel = self.features.extract(&audio, batch.stage_frames(0))?;
        let after_features = begin.elapsed().as_secs_f64();
        let hidden = self.subsampling.forward(&mel, &batch, &mut self.arena.stages)?;
        let encoded = self.conformer.forward(hidden, &batch, &mut self.arena)?;
        let after_encoder = begin.elapsed().as_secs_f64();
        let tokens = self.decoder.search(&encoded, &batch, &mut self.arena.decoder)?;
        let after_decoder = begin.elapsed().as_secs_f64();
        self.times = StepTimes {
            features: after_features,
            encoder: after_encoder - after_features,
            decoder: after_decoder - after_encoder,
        };
        Ok(Observed { batch, mel, encoded, tokens })
    }
}

/// What one step computed; the tensors are for tests that compare them with the reference.
#[cfg_attr(not(test), expect(dead_code, reason = "tensors are read by tests; keeping them costs nothing"))]
#[derive(Debug)]
struct Observed {
    batch: Batch,
    /// `[rows, mel frames, mels]`
    mel: Tensor,
    /// `[rows · frames, hidden]`
    encoded: Tensor,
    /// Tokens a row.
    tokens: Vec<Vec<Token>>,
}

impl Engine for TorchEngine {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn open(&mut self, slot: usize, options: SlotOptions) -> Result<(), EngineError> {
        self.slots.open(slot, options, &self.info)?;
        let _inference = InferenceMode::enter();
        self.arena.clear(slot).map_err(run_error)?;
        self.arena.decoder.reset(slot, self.decoder.start()).map_err(run_error)
    }

    fn step(&mut self, work: &[SlotWork<'_>]) -> Result<Vec<SlotOutput>, EngineError> {
        self.advance(work).map(|(outputs, _)| outputs)
    }
}

/// The type to compute in. A CPU without instructions for bf16 is slower in it than in fp32, and has no packed products.
fn kind(precision: Precision, device: Device) -> Kind {
    let packs = || {
        Tensor::f_zeros([1, 1], (Kind::BFloat16, Device::Cpu))
            .and_then(|weight| ffi::linear_pack(&weight, 1))
            .is_ok()
    };
    match precision {
        Precision::Bf16 if device == Device::Cpu && !packs() => {
            tracing::warn!(
                "this CPU has no instructions for bf16: the model is computed in fp32, which takes twice the memory"
            );
            Kind::Float
        }
        Precision::Bf16 => Kind::BFloat16,
        Precision::Fp32 => Kind::Float,
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

/// Half of the cores: waiting threads of OpenMP spin, and a gateway, Redis and clients beside the worker need the
/// other half. Measured on two busy cores, a second thread costs seven times the CPU and gains no time. Beside a GPU one is
/// enough: what is left to the CPU is small, and threads that spin for it take the cores from who launches its kernels.
fn default_threads(device: Device, cores: usize) -> usize {
    match device {
        Device::Cpu => cores.div_ceil(2),
        _ => 1,
    }
}

/// Slots whose states fit a gibibyte, at most 256.
fn default_slots(config: &Config, place: Placement) -> usize {
    const BUDGET: usize = 1 << 30;
    (BUDGET / Arena::bytes_per_slot(config, place)).clamp(4, 256)
}

/// Errors of libtorch: a CUDA error outlives the step, anything else does not.
#[expect(clippy::needless_pass_by_value, reason = "given to map_err")]
fn run_error(error: TchError) -> EngineError {
    let detail = error.to_string();
    let first = detail.lines().next().unwrap_or_default().to_owned();
    EngineError::RunModel { fatal: detail.contains("CUDA error"), detail: first }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beside_a_gpu_no_thread_spins_for_the_cpu() {
        assert_eq!([1, 2, 3, 16].map(|cores| default_threads(Device::Cpu, cores)), [1, 1, 2, 8]);
        assert_eq!([1, 16].map(|cores| default_threads(Device::Cuda(0), cores)), [1, 1]);
    }
}

#[cfg(test)]
mod golden;
#[cfg(test)]
mod refusals;
