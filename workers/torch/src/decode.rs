//! Last step of a batch: greedy RNN-T search over the new encoder frames of all slots at once.
//!
//! `[rows, frames, decoder_hidden]` of projected encoder output in, tokens out; the prediction network's state of
//! each slot advances with every token. The search is label-looping: as long as a slot emits nothing its prediction
//! does not change, so a window of frames is joined in one product, the first frame that is not blank gives the next
//! token, and only the slots that emitted run the LSTM. One transfer to the host a round, none a token.
//!
//! Source: `ParakeetRNNTGenerationMixin` and `NemotronAsrStreamingRNNTDecoder` of transformers 5.23.0.

use tch::{Device, Kind, TchError, Tensor};
use workers_engine::Token;

use crate::arena::DecoderState;
use crate::batch::Batch;
use crate::config::{Activation, Config};
use crate::linear::{Linear, Placement, activate_};
use crate::load::Weights;

/// Frames joined at once for each slot: about as many as pass until the next token.
const WINDOW: usize = 4;

/// Prediction network, joint network and search.
#[derive(Debug)]
pub(crate) struct Decoder {
    blank: i64,
    max_symbols: usize,
    hidden: i64,
    activation: Activation,
    device: Device,
    encoder_projection: Linear,
    /// Gates that each token alone gives to the first LSTM layer, its biases included: `[vocab, 4 · hidden]`.
    token_gates: Tensor,
    layers: Vec<LstmLayer>,
    projection: Linear,
    head: Linear,
    /// State before the first token: the network has seen one blank.
    start: DecoderState,
}

/// One LSTM layer; the first takes its input gates from the token table.
#[derive(Debug)]
struct LstmLayer {
    input: Option<Linear>,
    recurrent: Linear,
}

/// Where the search of one row stands.
#[derive(Debug, Clone, Default)]
struct Cursor {
    frame: usize,
    /// Tokens taken from this frame.
    symbols: usize,
    valid: usize,
    tokens: Vec<Token>,
}

impl Cursor {
    /// Takes the argmax tokens of the frames from `frame` on; returns the offset and id of an emitted token.
    fn advance(&mut self, best: &[i64], blank: i64, max_symbols: usize) -> Option<(usize, i64)> {
        let window = best.len().min(self.valid - self.frame);
        let Some(offset) = best[..window].iter().position(|&token| token != blank) else {
            self.frame += window;
            self.symbols = 0;
            return None;
        };
        self.symbols = if offset == 0 { self.symbols + 1 } else { 1 };
        self.frame += offset;
        if self.symbols >= max_symbols {
            self.frame += 1;
            self.symbols = 0;
        }
        Some((offset, best[offset]))
    }
}

