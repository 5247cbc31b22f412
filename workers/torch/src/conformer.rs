//! Third step of a batch: the conformer blocks.
//!
//! `[rows · frames, hidden]` in and out. A block is half a feed-forward, attention, convolution, half a
//! feed-forward, each behind a norm and added to the residual, then a last norm. The halves are folded into the
//! weights (a power of two, so nothing is rounded). Must not know features or text.
//! Source: `NemotronAsrStreamingEncoderBlock` of transformers 5.23.0.

use tch::{TchError, Tensor};

use crate::arena::Arena;
use crate::attention::{Attention, AttentionState, attention_mask};
use crate::batch::Batch;
use crate::config::{Activation, EncoderConfig};
use crate::convolution::Convolution;
use crate::linear::{Linear, Norm, Placement};
use crate::load::Weights;

/// All blocks.
#[derive(Debug)]
pub(crate) struct Conformer {
    place: Placement,
    blocks: Vec<Block>,
}

#[derive(Debug)]
struct Block {
    norms: [Norm; 5],
    first: FeedForward,
    attention: Attention,
    convolution: Convolution,
    second: FeedForward,
}

/// `0.5 · linear2(activation(linear1(x)))`.
#[derive(Debug)]
struct FeedForward {
    widen: Linear,
    narrow: Linear,
    activation: Activation,
}

impl Conformer {
    pub(crate) fn load(
        config: &EncoderConfig,
        place: Placement,
        weights: &mut Weights,
    ) -> Result<Self, TchError> {
        let blocks = (0..config.layers)
            .map(|layer| Block::load(config, place, weights, layer))
            .collect::<Result<_, _>>()?;
        Ok(Self { place, blocks })
    }

    /// Runs all blocks, advancing the slots' states.
    pub(crate) fn forward(
        &mut self,
        input: Tensor,
        batch: &Batch,
        arena: &mut Arena,
    ) -> Result<Tensor, TchError> {
        let mask = if self.place.fused { None } else { attention_mask(batch, self.place)? };
        let mut hidden = input;
        for (layer, block) in self.blocks.iter_mut().enumerate() {
            let state = AttentionState {
                batch,
                mask: mask.as_ref(),
                keys: &mut arena.keys[layer],
                values: &mut arena.values[layer],
            };
            hidden = block.first.forward(&block.norms[0].forward(&hidden)?, &hidden)?;
            hidden = block.attention.forward(&block.norms[1].forward(&hidden)?, &hidden, state)?;
            let normed = block.norms[2].forward(&hidden)?;
            hidden = block.convolution.forward(&normed, &hidden, batch, &mut arena.convolutions[layer])?;
            hidden = block.second.forward(&block.norms[3].forward(&hidden)?, &hidden)?;
            hidden = block.norms[4].forward(&hidden)?;
        }
        Ok(hidden)
    }
}

impl Block {
    fn load(
        config: &EncoderConfig,
        place: Placement,
        weights: &mut Weights,
        layer: usize,
    ) -> Result<Self, TchError> {
        let width = [config.hidden as i64];
        let mut norm = |name: &str| {
            let weight = weights.take(&format!("encoder.layers.{layer}.{name}.weight"), &width);
            Norm::new(place, &weight, &weights.take(&format!("encoder.layers.{layer}.{name}.bias"), &width))
        };
        let norms = [
            norm("norm_feed_forward1")?,
            norm("norm_self_att")?,
            norm("norm_conv")?,
            norm("norm_feed_forward2")?,
            norm("norm_out")?,
        ];
        Ok(Self {
            norms,
            first: FeedForward::load(
                config,
                place,
                weights,
                &format!("encoder.layers.{layer}.feed_forward1"),
            )?,
            attention: Attention::load(config, place, weights, layer)?,
            convolution: Convolution::load(config, place, weights, layer)?,
            second: FeedForward::load(
                config,
                place,
                weights,
                &format!("encoder.layers.{layer}.feed_forward2"),
            )?,
        })
    }
}

impl FeedForward {
    fn load(
        config: &EncoderConfig,
        place: Placement,
        weights: &mut Weights,
        name: &str,
    ) -> Result<Self, TchError> {
        let (hidden, inner) = (config.hidden as i64, config.intermediate as i64);
        let mut linear = |part: &str, out: i64, input: i64, factor: f64| -> Result<Linear, TchError> {
            let weight = weights.take(&format!("{name}.{part}.weight"), &[out, input]);
            let bias = config.attention_bias.then(|| weights.take(&format!("{name}.{part}.bias"), &[out]));
            let bias = bias.map(|bias| bias.f_mul_scalar(factor)).transpose()?;
            Linear::new(place, &weight.f_mul_scalar(factor)?, bias.as_ref())
        };
        Ok(Self {
            widen: linear("linear1", inner, hidden, 1.0)?,
            narrow: linear("linear2", hidden, inner, 0.5)?,
            activation: config.activation,
        })
    }

    /// `residual + half the feed-forward of input`.
    fn forward(&self, input: &Tensor, residual: &Tensor) -> Result<Tensor, TchError> {
        self.narrow.forward_residual(&self.widen.forward_activated(input, self.activation)?, residual)
    }
}
