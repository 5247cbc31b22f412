//! First step of loading: `config.json` and `processor_config.json` become a checked [`Config`].
//!
//! Untrusted text comes in, a model that this crate can run goes out. Must not know tensors or devices.

use std::path::Path;

use serde::Deserialize;
use workers_engine::EngineError;

use raw::{RawConfig, RawEncoder, RawFeatures, RawProcessor};

mod raw;

/// The one architecture that this crate runs, as `model_type` in `config.json`.
const MODEL_TYPE: &str = "nemotron_asr_streaming";

/// Look-aheads that the reference's processor assumes when none are listed.
const DEFAULT_LOOKAHEADS: [usize; 4] = [13, 6, 1, 0];

/// A checked model configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// The encoder.
    pub encoder: EncoderConfig,
    /// Number of tokens, blank included.
    pub vocab_size: usize,
    /// The token that means "nothing in this frame".
    pub blank: usize,
    /// Width of the prediction and joint networks.
    pub decoder_hidden: usize,
    /// LSTM layers of the prediction network.
    pub decoder_layers: usize,
    /// Activation of the joint network.
    pub joint_activation: Activation,
    /// Most tokens that greedy search takes from one encoder frame.
    pub max_symbols: usize,
    /// Look-aheads the model was trained for, in the order of its processor.
    pub lookaheads: Vec<usize>,
    /// Look-ahead of a stream that asks for none.
    pub default_lookahead: usize,
    /// How much later than its sound a token is emitted on average, in milliseconds.
    pub token_delay_ms: u32,
    /// How audio becomes features.
    pub features: FeatureConfig,
}

/// The cache-aware `FastConformer`.
#[derive(Debug, Clone, Copy)]
pub struct EncoderConfig {
    /// Width of the residual stream.
    pub hidden: usize,
    /// Conformer blocks.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Inner width of the feed-forward modules.
    pub intermediate: usize,
    /// Activation of feed-forward and convolution modules.
    pub activation: Activation,
    /// Whether attention and feed-forward projections have a bias.
    pub attention_bias: bool,
    /// Whether the convolution module has biases.
    pub convolution_bias: bool,
    /// Kernel of the depthwise convolution.
    pub conv_kernel: usize,
    /// Mel frames per encoder frame: a power of two.
    pub subsampling: usize,
    /// Channels of the subsampling convolutions.
    pub subsampling_channels: usize,
    /// Frames of left context of attention (`sliding_window - 1`).
    pub left_context: usize,
    /// Factor on the subsampled input: `sqrt(hidden)` or 1.
    pub input_scale: f64,
    /// Mel bins.
    pub mels: usize,
}

impl EncoderConfig {
    /// Width of one attention head.
    pub fn head_dim(&self) -> usize {
        self.hidden / self.heads
    }

    /// Stages of the subsampling, each halving time and frequency.
    pub fn stages(&self) -> usize {
        self.subsampling.trailing_zeros() as usize
    }

    /// Frames of attention left context that whole chunks of `lookahead + 1` frames fill.
    pub fn context(&self, lookahead: usize) -> usize {
        self.left_context / (lookahead + 1) * (lookahead + 1)
    }

    /// Encoder frames that `mel_frames` valid mel frames give at the end of the audio.
    ///
    /// The reference pads each convolution with two frames left and one right, so a stage maps `n` to `n / 2 + 1`.
    pub fn encoder_frames(&self, mel_frames: u64) -> u64 {
        (0..self.stages()).fold(mel_frames, |frames, _| frames / 2 + 1)
    }
}

/// The extractor's constants.
#[derive(Debug, Clone, Copy)]
pub struct FeatureConfig {
    /// Mel bins.
    pub mels: usize,
    /// Size of the Fourier transform.
    pub n_fft: usize,
    /// Samples between frames.
    pub hop: usize,
    /// Samples in a frame.
    pub window: usize,
    /// Pre-emphasis coefficient.
    pub preemphasis: f32,
}