impl Decoder {
    pub(crate) fn load(config: &Config, place: Placement, weights: &mut Weights) -> Result<Self, TchError> {
        let (hidden, vocab) = (config.decoder_hidden as i64, config.vocab_size as i64);
        let linear = |weights: &mut Weights, name: &str, out: i64, input: i64| {
            let weight = weights.take(&format!("{name}.weight"), &[out, input]);
            Linear::new(place, &weight, Some(&weights.take(&format!("{name}.bias"), &[out])))
        };
        let embedding = weights.take("decoder.embedding.weight", &[vocab, hidden]).f_to_kind(Kind::Float)?;
        let mut token_gates = None;
        let mut layers = Vec::new();
        for layer in 0..config.decoder_layers {
            let mut take =
                |name: &str, shape: &[i64]| weights.take(&format!("decoder.lstm.{name}_l{layer}"), shape);
            let [input, recurrent] = ["weight_ih", "weight_hh"].map(|name| take(name, &[4 * hidden, hidden]));
            let [first, second] = ["bias_ih", "bias_hh"].map(|name| take(name, &[4 * hidden]));
            let bias = first.f_to_kind(Kind::Float)?.f_add(&second.f_to_kind(Kind::Float)?)?;
            let input = if layer == 0 {
                let gates = embedding.f_linear(&input.f_to_kind(Kind::Float)?, Some(&bias))?;
                token_gates = Some(place.put(&gates)?);
                None
            } else {
                Some(Linear::new(place, &input, Some(&bias))?)
            };
            layers.push(LstmLayer { input, recurrent: Linear::new(place, &recurrent, None)? });
        }
        let mut decoder = Self {
            blank: config.blank as i64,
            max_symbols: config.max_symbols,
            hidden,
            activation: config.joint_activation,
            device: place.device,
            encoder_projection: linear(weights, "encoder_projector", hidden, config.encoder.hidden as i64)?,
            token_gates: token_gates
                .ok_or_else(|| TchError::Torch("the prediction network has no layer".into()))?,
            layers,
            projection: linear(weights, "decoder.decoder_projector", hidden, hidden)?,
            head: linear(weights, "joint.head", vocab, hidden)?,
            start: DecoderState::new(config, place, 1)?,
        };
        let mut start = DecoderState::new(config, place, 1)?;
        decoder.predict(&[0], &[decoder.blank], &mut start)?;
        // A worker warms up with silence, which has no words: what only a token needs is loaded here and not while
        // somebody waits for the first one.
        decoder.log_probs(&decoder.head.forward(&start.prediction)?, &[0], &[decoder.blank])?;
        decoder.start = start;
        Ok(decoder)
    }

    /// State of a slot that has emitted nothing yet.
    pub(crate) fn start(&self) -> &DecoderState {
        &self.start
    }

    /// Searches the valid frames of `[rows · frames, encoder hidden]`; tokens a row, in the order of the batch.
    pub(crate) fn search(
        &self,
        encoded: &Tensor,
        batch: &Batch,
        state: &mut DecoderState,
    ) -> Result<Vec<Vec<Token>>, TchError> {
        let projected = self.encoder_projection.forward(encoded)?;
        let cursor = |row| Cursor { valid: batch.valid(row), ..Cursor::default() };
        let cursors = batch.rows.iter().map(cursor).collect();
        let mut search = Search { decoder: self, projected, batch, state, cursors };
        while search.round()? {}
        Ok(search.cursors.into_iter().map(|cursor| cursor.tokens).collect())
    }

    /// Advances the prediction network of `slots` by one token each.
    fn predict(&self, slots: &[i64], tokens: &[i64], state: &mut DecoderState) -> Result<(), TchError> {
        // Repeating the last one writes its state twice, with the same numbers.
        let (mut slots, mut tokens) = (slots.to_vec(), tokens.to_vec());
        let count = bucket(slots.len());
        pad(&mut slots, count);
        pad(&mut tokens, count);
        let slots = self.index(&slots)?;
        let mut gates = self.token_gates.f_index_select(0, &self.index(&tokens)?)?;
        let mut output = None;
        for (index, layer) in self.layers.iter().enumerate() {
            if let (Some(input), Some(below)) = (&layer.input, &output) {
                gates = input.forward(below)?;
            }
            let hidden = state.hidden[index].f_index_select(0, &slots)?;
            let cell = state.cell[index].f_index_select(0, &slots)?;
            let parts = layer.recurrent.forward_residual(&hidden, &gates)?.f_chunk(4, 1)?;
            let kept = parts[1].f_sigmoid()?.f_mul(&cell)?;
            let cell = parts[0].f_sigmoid()?.f_mul(&parts[2].f_tanh()?)?.f_add(&kept)?;
            let hidden = parts[3].f_sigmoid()?.f_mul(&cell.f_tanh()?)?;
            let _ = state.cell[index].f_index_copy_(0, &slots, &cell)?;
            let _ = state.hidden[index].f_index_copy_(0, &slots, &hidden)?;
            output = Some(hidden);
        }
        if let Some(output) = output {
            let _ = state.prediction.f_index_copy_(0, &slots, &self.projection.forward(&output)?)?;
        }
        Ok(())
    }

