//! What every engine must pass, whatever runs inside: the contract of [`Engine`] as a test suite.
//!
//! In: an engine with at least four slots and some recordings. Out: nothing, or a panic that names the
//! broken promise. For the tests of the crate that has the engine (feature `conformance`).
//! Must not know: which engine it is.

use crate::{Engine, SlotOptions, SlotOutput, SlotWork, Token};

/// Differences of a log-probability that batching may cause.
const LOG_PROB_TOLERANCE: f32 = 1e-2;

/// Checks all promises with the recordings given.
///
/// # Panics
/// When the engine breaks one.
pub fn check(engine: &mut dyn Engine, recordings: &[Vec<i16>]) {
    assert!(engine.info().max_slots >= 4, "the suite needs four slots");
    assert!(recordings.len() >= 2, "the suite needs two recordings");
    refuses_what_it_cannot_do(engine);
    for lookahead in engine.info().lookaheads.clone() {
        let live = SlotOptions { lookahead, chunks_per_step: 1 };
        let alone: Vec<_> = recordings.iter().map(|audio| transcribe(engine, 0, audio, live)).collect();
        chunks_per_step_do_not_matter(engine, recordings, live, &alone);
        a_batch_equals_its_singles(engine, recordings, live, &alone);
        a_reused_slot_is_new(engine, recordings, live, &alone);
    }
    empty_audio_is_no_text(engine);
}

/// Runs one recording alone through one slot.
///
/// # Panics
/// When the engine fails or tells of another slot.
pub fn transcribe(engine: &mut dyn Engine, slot: usize, audio: &[i16], options: SlotOptions) -> Vec<Token> {
    engine.open(slot, options).expect("a slot within the engine's own bounds opens");
    let mut reader = Reader::new(slot, audio, options);
    let mut tokens = Vec::new();
    while let Some(work) = reader.next(engine) {
        let out = engine.step(&[work]).expect("a well-formed step succeeds");
        assert_eq!(out.len(), 1, "one output for one piece of work");
        assert_eq!(out[0].slot, slot, "the output names its slot");
        check_order(&out[0], tokens.last());
        tokens.extend_from_slice(&out[0].tokens);
    }
    tokens
}

fn check_order(out: &SlotOutput, before: Option<&Token>) {
    let mut last = before.map_or(0, |t| t.frame);
    for token in &out.tokens {
        assert!(token.frame >= last, "frames of tokens never go back: {} after {last}", token.frame);
        assert!(
            token.frame < out.frames,
            "a token lies in a decoded frame: {} of {}",
            token.frame,
            out.frames
        );
        assert!(token.log_prob <= 1e-6, "a log-probability is not positive: {}", token.log_prob);
        last = token.frame;
    }
}

fn refuses_what_it_cannot_do(engine: &mut dyn Engine) {
    let info = engine.info().clone();
    let live = SlotOptions { lookahead: info.default_lookahead, chunks_per_step: 1 };
    assert!(engine.open(info.max_slots, live).is_err(), "a slot beyond the last is refused");
    let odd = SlotOptions { lookahead: 9_999, chunks_per_step: 1 };
    assert!(engine.open(0, odd).is_err(), "a look-ahead it does not have is refused");
    engine.open(0, live).expect("slot 0 opens");
    let short = SlotWork { slot: 0, samples: &[0; 7], end: false };
    assert!(engine.step(&[short]).is_err(), "a chunk of a wrong length is refused");
}

fn empty_audio_is_no_text(engine: &mut dyn Engine) {
    let live = SlotOptions { lookahead: engine.info().default_lookahead, chunks_per_step: 1 };
    for audio in [&[][..], &[0_i16][..], &[0_i16; 100][..]] {
        assert!(transcribe(engine, 1, audio, live).is_empty(), "{} samples are no text", audio.len());
    }
}

