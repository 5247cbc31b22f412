//! A linear layer: packed for the processor on the CPU, plain elsewhere.
//!
//! Rows of features come in, rows come out; the activation or the residual behind it is fused where possible.
//! Must not know which layer of the model it is.

use tch::{Device, Kind, TchError, Tensor};

use crate::config::Activation;
use crate::ffi::{self, Fused, LinearTensors};

/// Input rows that packed weights are laid out for: a full step of some dozen live streams.
const EXPECTED_ROWS: i64 = 256;

/// Where a model lives and in which type it computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Placement {
    pub(crate) device: Device,
    pub(crate) kind: Kind,
    /// Run the CPU kernels of the shim instead of plain tensor operations.
    pub(crate) fused: bool,
}

impl Placement {
    /// Moves a stored tensor to its place.
    pub(crate) fn put(self, tensor: &Tensor) -> Result<Tensor, TchError> {
        tensor.f_to_device(self.device)?.f_to_kind(self.kind)?.f_contiguous()
    }

    /// Moves a stored tensor to its place in fp32, as the kernels take weights.
    pub(crate) fn put_fp32(self, tensor: &Tensor) -> Result<Tensor, TchError> {
        Placement { kind: Kind::Float, ..self }.put(&self.put(tensor)?)
    }
}

/// Weight and bias, ready to be applied.
#[derive(Debug)]
pub(crate) enum Linear {
    Packed(LinearTensors),
    Plain { weight: Tensor, bias: Option<Tensor> },
}

impl Linear {
    /// Takes a `[out, in]` weight and an `[out]` bias as stored.
    pub(crate) fn new(place: Placement, weight: &Tensor, bias: Option<&Tensor>) -> Result<Self, TchError> {
        let weight = place.put(weight)?;
        let bias = bias.map(|bias| place.put(bias)).transpose()?;
        if place.fused {
            let width = weight.size()[0];
            let weight = ffi::linear_pack(&weight, EXPECTED_ROWS)?;
            return Ok(Self::Packed(LinearTensors { weight, bias, width }));
        }
        Ok(Self::Plain { weight, bias })
    }

    /// `input [rows, in]` → `[rows, out]`.
    pub(crate) fn forward(&self, input: &Tensor) -> Result<Tensor, TchError> {
        match self {
            Self::Packed(tensors) => ffi::linear(input, tensors, Fused::None),
            Self::Plain { weight, bias } => input.f_linear(weight, bias.as_ref()),
        }
    }

    /// `activation(input · weightᵀ + bias)`.
    pub(crate) fn forward_activated(
        &self,
        input: &Tensor,
        activation: Activation,
    ) -> Result<Tensor, TchError> {
        match (self, activation) {
            (Self::Packed(tensors), Activation::Silu) => ffi::linear(input, tensors, Fused::Swish),
            (Self::Packed(tensors), Activation::Relu) => ffi::linear(input, tensors, Fused::Relu),
            _ => activate_(self.forward(input)?, activation),
        }
    }

    /// `input · weightᵀ + bias + residual`.
    pub(crate) fn forward_residual(&self, input: &Tensor, residual: &Tensor) -> Result<Tensor, TchError> {
        match self {
            Self::Packed(tensors) => ffi::linear_add(input, residual, tensors),
            Self::Plain { .. } => self.forward(input)?.f_add_(residual),
        }
    }
}

/// Applies an activation in place.
pub(crate) fn activate_(mut tensor: Tensor, activation: Activation) -> Result<Tensor, TchError> {
    match activation {
        Activation::Silu => tensor.f_silu_(),
        Activation::Relu => tensor.f_relu_(),
        Activation::Gelu => tensor.f_gelu_("none"),
        Activation::Tanh => tensor.f_tanh_(),
    }
}

/// Layer normalisation over the last dimension of `[rows, width]`.
#[derive(Debug)]
pub(crate) struct Norm {
    weight: Tensor,
    bias: Tensor,
    fused: bool,
}

impl Norm {
    /// The reference's (and `PyTorch`'s default) epsilon.
    pub(crate) const EPSILON: f64 = 1e-5;

    pub(crate) fn new(place: Placement, weight: &Tensor, bias: &Tensor) -> Result<Self, TchError> {
        let put = |tensor: &Tensor| if place.fused { place.put_fp32(tensor) } else { place.put(tensor) };
        Ok(Self { weight: put(weight)?, bias: put(bias)?, fused: place.fused })
    }

