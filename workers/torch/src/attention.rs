//! Self-attention with relative positions over a window of cached frames (Transformer-XL style).
//!
//! A frame sees its own chunk and the chunks of the left context. `[rows · frames, hidden]` of normalised input in,
//! the same with the attention added to `residual` out; keys and values of the slots are the state.
//!
//! Score of query `i` and key `j` at distance `d = i − j`: `((q_i + u)·k_j + (q_i + v)·R_d) / √head_dim`, where
//! `R = relative_k_proj(sinusoids)` depends on the model alone and is kept per shape ([`RelativePositions`]).
//! Source: `NemotronAsrStreamingEncoderAttention` of transformers 5.23.0.

use tch::{Kind, TchError, Tensor};

use crate::batch::Batch;
use crate::config::EncoderConfig;
use crate::ffi;
use crate::linear::{Linear, Placement};
use crate::load::Weights;
use crate::relative_positions::RelativePositions;

/// One layer's attention.
#[derive(Debug)]
pub(crate) struct Attention {
    heads: i64,
    head_dim: i64,
    /// Query, key and value projections as one.
    input: Linear,
    output: Linear,
    bias_content: Tensor,
    bias_position: Tensor,
    positions: RelativePositions,
    fused: bool,
}

/// Keys and values of all slots for one layer, and what a step may see of them.
#[derive(Debug)]
pub(crate) struct AttentionState<'a> {
    pub(crate) batch: &'a Batch,
    /// For the plain operations, from [`attention_mask`].
    pub(crate) mask: Option<&'a Tensor>,
    pub(crate) keys: &'a mut Tensor,
    pub(crate) values: &'a mut Tensor,
}

impl Attention {
    pub(crate) fn load(
        config: &EncoderConfig,
        place: Placement,
        weights: &mut Weights,
        layer: usize,
    ) -> Result<Self, TchError> {
        let (hidden, heads, head_dim) = (config.hidden as i64, config.heads as i64, config.head_dim() as i64);
        let mut take = |name: &str, shape: &[i64]| {
            weights.take(&format!("encoder.layers.{layer}.self_attn.{name}"), shape)
        };
        let mut projection = |name: &str| {
            let weight = take(&format!("{name}.weight"), &[hidden, hidden]);
            let bias = config.attention_bias.then(|| take(&format!("{name}.bias"), &[hidden]));
            (weight, bias)
        };
        let [query, key, value, output] = ["q_proj", "k_proj", "v_proj", "o_proj"].map(&mut projection);
        let weight = Tensor::f_cat(&[&query.0, &key.0, &value.0], 0)?;
        let bias = match (&query.1, &key.1, &value.1) {
            (Some(query), Some(key), Some(value)) => Some(Tensor::f_cat(&[query, key, value], 0)?),
            _ => None,
        };
        let put = |tensor: &Tensor| if place.fused { place.put_fp32(tensor) } else { place.put(tensor) };
        Ok(Self {
            heads,
            head_dim,
            input: Linear::new(place, &weight, bias.as_ref())?,
            output: Linear::new(place, &output.0, output.1.as_ref())?,
            bias_content: put(&take("bias_u", &[heads, head_dim]))?,
            bias_position: put(&take("bias_v", &[heads, head_dim]))?,
            fused: place.fused,
            positions: RelativePositions::new(
                config,
                place,
                &take("relative_k_proj.weight", &[hidden, hidden]),
            )?,
        })
    }

    /// `residual + attention(input)`, advancing the state of the batch's slots.
    pub(crate) fn forward(
        &mut self,
        input: &Tensor,
        residual: &Tensor,
        mut state: AttentionState<'_>,
    ) -> Result<Tensor, TchError> {
        let projected = self.input.forward(input)?;
        let attended = if self.fused {
            self.attend_fused(&projected, &state)?
        } else {
            self.attend(&projected, &mut state)?
        };
        self.output.forward_residual(&attended, residual)
    }

    /// The attention itself, by the CPU kernel: the states are rings that it reads and writes in place.
    fn attend_fused(&mut self, projected: &Tensor, state: &AttentionState<'_>) -> Result<Tensor, TchError> {
        let batch = state.batch;
        let chunk = batch.lookahead + 1;
        let tensors = ffi::AttentionTensors {
            keys: state.keys,
            values: state.values,
            content: &self.bias_content,
            position: &self.bias_position,
            relative: self.positions.get(chunk as i64, batch.context as i64)?,
        };
        ffi::attention(projected, &tensors, &batch.kernel_rows, (batch.frames, chunk, batch.context))
    }