/// Activations that published configurations name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x · sigmoid(x)`, also called swish.
    Silu,
    /// `max(x, 0)`.
    Relu,
    /// The exact (erf) form.
    Gelu,
    /// Hyperbolic tangent.
    Tanh,
}

impl Config {
    /// Reads and checks the configuration of a model folder.
    pub fn read(folder: &Path) -> Result<Self, EngineError> {
        let config = read_json::<RawConfig>(folder, "config.json")?.ok_or_else(|| {
            invalid(
                "config.json",
                "the file is missing; a model folder needs config.json, model.safetensors and tokenizer.json",
            )
        })?;
        let processor = read_json::<RawProcessor>(folder, "processor_config.json")?.unwrap_or_default();
        check(&config, processor)
    }

    /// The published 0.6 B model's shape, for speed measurements with random weights.
    ///
    /// # Panics
    /// Never: the shape passes the checks.
    pub fn width_600m() -> Self {
        let raw = RawConfig {
            model_type: MODEL_TYPE.into(),
            encoder_config: RawEncoder { num_mel_bins: 128, ..RawEncoder::default() },
            ..RawConfig::default()
        };
        let mut processor = RawProcessor::default();
        processor.feature_extractor.feature_size = Some(128);
        check(&raw, processor).expect("the published shape passes its own checks")
    }

    /// The largest look-ahead that slots may use.
    pub fn max_lookahead(&self) -> usize {
        self.lookaheads.iter().copied().max().unwrap_or(0)
    }
}

fn read_json<T: for<'a> Deserialize<'a>>(folder: &Path, file: &str) -> Result<Option<T>, EngineError> {
    match std::fs::read(folder.join(file)) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| {
            invalid(file, &format!("the file is not what a Hugging Face {file} looks like: {error}"))
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(invalid(file, &error.to_string())),
    }
}

fn invalid(file: &str, detail: &str) -> EngineError {
    EngineError::LoadModel { file: file.to_owned(), detail: detail.to_owned() }
}

fn check(raw: &RawConfig, processor: RawProcessor) -> Result<Config, EngineError> {
    let wrong = |detail: String| Err(invalid("config.json", &detail));
    if raw.model_type != MODEL_TYPE {
        return wrong(format!(
            "the model's architecture is '{}', but this worker runs '{MODEL_TYPE}'",
            raw.model_type
        ));
    }
    let encoder = check_encoder(&raw.encoder_config)?;
    if raw.blank_token_id >= raw.vocab_size {
        return wrong(format!(
            "blank_token_id {} is outside vocab_size {}",
            raw.blank_token_id, raw.vocab_size
        ));
    }
    if raw.num_decoder_layers == 0 || raw.max_symbols_per_step == 0 || raw.decoder_hidden_size == 0 {
        return wrong(
            "num_decoder_layers, decoder_hidden_size and max_symbols_per_step must be at least 1".into(),
        );
    }
    let lookaheads = processor.supported_num_lookahead_tokens.unwrap_or_else(|| DEFAULT_LOOKAHEADS.to_vec());
    let Some(&first) = lookaheads.first() else {
        return Err(invalid("processor_config.json", "supported_num_lookahead_tokens is empty"));
    };
    let default_lookahead = processor.default_num_lookahead_tokens.unwrap_or(first);
    if !lookaheads.contains(&default_lookahead) || lookaheads.iter().any(|&lookahead| lookahead > 1000) {
        return Err(invalid(
            "processor_config.json",
            "default_num_lookahead_tokens is not among supported_num_lookahead_tokens, or one is above 1000",
        ));
    }
    Ok(Config {
        features: check_features(&processor.feature_extractor, encoder.mels)?,
        encoder,
        vocab_size: raw.vocab_size,
        blank: raw.blank_token_id,
        decoder_hidden: raw.decoder_hidden_size,
        decoder_layers: raw.num_decoder_layers,
        joint_activation: check_activation(&raw.hidden_act)?,
        max_symbols: raw.max_symbols_per_step,
        lookaheads,
        default_lookahead,
        token_delay_ms: raw.token_delay_ms,
    })
}