    pub(crate) fn forward(&self, input: &Tensor) -> Result<Tensor, TchError> {
        if self.fused {
            return ffi::norm(input, &self.weight, &self.bias, Self::EPSILON);
        }
        let width = self.weight.size();
        input.f_layer_norm(&width, Some(&self.weight), Some(&self.bias), Self::EPSILON, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The types that this processor packs weights of; bf16 needs instructions.
    fn kinds() -> Vec<Kind> {
        let packs = |&kind: &Kind| ffi::linear_pack(&numbers(1, 1, 0, kind), 1).is_ok();
        [Kind::Float, Kind::BFloat16].into_iter().filter(packs).collect()
    }

    /// `[rows, columns]` of numbers that look random, the same in every run.
    fn numbers(rows: i64, columns: i64, seed: i64, kind: Kind) -> Tensor {
        let places = Tensor::arange(rows * columns, (Kind::Double, Device::Cpu)) + (seed * 7919) as f64;
        (places * 12.9898).sin().view([rows, columns]).to_kind(kind)
    }

    /// The largest difference, in units of what one rounding to the type may take from `right`.
    fn roundings(left: &Tensor, right: &Tensor, kind: Kind) -> f64 {
        let unit = if kind == Kind::Float { 1e-5 } else { 1.0 / 256.0 };
        let allowed = (right.abs() + 1.0) * unit;
        ((left.to_kind(Kind::Double) - right).abs() / allowed).max().double_value(&[])
    }

    /// Compares the layer's four forms with the same sums in double precision.
    fn check(kind: Kind, rows: i64, depth: i64, width: i64, with_bias: bool) {
        let place = Placement { device: Device::Cpu, kind, fused: true };
        let (input, residual) = (numbers(rows, depth, 1, kind), numbers(rows, width, 2, kind));
        let weight = numbers(width, depth, 3, kind) / (depth as f64).sqrt();
        let bias = with_bias.then(|| numbers(1, width, 4, kind).view([width]));
        let layer = Linear::new(place, &weight, bias.as_ref()).unwrap();

        let double = |tensor: &Tensor| tensor.to_kind(Kind::Double);
        let sums = double(&input).linear(&double(&weight), bias.as_ref().map(double).as_ref());
        let forms = [
            ("plain", layer.forward(&input), sums.shallow_clone()),
            ("silu", layer.forward_activated(&input, Activation::Silu), sums.silu()),
            ("relu", layer.forward_activated(&input, Activation::Relu), sums.relu()),
            ("residual", layer.forward_residual(&input, &residual), &sums + double(&residual)),
        ];
        for (form, got, expected) in forms {
            let off = roundings(&got.unwrap(), &expected, kind);
            assert!(
                off <= 1.0,
                "{form}: {kind:?} {rows} x {depth} x {width}, bias {with_bias}: {off} roundings off"
            );
        }
    }

    /// Every tile size, blocks of rows, panels that are not full, slices of depth, an odd last input.
    #[test]
    fn products_are_those_of_double_precision() {
        for kind in kinds() {
            for rows in [1, 2, 3, 5, 8, 12, 13, 14, 16, 27, 64, 97, 200] {
                check(kind, rows, 96, 80, rows % 2 == 0);
            }
            for (depth, width) in
                [(1, 1), (2, 16), (7, 31), (31, 33), (512, 32), (515, 47), (1030, 100), (2049, 65)]
            {
                check(kind, 3, depth, width, true);
                check(kind, 29, depth, width, false);
            }
        }
    }

    /// A stream's text must not depend on who else speaks: not one bit of a row's result may, where the product is ours.
    #[test]
    fn a_row_does_not_depend_on_the_rows_beside_it() {
        for kind in kinds() {
            let place = Placement { device: Device::Cpu, kind, fused: true };
            let layer = Linear::new(place, &numbers(65, 1030, 5, kind), None).unwrap();
            let Linear::Packed(LinearTensors { weight, .. }) = &layer else { panic!("it is packed") };
            if weight.is_mkldnn() {
                continue;
            }
            let input = numbers(120, 1030, 6, kind);
            let together = layer.forward(&input).unwrap();
            for (first, count) in [(0, 1), (3, 2), (7, 5), (40, 13), (20, 97)] {
                let alone = layer.forward(&input.narrow(0, first, count)).unwrap();
                assert!(
                    alone.equal(&together.narrow(0, first, count)),
                    "{kind:?}: rows from {first}, {count} of them"
                );
            }
        }
    }
}