    /// Log probabilities of one token in each of the rows `places` of `[rows, vocab]`.
    fn log_probs(&self, logits: &Tensor, places: &[i64], tokens: &[i64]) -> Result<Vec<f32>, TchError> {
        let rows = logits.f_index_select(0, &self.index(places)?)?.f_to_kind(Kind::Float)?;
        let chosen = self.index(tokens)?.f_unsqueeze(1)?;
        let log_probs = rows.f_log_softmax(-1, Kind::Float)?.f_gather(1, &chosen, false)?.f_view([-1])?;
        Vec::try_from(&log_probs.f_to_device(Device::Cpu)?)
    }

    fn index(&self, values: &[i64]) -> Result<Tensor, TchError> {
        Tensor::f_from_slice(values)?.f_to_device(self.device)
    }
}

/// Rows to compute for `rows` wanted: few sizes, so that the kernels made for them are found again.
fn bucket(rows: usize) -> usize {
    let step = match rows {
        0..=4 => 1,
        5..=32 => 4,
        33..=128 => 16,
        _ => 64,
    };
    rows.next_multiple_of(step)
}

/// Repeats the last index up to `count` of them.
fn pad(indices: &mut Vec<i64>, count: usize) {
    if let Some(&last) = indices.last() {
        indices.resize(count, last);
    }
}

/// A running search over one step.
struct Search<'a> {
    decoder: &'a Decoder,
    /// `[rows · frames, decoder_hidden]`
    projected: Tensor,
    batch: &'a Batch,
    state: &'a mut DecoderState,
    cursors: Vec<Cursor>,
}

/// Tokens that one round emitted.
#[derive(Default)]
struct Emitted {
    /// Rows of the round's logits.
    places: Vec<i64>,
    slots: Vec<i64>,
    tokens: Vec<i64>,
    /// Row of the batch and encoder frame since the slot was opened.
    owners: Vec<(usize, usize)>,
}

impl Search<'_> {
    /// One round: every row that has frames left passes blanks or emits one token. False when none has.
    fn round(&mut self) -> Result<bool, TchError> {
        let left = |cursor: &Cursor| cursor.valid - cursor.frame;
        let active: Vec<usize> =
            (0..self.cursors.len()).filter(|&row| left(&self.cursors[row]) > 0).collect();
        let Some(longest) = active.iter().map(|&row| left(&self.cursors[row])).max() else {
            return Ok(false);
        };
        let window = longest.min(WINDOW);
        let logits = self.join(&active, window)?;
        let best = Vec::<i64>::try_from(&logits.f_argmax(-1, false)?.f_to_device(Device::Cpu)?)?;
        let mut emitted = Emitted::default();
        for (index, &row) in active.iter().enumerate() {
            let (cursor, place) = (&mut self.cursors[row], &self.batch.rows[row]);
            let before = cursor.frame;
            let seen = &best[index * window..(index + 1) * window];
            if let Some((offset, token)) = cursor.advance(seen, self.decoder.blank, self.decoder.max_symbols)
            {
                emitted.places.push((index * window + offset) as i64);
                emitted.slots.push(place.slot as i64);
                emitted.tokens.push(token);
                emitted.owners.push((row, place.start as usize + before + offset));
            }
        }
        if !emitted.tokens.is_empty() {
            self.keep(&logits, emitted)?;
        }
        Ok(true)
    }

    /// Joins the next `window` frames of the active rows with their predictions: `[active · window, vocab]`, and
    /// some rows more that nobody reads.
    fn join(&self, active: &[usize], window: usize) -> Result<Tensor, TchError> {
        let mut frames = Vec::with_capacity(active.len() * window);
        for &row in active {
            let cursor = &self.cursors[row];
            let frame =
                |offset: usize| row * self.batch.frames + (cursor.frame + offset).min(cursor.valid - 1);
            frames.extend((0..window).map(|offset| frame(offset) as i64));
        }
        let mut slots: Vec<i64> = active.iter().map(|&row| self.batch.rows[row].slot as i64).collect();
        let count = bucket(active.len());
        pad(&mut slots, count);
        pad(&mut frames, count * window);
        let decoder = self.decoder;
        let shape = [count as i64, window as i64, decoder.hidden];
        let encoded = self.projected.f_index_select(0, &decoder.index(&frames)?)?.f_view(shape)?;
        let prediction = self.state.prediction.f_index_select(0, &decoder.index(&slots)?)?.f_unsqueeze(1)?;
        let joined = activate_(encoded.f_add(&prediction)?, decoder.activation)?;
        decoder.head.forward(&joined.f_view([-1, decoder.hidden])?)
    }

    /// Notes the emitted tokens with their probabilities and advances the prediction network by them.
    fn keep(&mut self, logits: &Tensor, emitted: Emitted) -> Result<(), TchError> {
        let log_probs = self.decoder.log_probs(logits, &emitted.places, &emitted.tokens)?;
        for (((row, frame), &id), log_prob) in emitted.owners.into_iter().zip(&emitted.tokens).zip(log_probs)
        {
            self.cursors[row].tokens.push(Token { id: id as u32, frame: frame as u32, log_prob });
        }
        self.decoder.predict(&emitted.slots, &emitted.tokens, self.state)
    }
}

