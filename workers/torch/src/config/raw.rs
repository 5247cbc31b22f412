//! `config.json` and `processor_config.json` as they stand in a file, before any check.
//!
//! Keys and defaults are the reference's (`configuration_nemotron_asr_streaming.py` of transformers 5.23.0).

use serde::Deserialize;

/// `config.json` with the reference's defaults for what a file leaves out.
#[derive(Debug, Deserialize)]
#[serde(default)]
pub(super) struct RawConfig {
    pub(super) model_type: String,
    pub(super) vocab_size: usize,
    pub(super) blank_token_id: usize,
    pub(super) decoder_hidden_size: usize,
    pub(super) num_decoder_layers: usize,
    pub(super) hidden_act: String,
    pub(super) max_symbols_per_step: usize,
    /// Not of the reference: measured after training and written beside its keys, which ignore it.
    pub(super) token_delay_ms: u32,
    pub(super) encoder_config: RawEncoder,
}

impl Default for RawConfig {
    fn default() -> Self {
        Self {
            model_type: String::new(),
            vocab_size: 1025,
            blank_token_id: 1024,
            decoder_hidden_size: 640,
            num_decoder_layers: 2,
            hidden_act: "relu".into(),
            max_symbols_per_step: 10,
            token_delay_ms: 0,
            encoder_config: RawEncoder::default(),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(default)]
pub(super) struct RawEncoder {
    pub(super) hidden_size: usize,
    pub(super) num_hidden_layers: usize,
    pub(super) num_attention_heads: usize,
    pub(super) num_key_value_heads: Option<usize>,
    pub(super) intermediate_size: usize,
    pub(super) hidden_act: String,
    pub(super) attention_bias: bool,
    pub(super) convolution_bias: bool,
    pub(super) conv_kernel_size: usize,
    pub(super) subsampling_factor: usize,
    pub(super) subsampling_conv_channels: usize,
    pub(super) subsampling_conv_kernel_size: usize,
    pub(super) subsampling_conv_stride: usize,
    pub(super) num_mel_bins: usize,
    pub(super) scale_input: bool,
    pub(super) sliding_window: usize,
}

impl Default for RawEncoder {
    fn default() -> Self {
        Self {
            hidden_size: 1024,
            num_hidden_layers: 24,
            num_attention_heads: 8,
            num_key_value_heads: None,
            intermediate_size: 4096,
            hidden_act: "silu".into(),
            attention_bias: true,
            convolution_bias: true,
            conv_kernel_size: 9,
            subsampling_factor: 8,
            subsampling_conv_channels: 256,
            subsampling_conv_kernel_size: 3,
            subsampling_conv_stride: 2,
            num_mel_bins: 80,
            scale_input: true,
            sliding_window: 71,
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RawProcessor {
    pub(super) supported_num_lookahead_tokens: Option<Vec<usize>>,
    pub(super) default_num_lookahead_tokens: Option<usize>,
    pub(super) feature_extractor: RawFeatures,
}

#[derive(Debug, Deserialize)]
#[serde(default)]
pub(super) struct RawFeatures {
    pub(super) feature_size: Option<usize>,
    pub(super) sampling_rate: u32,
    pub(super) hop_length: usize,
    pub(super) n_fft: usize,
    pub(super) win_length: usize,
    pub(super) preemphasis: f32,
    pub(super) mel_filters_dtype: Option<String>,
}

impl Default for RawFeatures {
    fn default() -> Self {
        Self {
            feature_size: None,
            sampling_rate: 16_000,
            hop_length: 160,
            n_fft: 512,
            win_length: 400,
            preemphasis: 0.97,
            mel_filters_dtype: None,
        }
    }
}
