//! Words: tokens of the engine in, text and words with times and confidences out. Pure.
//!
//! Journey: `engine → [words] → reply`. Must not know: slots, sessions, what is final.

use workers_engine::Token;

/// One word as it was spoken.
#[derive(Debug, Clone, PartialEq)]
pub struct SpokenWord {
    /// The word as written.
    pub word: String,
    /// Start in milliseconds from the start of the session or recording.
    pub start_ms: u64,
    /// End in milliseconds.
    pub end_ms: u64,
    /// Geometric mean of its tokens' probabilities, 0 to 1.
    pub confidence: f32,
}

/// Text with its words.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Spoken {
    /// The words joined by spaces.
    pub text: String,
    /// The words in order.
    pub words: Vec<SpokenWord>,
}

/// How frames become times.
#[derive(Debug, Clone, Copy)]
pub struct TimeBase {
    /// Where frame 0 begins, milliseconds from the start of the session.
    pub start_ms: u64,
    /// Duration of a frame in milliseconds.
    pub frame_ms: u32,
    /// How much later than its sound a token is emitted, in milliseconds.
    pub delay_ms: u32,
}

impl TimeBase {
    /// Milliseconds from the session's start at which a frame begins, the delay taken off.
    pub fn at_ms(self, frame: u32) -> u64 {
        let offset = u64::from(frame) * u64::from(self.frame_ms);
        self.start_ms + offset.saturating_sub(u64::from(self.delay_ms))
    }
}

/// `▁`, which begins a word.
const BEGIN: char = '▁';

/// Whether a token begins a word.
pub fn begins_word(pieces: &[String], token: &Token) -> bool {
    pieces.get(token.id as usize).is_some_and(|p| p.starts_with(BEGIN))
}

/// Makes words of tokens. Pieces in angle brackets (`<unk>`, language tags) are marks, not text.
pub fn spoken(tokens: &[Token], pieces: &[String], times: TimeBase) -> Spoken {
    let mut words = Vec::new();
    let mut open = Open::default();
    for token in tokens {
        let piece = pieces.get(token.id as usize).map_or("", String::as_str);
        if piece.starts_with('<') && piece.ends_with('>') {
            continue;
        }
        let text = piece.strip_prefix(BEGIN);
        if text.is_some() {
            words.extend(std::mem::take(&mut open).close(times));
        }
        open.add(text.unwrap_or(piece), token);
    }
    words.extend(open.close(times));
    keep_order(&mut words);
    let text = words.iter().map(|w| w.word.as_str()).collect::<Vec<_>>().join(" ");
    Spoken { text, words }
}

/// A word under way.
#[derive(Default)]
struct Open {
    word: String,
    /// Frame of its first token.
    begin: Option<u32>,
    /// Frame in which its last letter was written; a mark without letters is no word.
    last: Option<u32>,
    log_prob: f32,
    tokens: u32,
}

impl Open {
    fn add(&mut self, text: &str, token: &Token) {
        // A word begins where its mark does, though that is a `▁` of its own: the model's delay is measured there.
        self.begin.get_or_insert(token.frame);
        if !text.is_empty() {
            self.last = Some(token.frame);
        }
        self.word.push_str(text);
        self.log_prob += token.log_prob;
        self.tokens += 1;
    }

    fn close(self, times: TimeBase) -> Option<SpokenWord> {
        let (begin, last) = (self.begin?, self.last?);
        Some(SpokenWord {
            word: self.word,
            start_ms: times.at_ms(begin),
            end_ms: times.at_ms(last + 1),
            confidence: (self.log_prob / self.tokens as f32).exp().clamp(0.0, 1.0),
        })
    }
}

/// Near the start the delay may have been cut off: no word ends before it begins, or before the last one.
fn keep_order(words: &mut [SpokenWord]) {
    let mut at = 0;
    for word in words {
        word.start_ms = word.start_ms.max(at);
        word.end_ms = word.end_ms.max(word.start_ms);
        at = word.start_ms;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pieces: &[(&str, u32, f32)], want: &[(&str, u64, u64)]) -> Spoken {
        let names: Vec<String> = pieces.iter().map(|p| p.0.to_owned()).collect();
        let tokens: Vec<Token> = pieces
            .iter()
            .enumerate()
            .map(|(id, p)| Token { id: id as u32, frame: p.1, log_prob: p.2.ln() })
            .collect();
        let got = spoken(&tokens, &names, TimeBase { start_ms: 1_000, frame_ms: 40, delay_ms: 80 });
        let times: Vec<_> = got.words.iter().map(|w| (w.word.as_str(), w.start_ms, w.end_ms)).collect();
        assert_eq!(times, want);
        got
    }

    #[test]
    fn pieces_become_words_with_times_less_the_delay() {
        let got = check(
            &[("▁hel", 10, 1.0), ("lo", 12, 1.0), ("▁you", 20, 1.0)],
            &[("hello", 1_320, 1_440), ("you", 1_720, 1_760)],
        );
        assert_eq!(got.text, "hello you");
    }

    #[test]
    fn a_mark_of_its_own_is_where_its_word_begins() {
        check(
            &[("h", 5, 1.0), ("i", 6, 1.0), ("▁", 7, 1.0), ("m", 9, 1.0), ("e", 10, 1.0), ("▁", 12, 1.0)],
            &[("hi", 1_120, 1_200), ("me", 1_200, 1_360)],
        );
    }

    #[test]
    fn confidence_is_the_geometric_mean() {
        let got = check(&[("▁a", 10, 0.9), ("b", 11, 0.4)], &[("ab", 1_320, 1_400)]);
        assert!((got.words[0].confidence - 0.6).abs() < 1e-6);
    }

    #[test]
    fn marks_are_no_text_and_no_time_goes_below_the_start() {
        check(
            &[("<en-US>", 0, 1.0), ("▁a", 0, 1.0), ("▁b", 1, 1.0)],
            &[("a", 1_000, 1_000), ("b", 1_000, 1_000)],
        );
        check(&[], &[]);
    }
}
