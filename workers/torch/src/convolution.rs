//! The convolution module of a conformer block: gated pointwise, causal depthwise, norm, activation, pointwise.
//!
//! `[rows · frames, hidden]` of normalised input in, the same with the module's result added to `residual` out.
//! The last `kernel − 1` gated frames of a slot are its state. Frames after the end of the audio need no mask here:
//! the convolution is causal, and what it makes of them is never read.
//! Source: `NemotronAsrStreamingEncoderConvolutionModule` of transformers 5.23.0.

use tch::{Kind, TchError, Tensor};

use crate::batch::Batch;
use crate::config::{Activation, EncoderConfig};
use crate::ffi::{self, ConvolutionTensors, Fused};
use crate::linear::{Linear, Norm, Placement, activate_};
use crate::load::Weights;

/// One layer's convolution module.
#[derive(Debug)]
pub(crate) struct Convolution {
    widen: Linear,
    depthwise: Tensor,
    depthwise_bias: Option<Tensor>,
    norm: Norm,
    activation: Activation,
    narrow: Linear,
    fused: Option<ConvolutionTensors>,
}

impl Convolution {
    pub(crate) fn load(
        config: &EncoderConfig,
        place: Placement,
        weights: &mut Weights,
        layer: usize,
    ) -> Result<Self, TchError> {
        let (hidden, kernel) = (config.hidden as i64, config.conv_kernel as i64);
        let mut take =
            |name: &str, shape: &[i64]| weights.take(&format!("encoder.layers.{layer}.conv.{name}"), shape);
        let mut bias =
            |name: &str, size: i64| config.convolution_bias.then(|| take(&format!("{name}.bias"), &[size]));
        let biases = [
            bias("pointwise_conv1", 2 * hidden),
            bias("depthwise_conv", hidden),
            bias("pointwise_conv2", hidden),
        ];
        let widen = take("pointwise_conv1.weight", &[2 * hidden, hidden, 1]).f_view([2 * hidden, hidden])?;
        let narrow = take("pointwise_conv2.weight", &[hidden, hidden, 1]).f_view([hidden, hidden])?;
        let depthwise = take("depthwise_conv.weight", &[hidden, 1, kernel]);
        let norm = (take("norm.weight", &[hidden]), take("norm.bias", &[hidden]));
        let fused = if place.fused {
            Some(fuse(config, place, &depthwise, biases[1].as_ref(), &norm)?)
        } else {
            None
        };
        Ok(Self {
            widen: Linear::new(place, &widen, biases[0].as_ref())?,
            depthwise: place.put(&depthwise)?,
            depthwise_bias: biases[1].as_ref().map(|bias| place.put(bias)).transpose()?,
            norm: Norm::new(place, &norm.0, &norm.1)?,
            activation: config.activation,
            narrow: Linear::new(place, &narrow, biases[2].as_ref())?,
            fused,
        })
    }

    /// `residual + module(input)`, advancing the state of the batch's slots.
    pub(crate) fn forward(
        &self,
        input: &Tensor,
        residual: &Tensor,
        batch: &Batch,
        state: &mut Tensor,
    ) -> Result<Tensor, TchError> {
        let widened = self.widen.forward(input)?;
        let filtered = match &self.fused {
            None => self.filter(&widened, batch, state)?,
            Some(tensors) => {
                let filtered = ffi::convolution(&widened, state, tensors, &batch.kernel_rows, batch.frames)?;
                if tensors.activation == Fused::None {
                    activate_(filtered, self.activation)?
                } else {
                    filtered
                }
            }
        };
        self.narrow.forward_residual(&filtered, residual)
    }

    /// Gate, depthwise convolution, norm and activation, in plain tensor operations.
    fn filter(&self, widened: &Tensor, batch: &Batch, state: &mut Tensor) -> Result<Tensor, TchError> {
        let (rows, frames) = (batch.rows.len() as i64, batch.frames as i64);
        let gated = widened.f_glu(-1)?;
        let hidden = gated.size()[1];
        let before = state.f_index_select(0, &batch.index)?;
        let whole = Tensor::f_cat(&[&before, &gated.f_view([rows, frames, hidden])?], 1)?;
        let kept = state.size()[1];
        let _ = state.f_index_copy_(0, &batch.index, &whole.f_narrow(1, whole.size()[1] - kept, kept)?)?;
        let filtered = whole.f_transpose(1, 2)?.f_conv1d(
            &self.depthwise,
            self.depthwise_bias.as_ref(),
            [1],
            [0],
            [1],
            hidden,
        )?;
        let normed = self.norm.forward(&filtered.f_transpose(1, 2)?.f_reshape([rows * frames, hidden])?)?;
        activate_(normed, self.activation)
    }
}

/// Lays the weights out for the CPU kernel.
fn fuse(
    config: &EncoderConfig,
    place: Placement,
    depthwise: &Tensor,
    bias: Option<&Tensor>,
    (norm_weight, norm_bias): &(Tensor, Tensor),
) -> Result<ConvolutionTensors, TchError> {
    let hidden = config.hidden as i64;
    let zeros = Tensor::f_zeros([hidden], (Kind::Float, place.device))?;
    Ok(ConvolutionTensors {
        filter: place.put_fp32(&depthwise.f_view([hidden, -1])?.f_transpose(0, 1)?)?,
        bias: bias.map_or(Ok(zeros), |bias| place.put_fp32(bias))?,
        norm_weight: place.put_fp32(norm_weight)?,
        norm_bias: place.put_fp32(norm_bias)?,
        epsilon: Norm::EPSILON,
        activation: match config.activation {
            Activation::Silu => Fused::Swish,
            Activation::Relu => Fused::Relu,
            Activation::Gelu | Activation::Tanh => Fused::None,
        },
    })
}
