//! The slot arena: every recurrent state of every slot, preallocated, one row a slot.
//!
//! A step gathers the rows of its slots, or lets the CPU kernels work on them in place. Opening a slot clears its
//! rows. Must not know what the states mean; each part of the model is handed its own.

use tch::{Kind, TchError, Tensor};

use crate::config::Config;
use crate::ffi;
use crate::linear::Placement;

/// What widths are padded to for the kernels: the numbers of the widest vector, `kLanes` in `shim/lanes.h`.
pub(crate) const LANES: usize = 16;

/// All states, each `[slots, …]`.
#[derive(Debug)]
pub(crate) struct Arena {
    /// Last frame of each subsampling stage's input: `[slots, bins, channels]`.
    pub(crate) stages: Vec<Tensor>,
    /// Attention keys of each layer, the last `left_context` frames: `[slots, left_context, hidden]`; for the CPU
    /// kernels a ring of a whole window, `[slots, heads, head_dim, capacity]`.
    pub(crate) keys: Vec<Tensor>,
    /// Attention values, likewise; for the CPU kernels `[slots, heads, capacity, head_dim]`, at least 16 wide.
    pub(crate) values: Vec<Tensor>,
    /// Inputs of each layer's depthwise convolution: `[slots, conv_kernel − 1, hidden]`.
    pub(crate) convolutions: Vec<Tensor>,
    /// The prediction network's.
    pub(crate) decoder: DecoderState,
}

/// The prediction network's state after the tokens so far.
#[derive(Debug)]
pub(crate) struct DecoderState {
    /// Output of each LSTM layer: `[slots, decoder_hidden]`.
    pub(crate) hidden: Vec<Tensor>,
    /// Cell of each LSTM layer, likewise.
    pub(crate) cell: Vec<Tensor>,
    /// What the network says to the joint network, likewise.
    pub(crate) prediction: Tensor,
}

impl DecoderState {
    /// Zeros for `slots` slots.
    pub(crate) fn new(config: &Config, place: Placement, slots: usize) -> Result<Self, TchError> {
        let zeros =
            || Tensor::f_zeros([slots as i64, config.decoder_hidden as i64], (place.kind, place.device));
        let layers = || (0..config.decoder_layers).map(|_| zeros()).collect::<Result<Vec<_>, _>>();
        Ok(Self { hidden: layers()?, cell: layers()?, prediction: zeros()? })
    }

    /// Copies the one slot of `start` into `slot`.
    pub(crate) fn reset(&self, slot: usize, start: &Self) -> Result<(), TchError> {
        let pairs = self.hidden.iter().zip(&start.hidden).chain(self.cell.iter().zip(&start.cell));
        for (state, value) in pairs.chain([(&self.prediction, &start.prediction)]) {
            state.f_select(0, slot as i64)?.f_copy_(&value.f_select(0, 0)?)?;
        }
        Ok(())
    }
}

impl Arena {
    pub(crate) fn new(config: &Config, place: Placement, slots: usize) -> Result<Self, TchError> {
        let encoder = &config.encoder;
        let options = (if place.fused { Kind::Float } else { place.kind }, place.device);
        let decoder = DecoderState::new(config, place, slots)?;
        let (slots, hidden) = (slots as i64, encoder.hidden as i64);
        let mut stages = vec![Tensor::f_zeros([slots, encoder.mels as i64, 1], options)?];
        let mut bins = encoder.mels;
        for _ in 1..encoder.stages() {
            bins = bins / 2 + 1;
            stages.push(Tensor::f_zeros([slots, bins as i64, encoder.subsampling_channels as i64], options)?);
        }
        let layered = |shape: &[i64]| -> Result<Vec<Tensor>, TchError> {
            (0..encoder.layers).map(|_| allocate(shape, place)).collect()
        };
        let plain = [slots, encoder.left_context as i64, hidden];
        let (mut keys, mut values) = (plain.to_vec(), plain.to_vec());
        if place.fused {
            let (heads, dim) = (encoder.heads as i64, encoder.head_dim());
            let capacity = (encoder.left_context + config.max_lookahead() + 1).next_multiple_of(LANES) as i64;
            keys = vec![slots, heads, dim as i64, capacity];
            values = vec![slots, heads, capacity, dim.max(LANES) as i64];
        }
        Ok(Self {
            stages,
            keys: layered(&keys)?,
            values: layered(&values)?,
            convolutions: layered(&[slots, encoder.conv_kernel as i64 - 1, hidden])?,
            decoder,
        })
    }

    /// Bytes that one slot takes.
    pub(crate) fn bytes_per_slot(config: &Config, place: Placement) -> usize {
        let encoder = &config.encoder;
        let kind = if place.fused { Kind::Float } else { place.kind };
        let window = (encoder.left_context + config.max_lookahead() + 1).next_multiple_of(LANES);
        let per_layer = (2 * window + encoder.conv_kernel - 1) * encoder.hidden;
        let stages = encoder.mels + encoder.stages() * encoder.mels * encoder.subsampling_channels / 2;
        let decoder = (2 * config.decoder_layers + 1) * config.decoder_hidden;
        (encoder.layers * per_layer + stages + decoder) * kind.elt_size_in_bytes()
    }

    /// Clears a slot's encoder states; the decoder's start with [`DecoderState::reset`].
    pub(crate) fn clear(&self, slot: usize) -> Result<(), TchError> {
        let encoder = [&self.stages, &self.keys, &self.values, &self.convolutions];
        for state in encoder.into_iter().flatten() {
            let _ = state.f_select(0, slot as i64)?.f_zero_()?;
        }
        Ok(())
    }
}

/// States of all slots. On the CPU they are not touched before their slot is opened and cleared, so that memory is
/// only taken for slots in use.
fn allocate(shape: &[i64], place: Placement) -> Result<Tensor, TchError> {
    if place.fused {
        ffi::empty_huge(shape, Kind::Float)
    } else {
        Tensor::f_zeros(shape, (place.kind, place.device))
    }
}