    /// The attention itself, in plain tensor operations: `[rows · frames, 3 · hidden]` → `[rows · frames, hidden]`.
    fn attend(&mut self, projected: &Tensor, state: &mut AttentionState<'_>) -> Result<Tensor, TchError> {
        let batch = state.batch;
        let (rows, frames, context) = (batch.rows.len() as i64, batch.frames as i64, batch.context as i64);
        let (heads, dim) = (self.heads, self.head_dim);
        let parts = projected.f_view([rows, frames, 3, heads * dim])?;
        let keys = extend(&parts.f_select(2, 1)?, batch, state.keys)?;
        let values = extend(&parts.f_select(2, 2)?, batch, state.values)?;
        let split = |tensor: &Tensor| tensor.f_view([rows, -1, heads, dim])?.f_transpose(1, 2);
        let query = parts.f_select(2, 0)?.f_reshape([rows, frames, heads, dim])?;
        let about_content = query.f_add(&self.bias_content)?.f_transpose(1, 2)?;
        let about_position = query.f_add(&self.bias_position)?.f_transpose(1, 2)?;

        // [heads, dim, context + 2·frames − 1]: distances from `context + frames − 1` down to `1 − frames`.
        let relative = self.positions.get(frames, context)?;
        let width = relative.size()[2];
        let scores = about_position.f_matmul(relative)?.f_contiguous()?;
        let shape = [rows, heads, frames, context + frames];
        let stride = [heads * frames * width, frames * width, width - 1, 1];
        let shifted = scores.f_as_strided(shape, stride, Some(frames - 1))?;

        let scale = 1.0 / (dim as f64).sqrt();
        let mut scores = about_content
            .f_matmul(&split(&keys)?.f_transpose(2, 3)?)?
            .f_add(&shifted)?
            .f_mul_scalar(scale)?;
        if let Some(mask) = state.mask {
            scores = scores.f_add(mask)?;
        }
        let shares = scores.f_softmax(-1, Kind::Float)?.f_to_kind(values.f_kind()?)?;
        let attended = shares.f_matmul(&split(&values)?)?;
        attended.f_transpose(1, 2)?.f_reshape([rows * frames, heads * dim])
    }
}

/// Puts the cached frames before the new ones and keeps the last ones as the slots' new state.
fn extend(new: &Tensor, batch: &Batch, state: &mut Tensor) -> Result<Tensor, TchError> {
    let (context, kept) = (batch.context as i64, state.size()[1]);
    let cached = state.f_index_select(0, &batch.index)?;
    let whole = Tensor::f_cat(&[&cached, new], 1)?;
    let length = whole.size()[1];
    let _ = state.f_index_copy_(0, &batch.index, &whole.f_narrow(1, length - kept, kept)?)?;
    whole.f_narrow(1, kept - context, length - kept + context)?.f_contiguous()
}

/// What each query may not see, to be added to scores: `[rows, 1, frames, context + frames]`, or nothing when
/// every key of every row is there and the step is one chunk.
pub(crate) fn attention_mask(batch: &Batch, place: Placement) -> Result<Option<Tensor>, TchError> {
    let chunk = batch.lookahead + 1;
    let whole = |row| batch.cached(row) == batch.context && batch.valid(row) == batch.frames;
    if batch.frames == chunk && batch.rows.iter().all(whole) {
        return Ok(None);
    }
    let width = batch.context + batch.frames;
    let mut hidden = vec![-1e30f32; batch.rows.len() * batch.frames * width];
    for (row, block) in batch.rows.iter().zip(hidden.chunks_exact_mut(batch.frames * width)) {
        let (first, last) = (batch.context - batch.cached(row), batch.context + batch.valid(row));
        for (query, line) in block.chunks_exact_mut(width).enumerate() {
            let own = query / chunk * chunk;
            let seen = own.max(first)..(own + batch.context + chunk).min(last);
            if let Some(seen) = line.get_mut(seen) {
                seen.fill(0.0);
            }
        }
    }
    let shape = [batch.rows.len() as i64, 1, batch.frames as i64, width as i64];
    Ok(Some(place.put(&Tensor::f_from_slice(&hidden)?.f_view(shape)?)?))
}
