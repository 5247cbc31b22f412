//! Relative positions of attention, projected once per shape and kept.
//!
//! The reference projects the sinusoids of all distances in every layer at every chunk, half of its work and more.
//! They depend on the weights and on the shape of a step alone, so in steady state they are a constant.

use std::collections::HashMap;

use tch::{Device, Kind, TchError, Tensor};

use crate::arena::LANES;
use crate::config::EncoderConfig;
use crate::linear::Placement;

/// Shapes kept; a worker uses a handful (one a look-ahead and step size).
const KEPT_SHAPES: usize = 32;

/// One layer's projected relative positions.
#[derive(Debug)]
pub(crate) struct RelativePositions {
    place: Placement,
    weight: Tensor,
    hidden: i64,
    heads: i64,
    shapes: HashMap<(i64, i64), Tensor>,
}

impl RelativePositions {
    /// Takes the `[hidden, hidden]` weight of `relative_k_proj`.
    pub(crate) fn new(config: &EncoderConfig, place: Placement, weight: &Tensor) -> Result<Self, TchError> {
        let (hidden, heads) = (config.hidden as i64, config.heads as i64);
        Ok(Self { place, weight: place.put(weight)?, hidden, heads, shapes: HashMap::new() })
    }

    /// `[heads, head_dim, context + 2·frames − 1]` for distances from `context + frames − 1` down to `1 − frames`;
    /// for the CPU kernels in fp32 and padded to whole lanes.
    pub(crate) fn get(&mut self, frames: i64, context: i64) -> Result<&Tensor, TchError> {
        let shape = (frames, context);
        if !self.shapes.contains_key(&shape) {
            if self.shapes.len() >= KEPT_SHAPES {
                self.shapes.clear();
            }
            let mut projected = self.project(context + frames - 1, 1 - frames)?;
            if self.place.fused {
                let width = projected.size()[2];
                let lanes = width.unsigned_abs().next_multiple_of(LANES as u64) as i64;
                projected = projected
                    .f_constant_pad_nd([0, lanes - width])?
                    .f_to_kind(Kind::Float)?
                    .f_contiguous()?;
            }
            self.shapes.insert(shape, projected);
        }
        Ok(&self.shapes[&shape])
    }

    /// Projects the sinusoids of the distances from `first` down to `last`.
    fn project(&self, first: i64, last: i64) -> Result<Tensor, TchError> {
        let distances = Tensor::f_arange_start_step(first, last - 1, -1, (Kind::Float, Device::Cpu))?;
        let sinusoids = self.place.put(&sinusoids(&distances, self.hidden)?)?;
        let projected = sinusoids.f_linear::<&Tensor>(&self.weight, None)?;
        projected.f_view([-1, self.heads, self.hidden / self.heads])?.f_permute([1, 2, 0])?.f_contiguous()
    }
}

/// `[distances, hidden]` with sine and cosine interleaved, base 10,000, in fp32.
fn sinusoids(distances: &Tensor, hidden: i64) -> Result<Tensor, TchError> {
    let exponents =
        Tensor::f_arange_start_step(0, hidden, 2, (Kind::Float, Device::Cpu))?.f_div_scalar(hidden)?;
    let frequencies = Tensor::f_pow_scalar(10_000.0, &exponents)?.f_reciprocal()?;
    let angles = distances.f_unsqueeze(1)?.f_mul(&frequencies)?;
    Tensor::f_stack(&[angles.f_sin()?, angles.f_cos()?], -1)?.f_reshape([distances.size()[0], hidden])
}