#[cfg(test)]
impl Decoder {
    /// Logits `[steps, vocab]` along a given path of `(frame, token)` from the start, blanks included.
    pub(crate) fn path_logits(
        &self,
        encoded: &Tensor,
        path: &[(i64, i64)],
        slot: i64,
        state: &mut DecoderState,
    ) -> Result<Tensor, TchError> {
        let projected = self.encoder_projection.forward(encoded)?;
        state.reset(slot as usize, &self.start)?;
        let mut logits = Vec::new();
        for &(frame, token) in path {
            let joined = projected.f_narrow(0, frame, 1)?.f_add(&state.prediction.f_narrow(0, slot, 1)?)?;
            logits.push(self.head.forward(&activate_(joined, self.activation)?)?);
            if token != self.blank {
                self.predict(&[slot], &[token], state)?;
            }
        }
        Tensor::f_cat(&logits, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds windows of argmax tokens (0 is blank) and lists `(frame, token)` of what is emitted.
    fn check(best: &[i64], max_symbols: usize, expect: &[(usize, i64)]) {
        let mut cursor = Cursor { valid: 3, ..Cursor::default() };
        let mut emitted = Vec::new();
        let mut rounds = best.iter();
        while cursor.frame < cursor.valid {
            let before = cursor.frame;
            let Some(&first) = rounds.next() else { break };
            if let Some((offset, token)) = cursor.advance(&[first, 0, 0, 0], 0, max_symbols) {
                emitted.push((before + offset, token));
            }
        }
        assert_eq!(emitted, expect);
    }

    #[test]
    fn a_token_stays_at_its_frame_until_a_blank() {
        check(&[7, 8, 0], 10, &[(0, 7), (0, 8)]);
    }

    #[test]
    fn buckets_are_few_and_near() {
        let sizes: std::collections::BTreeSet<usize> = (1..=256).map(bucket).collect();
        assert!(sizes.len() <= 20, "{sizes:?}");
        assert!((1..=256).all(|rows| bucket(rows) >= rows && bucket(rows) * 5 <= rows * 8), "{sizes:?}");
    }

    #[test]
    fn too_many_tokens_force_the_next_frame() {
        check(&[5, 5, 5, 5, 5, 5, 5, 5], 2, &[(0, 5), (0, 5), (1, 5), (1, 5), (2, 5), (2, 5)]);
    }
}
