//! Second step of a batch: mel frames are reduced in time and frequency by strided causal convolutions.
//!
//! `[rows, mel frames, mels]` in, `[rows · frames, hidden]` out. Each stage looks one frame back over the edge of
//! the chunk; that frame is the slot's state. After each stage, frames outside the audio are zeroed, so that they
//! reach the next stage as the reference's zero padding. Must not know attention or text.

use tch::{TchError, Tensor};

use crate::batch::Batch;
use crate::config::{Activation, EncoderConfig};
use crate::ffi;
use crate::linear::{Linear, Placement};
use crate::load::Weights;

/// The stack of strided convolutions and the projection behind it.
#[derive(Debug)]
pub(crate) struct Subsampling {
    place: Placement,
    stem: Filter,
    stages: Vec<Stage>,
    projection: Linear,
    scale: f64,
}

/// Depthwise strided convolution, then a 1×1 convolution over channels.
#[derive(Debug)]
struct Stage {
    depthwise: Filter,
    pointwise: Linear,
}

/// A 3×3 convolution of stride 2 with its bias: `[channels, 1, 3, 3]`, or `[9, channels]` for the CPU kernels.
#[derive(Debug)]
struct Filter {
    weight: Tensor,
    bias: Tensor,
}

impl Subsampling {
    pub(crate) fn load(
        config: &EncoderConfig,
        place: Placement,
        weights: &mut Weights,
    ) -> Result<Self, TchError> {
        let channels = config.subsampling_channels as i64;
        let mut take =
            |name: &str, shape: &[i64]| weights.take(&format!("encoder.subsampling.{name}"), shape);
        let mut stages = Vec::new();
        for stage in 0..config.stages() - 1 {
            let pointwise =
                take(&format!("layers.{stage}.pointwise_conv.weight"), &[channels, channels, 1, 1]);
            let bias = take(&format!("layers.{stage}.pointwise_conv.bias"), &[channels]);
            stages.push(Stage {
                depthwise: Filter::new(
                    place,
                    &take(&format!("layers.{stage}.depthwise_conv.weight"), &[channels, 1, 3, 3]),
                    &take(&format!("layers.{stage}.depthwise_conv.bias"), &[channels]),
                )?,
                pointwise: Linear::new(place, &pointwise.f_view([channels, channels])?, Some(&bias))?,
            });
        }
        let bins = (0..config.stages()).fold(config.mels as i64, |bins, _| bins / 2 + 1);
        let hidden = config.hidden as i64;
        // The reference flattens channels before bins; rows here hold bins before channels.
        let projection = take("linear.weight", &[hidden, channels * bins])
            .f_view([hidden, channels, bins])?
            .f_transpose(1, 2)?
            .f_reshape([hidden, channels * bins])?;
        Ok(Self {
            place,
            stem: Filter::new(
                place,
                &take("conv_in.weight", &[channels, 1, 3, 3]),
                &take("conv_in.bias", &[channels]),
            )?,
            stages,
            projection: Linear::new(place, &projection, Some(&take("linear.bias", &[hidden])))?,
            scale: config.input_scale,
        })
    }

    /// Runs all stages; `states[stage]` is `[slots, bins, channels]`.
    pub(crate) fn forward(
        &self,
        mels: &Tensor,
        batch: &Batch,
        states: &mut [Tensor],
    ) -> Result<Tensor, TchError> {
        let together = self.place.fused && !self.stages.is_empty();
        let mut frames =
            if together { mels.shallow_clone() } else { self.stem(mels, batch, &mut states[0])? };
        for (index, stage) in self.stages.iter().enumerate() {
            let filtered = if together && index == 0 {
                let first = (&states[0], &self.stem.weight, &self.stem.bias);
                let then = (&states[1], &stage.depthwise.weight, &stage.depthwise.bias);
                ffi::stem(mels, first, then, &batch.kernel_stage_rows(1), self.place.kind)?
            } else if self.place.fused {
                let filter = (&stage.depthwise.weight, &stage.depthwise.bias);
                ffi::strided(
                    &frames,
                    &states[index + 1],
                    filter,
                    &batch.kernel_stage_rows(index + 2),
                    self.place.kind,
                )?
            } else {
                let channels = frames.size()[3];
                stage.depthwise.convolve(&frames, batch, &mut states[index + 1], channels)?
            };
            let shape = filtered.size();
            let rows = filtered.f_view([-1, shape[3]])?;
            frames = stage.pointwise.forward_activated(&rows, Activation::Relu)?.f_view(shape.as_slice())?;
            batch.blank_outside(&frames, index + 2, 1)?;
        }
        let rows = (batch.rows.len() * batch.frames) as i64;
        let projected = self.projection.forward(&frames.f_reshape([rows, -1])?)?;
        if (self.scale - 1.0).abs() < f64::EPSILON {
            Ok(projected)
        } else {
            projected.f_mul_scalar(self.scale)
        }
    }

    /// The first convolution, over mels alone.
    fn stem(&self, mels: &Tensor, batch: &Batch, state: &mut Tensor) -> Result<Tensor, TchError> {
        if self.place.fused {
            let filter = (&self.stem.weight, &self.stem.bias);
            return ffi::strided(mels, state, filter, &batch.kernel_stage_rows(1), self.place.kind);
        }
        let mels = mels.f_to_kind(self.place.kind)?.f_unsqueeze(-1)?;
        let frames = self.stem.convolve(&mels, batch, state, 1)?.f_relu_()?;
        batch.blank_outside(&frames, 1, 1)?;
        Ok(frames)
    }
}

impl Filter {
    /// Takes a `[channels, 1, 3, 3]` weight as stored.
    fn new(place: Placement, weight: &Tensor, bias: &Tensor) -> Result<Self, TchError> {
        if place.fused {
            let weight = weight.f_view([-1, 9])?.f_transpose(0, 1)?;
            return Ok(Self { weight: place.put_fp32(&weight)?, bias: place.put_fp32(bias)? });
        }
        Ok(Self { weight: place.put(weight)?, bias: place.put(bias)? })
    }

    /// The causal convolution over `[rows, frames, bins, channels]` in plain tensor operations, with one frame of state.
    fn convolve(
        &self,
        frames: &Tensor,
        batch: &Batch,
        state: &mut Tensor,
        groups: i64,
    ) -> Result<Tensor, TchError> {
        let before = state.f_index_select(0, &batch.index)?.f_unsqueeze(1)?;
        let last = frames.f_select(1, frames.size()[1] - 1)?;
        let _ = state.f_index_copy_(0, &batch.index, &last)?;
        // [rows, channels, frames, bins], two bins of zeros below and one above, as the reference pads.
        let padded =
            Tensor::f_cat(&[&before, frames], 1)?.f_permute([0, 3, 1, 2])?.f_constant_pad_nd([2, 1])?;
        let filtered = padded.f_conv2d(&self.weight, Some(&self.bias), [2, 2], [0, 0], [1, 1], groups)?;
        filtered.f_permute([0, 2, 3, 1])?.f_contiguous()
    }
}