fn chunks_per_step_do_not_matter(
    engine: &mut dyn Engine,
    recordings: &[Vec<i16>],
    live: SlotOptions,
    alone: &[Vec<Token>],
) {
    for chunks_per_step in [2, 5] {
        let options = SlotOptions { chunks_per_step, ..live };
        for (audio, want) in recordings.iter().zip(alone) {
            let got = transcribe(engine, 2, audio, options);
            same(&got, want, &format!("{options:?} against one chunk a step"));
        }
    }
}

/// All recordings at once, each entering one step after the other, so that first and later chunks mix.
fn a_batch_equals_its_singles(
    engine: &mut dyn Engine,
    recordings: &[Vec<i16>],
    live: SlotOptions,
    alone: &[Vec<Token>],
) {
    let slots = recordings.len().min(engine.info().max_slots);
    let mut readers = Vec::new();
    let mut tokens = vec![Vec::new(); slots];
    let mut opened = 0;
    loop {
        if opened < slots {
            engine.open(opened, live).expect("a slot opens while others run");
            readers.push(Reader::new(opened, &recordings[opened], live));
            opened += 1;
        }
        let work: Vec<_> = readers.iter_mut().filter_map(|r| r.next(engine)).collect();
        if work.is_empty() {
            break;
        }
        let out = engine.step(&work).expect("a well-formed step succeeds");
        for (w, o) in work.iter().zip(&out) {
            assert_eq!(w.slot, o.slot, "outputs come in the order of the work");
            tokens[o.slot].extend_from_slice(&o.tokens);
        }
    }
    for (slot, (got, want)) in tokens.iter().zip(alone).enumerate() {
        same(got, want, &format!("{live:?}, slot {slot} of {slots} in a batch"));
    }
}

fn a_reused_slot_is_new(
    engine: &mut dyn Engine,
    recordings: &[Vec<i16>],
    live: SlotOptions,
    alone: &[Vec<Token>],
) {
    // Left in the middle of a recording, so that it holds the most that it can hold.
    engine.open(3, live).expect("slot 3 opens");
    let mut reader = Reader::new(3, &recordings[0], live);
    for _ in 0..3 {
        if let Some(work) = reader.next(engine) {
            engine.step(&[work]).expect("a well-formed step succeeds");
        }
    }
    let got = transcribe(engine, 3, &recordings[1], live);
    same(&got, &alone[1], &format!("{live:?} in a slot that was in use"));
}

fn same(got: &[Token], want: &[Token], what: &str) {
    let ids = |tokens: &[Token]| tokens.iter().map(|t| (t.id, t.frame)).collect::<Vec<_>>();
    assert_eq!(ids(got), ids(want), "tokens differ: {what}");
    for (g, w) in got.iter().zip(want) {
        let apart = (g.log_prob - w.log_prob).abs();
        assert!(apart <= LOG_PROB_TOLERANCE, "log-probabilities differ by {apart}: {what}");
    }
}

/// Cuts a recording into the chunks that the engine wants.
struct Reader<'a> {
    slot: usize,
    rest: Option<&'a [i16]>,
    options: SlotOptions,
    first: bool,
}

impl<'a> Reader<'a> {
    fn new(slot: usize, audio: &'a [i16], options: SlotOptions) -> Self {
        Self { slot, rest: Some(audio), options, first: true }
    }

    fn next(&mut self, engine: &dyn Engine) -> Option<SlotWork<'a>> {
        let rest = self.rest?;
        let want = engine.info().step_samples(self.options, self.first);
        self.first = false;
        if rest.len() < want {
            self.rest = None;
            return Some(SlotWork { slot: self.slot, samples: rest, end: true });
        }
        let (samples, rest) = rest.split_at(want);
        self.rest = Some(rest);
        Some(SlotWork { slot: self.slot, samples, end: false })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{FakeConfig, FakeEngine, speak};

    #[test]
    fn the_fake_engine_conforms() {
        let mut engine = FakeEngine::new(FakeConfig::default());
        let recordings = vec![speak(&["one", "two"]), speak(&["three"]), speak(&["a", "b", "c"]), Vec::new()];
        check(&mut engine, &recordings);
    }
}