fn check_encoder(raw: &RawEncoder) -> Result<EncoderConfig, EngineError> {
    let wrong = |detail: &str| Err(invalid("config.json", detail));
    if raw.num_attention_heads == 0 || !raw.hidden_size.is_multiple_of(2 * raw.num_attention_heads) {
        return wrong("hidden_size must be an even multiple of num_attention_heads");
    }
    if raw.num_key_value_heads.is_some_and(|heads| heads != raw.num_attention_heads) {
        return wrong(
            "num_key_value_heads differs from num_attention_heads; grouped attention is not supported",
        );
    }
    if !matches!(raw.subsampling_factor, 2 | 4 | 8 | 16) {
        return wrong("subsampling_factor must be 2, 4, 8 or 16");
    }
    if raw.subsampling_conv_kernel_size != 3 || raw.subsampling_conv_stride != 2 {
        return wrong("only subsampling_conv_kernel_size 3 with subsampling_conv_stride 2 is supported");
    }
    let positive = [raw.conv_kernel_size, raw.sliding_window, raw.num_hidden_layers, raw.intermediate_size];
    if positive.contains(&0) || raw.subsampling_conv_channels == 0 || raw.num_mel_bins == 0 {
        return wrong(
            "conv_kernel_size, sliding_window, num_hidden_layers, intermediate_size, subsampling_conv_channels and num_mel_bins must be at least 1",
        );
    }
    Ok(EncoderConfig {
        hidden: raw.hidden_size,
        layers: raw.num_hidden_layers,
        heads: raw.num_attention_heads,
        intermediate: raw.intermediate_size,
        activation: check_activation(&raw.hidden_act)?,
        attention_bias: raw.attention_bias,
        convolution_bias: raw.convolution_bias,
        conv_kernel: raw.conv_kernel_size,
        subsampling: raw.subsampling_factor,
        subsampling_channels: raw.subsampling_conv_channels,
        left_context: raw.sliding_window - 1,
        input_scale: if raw.scale_input { (raw.hidden_size as f64).sqrt() } else { 1.0 },
        mels: raw.num_mel_bins,
    })
}

fn check_features(raw: &RawFeatures, mels: usize) -> Result<FeatureConfig, EngineError> {
    let wrong = |detail: String| Err(invalid("processor_config.json", &detail));
    if raw.sampling_rate != workers_engine::SAMPLE_RATE_HZ {
        return wrong(format!(
            "sampling_rate is {}, but audio arrives at {} Hz",
            raw.sampling_rate,
            workers_engine::SAMPLE_RATE_HZ
        ));
    }
    if raw.feature_size.is_some_and(|size| size != mels) {
        return wrong(format!(
            "feature_size {:?} differs from num_mel_bins {mels} of config.json",
            raw.feature_size
        ));
    }
    if raw.hop_length == 0
        || raw.win_length > raw.n_fft
        || !(raw.n_fft - raw.win_length).is_multiple_of(2)
        || raw.win_length <= raw.hop_length
    {
        return wrong("hop_length < win_length <= n_fft must hold".into());
    }
    if raw.mel_filters_dtype.as_deref().is_some_and(|dtype| dtype != "float32") {
        return wrong("only mel_filters_dtype float32 is supported".into());
    }
    Ok(FeatureConfig {
        mels,
        n_fft: raw.n_fft,
        hop: raw.hop_length,
        window: raw.win_length,
        preemphasis: raw.preemphasis,
    })
}

fn check_activation(name: &str) -> Result<Activation, EngineError> {
    match name {
        "silu" | "swish" => Ok(Activation::Silu),
        "relu" => Ok(Activation::Relu),
        "gelu" => Ok(Activation::Gelu),
        "tanh" => Ok(Activation::Tanh),
        other => Err(invalid(
            "config.json",
            &format!("hidden_act '{other}' is not supported (silu, relu, gelu, tanh are)"),
        )),
    }
}
