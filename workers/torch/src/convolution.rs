//! The convolution module of a conformer block: gated pointwise, causal depthwise, norm, activation, pointwise.
//!
//! `[rows · frames, hidden]` of normalised input in, the same with the module's result added to `residual` out.
//! The last `kernel − 1` gated frames of a slot are its state. Frames after the end of the audio need no mask here:
//! the convolution is causal, and what it makes of them is never read.
//! Source: `NemotronAsrStreamingEncoderConvolutionModule` of transformers 5.23.0.

use tch::{TchError, Tensor};

use crate::batch::Batch;
use crate::config::{Activation, EncoderConfig};
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
        Ok(Self {
            widen: Linear::new(place, &widen, biases[0].as_ref())?,
            depthwise: place.put(&take("depthwise_conv.weight", &[hidden, 1, kernel]))?,
            depthwise_bias: biases[1].as_ref().map(|bias| place.put(bias)).transpose()?,
            norm: Norm::new(place, &take("norm.weight", &[hidden]), &take("norm.bias", &[hidden]))?,
            activation: config.activation,
            narrow: Linear::new(place, &narrow, biases[2].as_ref())?,
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
        let filtered = self.filter(&self.widen.forward(input)?, batch, state)?;
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
