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
