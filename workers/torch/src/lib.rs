//! The libtorch engine: a `nemotron_asr_streaming` model behind [`workers_engine::Engine`].
//!
//! The only crate that links libtorch. Modules stand in the order of travel: loading first, then one batched step.
//!
//! ```text
//! config → load → tokenizer → device → [TorchEngine]
//! samples → features → subsampling → conformer(attention, convolution) → decode → tokens
//! ```

mod config;
mod load;
mod tokenizer;

mod device;
mod ffi;
mod linear;

mod arena;
mod batch;
mod features;
mod slots;
mod subsampling;

mod attention;
mod conformer;
mod convolution;
mod relative_positions;

mod decode;
mod engine;

pub use config::{Activation, Config, EncoderConfig, FeatureConfig};
pub use device::DeviceChoice;
pub use engine::{LoadOptions, Precision, StepTimes, TorchEngine};
