//! End-pointing: where an utterance ends, and where its audio is cut so that the slot can start anew. Pure.
//!
//! Journey: `engine → [endpoint] → words → reply`. In: the tokens and frames of a slot since it was opened.
//! Out: a [`Cut`] or none. It costs nothing, since the model's own blanks say where silence is. What it decides
//! depends on the audio since the slot was opened and on nothing else, so a session resumed from a commit is cut
//! where the undisturbed one is. Must not know: positions in the session, clocks, queues.

use workers_engine::Token;

use crate::event::CutReason;

/// When an utterance is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Silence after speech that ends an utterance, in milliseconds; 0 turns it off.
    pub endpointing_ms: u32,
    /// Longest utterance in milliseconds; then it is cut at the longest pause in its later part.
    pub max_utterance_ms: u32,
    /// Silence without any speech that is committed, in milliseconds, so that nobody keeps its audio.
    pub silence_ms: u32,
    /// Silent audio before the cut's end that the next utterance hears again, in milliseconds: a word that has
    /// begun but is not yet written must not lose its beginning.
    pub overlap_ms: u32,
}

impl Default for Rules {
    fn default() -> Self {
        Self { endpointing_ms: 600, max_utterance_ms: 30_000, silence_ms: 5_000, overlap_ms: 320 }
    }
}

/// Silence after which speech has stopped, for a stream without end-pointing.
const SPEECH_STOP_MS: u32 = 600;

/// Where an utterance ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// Why.
    pub reason: CutReason,
    /// Tokens before the cut; later ones are heard again.
    pub tokens: usize,
    /// Audio before this frame is covered.
    pub frame: u32,
}

/// What a slot has decoded since it was opened.
#[derive(Debug, Clone, Copy)]
pub struct Decoded<'a> {
    /// Its tokens.
    pub tokens: &'a [Token],
    /// Its frames.
    pub frames: u32,
    /// Duration of a frame in milliseconds.
    pub frame_ms: u32,
}

impl Decoded<'_> {
    /// Milliseconds of blanks at the end.
    pub fn blank_ms(&self) -> u32 {
        self.blank_frames() * self.frame_ms
    }

    fn blank_frames(&self) -> u32 {
        self.frames - self.tokens.last().map_or(0, |t| (t.frame + 1).min(self.frames))
    }

    fn total_ms(&self) -> u32 {
        self.frames * self.frame_ms
    }
}

impl Rules {
    /// Whether, and where, the utterance ends now. `begins_word` tells whether a token begins a word.
    pub fn cut(&self, decoded: Decoded<'_>, begins_word: impl Fn(&Token) -> bool) -> Option<Cut> {
        let overlap = (self.overlap_ms / decoded.frame_ms).min(decoded.blank_frames() / 2);
        let here = |reason| Cut { reason, tokens: decoded.tokens.len(), frame: decoded.frames - overlap };
        let blank_ms = decoded.blank_ms();
        if decoded.tokens.is_empty() {
            return (blank_ms >= self.silence_ms).then(|| here(CutReason::Silence));
        }
        if self.endpointing_ms > 0 && blank_ms >= self.endpointing_ms {
            return Some(here(CutReason::Endpoint));
        }
        if decoded.total_ms() < self.max_utterance_ms {
            return None;
        }
        let inside = longest_pause(decoded, begins_word);
        Some(inside.unwrap_or_else(|| here(CutReason::MaxUtterance)))
    }

    /// Whether speech has stopped.
    pub fn speech_stopped(&self, decoded: Decoded<'_>) -> bool {
        let silence = if self.endpointing_ms == 0 { SPEECH_STOP_MS } else { self.endpointing_ms };
        decoded.blank_ms() >= silence
    }
}

/// The longest pause before a word in the later two thirds of the utterance, unless that at the end is longer.
fn longest_pause(decoded: Decoded<'_>, begins_word: impl Fn(&Token) -> bool) -> Option<Cut> {
    let recent = decoded.frames / 3;
    let (tokens, from, to) = decoded
        .tokens
        .windows(2)
        .enumerate()
        .filter(|(_, pair)| begins_word(&pair[1]))
        .map(|(i, pair)| (i + 1, pair[0].frame + 1, pair[1].frame))
        .filter(|(_, from, to)| *from >= recent && *to > from + decoded.blank_frames())
        .max_by_key(|(_, from, to)| to - from)?;
    // A word is heard before it is written: the first half of the pause is the safe one.
    let frame = from + (to - from) / 2;
    Some(Cut { reason: CutReason::MaxUtterance, tokens, frame })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(frames: &[u32]) -> Vec<Token> {
        frames.iter().map(|&frame| Token { id: 0, frame, log_prob: 0.0 }).collect()
    }

    fn cut(rules: Rules, at: &[u32], frames: u32) -> Option<(CutReason, usize, u32)> {
        let tokens = tokens(at);
        let decoded = Decoded { tokens: &tokens, frames, frame_ms: 40 };
        rules.cut(decoded, |_| true).map(|c| (c.reason, c.tokens, c.frame))
    }

    #[test]
    fn a_pause_ends_an_utterance_and_keeps_half_of_it_or_the_overlap() {
        let rules = Rules::default();
        assert_eq!(cut(rules, &[3, 9], 24), None);
        assert_eq!(cut(rules, &[3, 9], 25), Some((CutReason::Endpoint, 2, 18)));
        assert_eq!(cut(rules, &[3, 9], 40), Some((CutReason::Endpoint, 2, 32)));
    }

    #[test]
    fn end_pointing_can_be_off() {
        let rules = Rules { endpointing_ms: 0, ..Rules::default() };
        assert_eq!(cut(rules, &[3, 9], 200), None);
        assert_eq!(cut(rules, &[3, 9], 750), Some((CutReason::MaxUtterance, 2, 742)));
    }

    #[test]
    fn silence_is_committed_in_time() {
        assert_eq!(cut(Rules::default(), &[], 124), None);
        assert_eq!(cut(Rules::default(), &[], 125), Some((CutReason::Silence, 0, 117)));
    }

    #[test]
    fn a_long_utterance_is_cut_at_its_longest_later_pause() {
        let mut at: Vec<u32> = (0..749).collect();
        at.retain(|f| !(20..34).contains(f) && !(400..408).contains(f) && !(600..604).contains(f));
        let before = at.iter().filter(|&&f| f < 400).count();
        assert_eq!(cut(Rules::default(), &at, 750), Some((CutReason::MaxUtterance, before, 404)));
        assert_eq!(cut(Rules::default(), &at[..at.len() - 5], 745), None);
    }

    #[test]
    fn one_word_without_a_pause_is_cut_at_its_end() {
        let at: Vec<u32> = (0..750).collect();
        let tokens = tokens(&at);
        let decoded = Decoded { tokens: &tokens, frames: 750, frame_ms: 40 };
        let cut = Rules::default().cut(decoded, |_| false).unwrap();
        assert_eq!((cut.tokens, cut.frame), (750, 750));
    }
}
