//! The engine trait: the one thing a speech model must do for a worker.
//!
//! Journey: `pull → batch → [engine] → reply`. Samples come in per slot, tokens go out per slot.
//! Must not know: queues, sessions, text formatting, clocks, libtorch.
//!
//! One OS thread owns an engine, so the trait takes `&mut self` and needs no locks. Live streams and
//! batch jobs are both *slots*; a batch job is a slot that takes many chunks a step. A slot's text depends
//! only on the samples it was given since `open` (and its options), never on its neighbours in a step:
//! "a batch equals its single streams" is part of the contract.

#[cfg(feature = "conformance")]
pub mod conformance;
pub mod fake;

use std::sync::Arc;

/// Sample rate of all audio given to an engine, in Hz. The gateway resamples everything to this.
pub const SAMPLE_RATE_HZ: u32 = 16_000;

/// What a loaded model is and how it wants its audio.
#[derive(Debug, Clone)]
pub struct EngineInfo {
    /// Name under which clients ask for the model, such as `demo-asr`.
    pub model: String,
    /// BCP-47 codes of the languages the model writes, such as `en`.
    pub languages: Vec<String>,
    /// Duration of one encoder frame in milliseconds (mel hop × subsampling factor).
    pub frame_ms: u32,
    /// Samples between two mel frames, 160 for 10 ms.
    pub hop_samples: usize,
    /// Mel frames per encoder frame: 4 or 8.
    pub subsampling: usize,
    /// Half of the analysis window that the first chunk needs beyond its last frame's centre, in samples.
    pub first_extra_samples: usize,
    /// Look-aheads in encoder frames that a slot may ask for.
    pub lookaheads: Vec<usize>,
    /// The look-ahead of a live stream that asks for none.
    pub default_lookahead: usize,
    /// How much later than its sound a token is emitted on average, a constant of the model, in milliseconds;
    /// word times are moved back by it.
    pub token_delay_ms: u32,
    /// Token id → piece; `▁` at the start of a piece begins a word (the convention of `SentencePiece`).
    pub pieces: Arc<[String]>,
    /// Slots the engine can hold at once.
    pub max_slots: usize,
    /// Device it runs on, for people: `cpu`, `cuda:0 NVIDIA H200`.
    pub device: String,
}

impl EngineInfo {
    /// Samples that the next step of a slot takes: exact, unless the audio ends before.
    ///
    /// The first chunk of a cache-aware `FastConformer` is `1 + S·r` mel frames, later ones `S·(r+1)`
    /// (`S` subsampling, `r` look-ahead). With several chunks a step the further chunks are later ones.
    pub fn step_samples(&self, options: SlotOptions, first: bool) -> usize {
        let later = self.subsampling * (options.lookahead + 1) * self.hop_samples;
        if first {
            self.subsampling * options.lookahead * self.hop_samples
                + self.first_extra_samples
                + (options.chunks_per_step - 1) * later
        } else {
            options.chunks_per_step * later
        }
    }
}

/// How one slot is run; fixed from `open` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SlotOptions {
    /// Encoder frames the model may look ahead.
    pub lookahead: usize,
    /// Chunks advanced in one step: 1 for live streams, more for batch jobs.
    pub chunks_per_step: usize,
}

/// Audio for one slot in one step.
#[derive(Debug, Clone, Copy)]
pub struct SlotWork<'a> {
    /// Slot index, `0..max_slots`.
    pub slot: usize,
    /// 16 kHz mono samples: exactly `step_samples` of them, or fewer (even none) when `end` is set.
    pub samples: &'a [i16],
    /// The slot's audio ends with these samples; the engine pads and flushes what it holds.
    pub end: bool,
}

/// One emitted token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Token {
    /// Index into [`EngineInfo::pieces`].
    pub id: u32,
    /// Encoder frame in which it was emitted, counted from `open`.
    pub frame: u32,
    /// Natural log of its probability.
    pub log_prob: f32,
}

/// What one slot produced in one step.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SlotOutput {
    /// The slot.
    pub slot: usize,
    /// Tokens emitted in this step, in order.
    pub tokens: Vec<Token>,
    /// Encoder frames decoded since `open`, this step included.
    pub frames: u32,
}

/// A speech model behind one thread.
pub trait Engine: Send {
    /// What the model is.
    fn info(&self) -> &EngineInfo;

    /// Clears a slot and fixes its options.
    fn open(&mut self, slot: usize, options: SlotOptions) -> Result<(), EngineError>;

    /// Advances all given slots in one batched step. All of them have the same [`SlotOptions`];
    /// slots of first and later chunks may be mixed. Outputs come in the order of `work`.
    /// After an error every slot named in `work` is undefined until it is opened again.
    fn step(&mut self, work: &[SlotWork<'_>]) -> Result<Vec<SlotOutput>, EngineError>;
}

/// Why an engine could not load or step.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A model file is missing, truncated or not what it should be.
    #[error("failed to load {file}: {detail}")]
    LoadModel {
        /// File name inside the model folder, such as `model.safetensors`.
        file: String,
        /// What is wrong and what to do.
        detail: String,
    },
    /// The slot or its options are outside what the model supports: a bug of the caller.
    #[error("failed to use slot {slot}: {detail}")]
    UseSlot {
        /// The slot.
        slot: usize,
        /// What is wrong.
        detail: String,
    },
    /// The device failed in a step.
    #[error("failed to run the model: {detail}")]
    RunModel {
        /// The library's message.
        detail: String,
        /// The device will not recover in this process (a sticky CUDA error): the worker must restart.
        fatal: bool,
    },
}

impl EngineError {
    /// A stable word for conditions, metrics and logs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::LoadModel { .. } => "LoadModel",
            Self::UseSlot { .. } => "UseSlot",
            Self::RunModel { .. } => "RunModel",
        }
    }
}
