//! Words with times as subtitles: `SubRip` (srt) and `WebVTT`. Pure.

use std::fmt::Write as _;

use queue::job::Word;

/// Longest line of a cue, characters: two lines of the usual 42.
const MAX_CHARS: usize = 84;
/// Longest cue, milliseconds.
const MAX_CUE_MS: u64 = 6_000;
/// A pause that ends a cue, milliseconds.
const PAUSE_MS: u64 = 800;

/// One cue.
#[derive(Debug, PartialEq)]
struct Cue {
    start_ms: u64,
    end_ms: u64,
    text: String,
}

/// As `SubRip`.
pub fn srt(words: &[Word]) -> String {
    let mut out = String::new();
    for (i, cue) in cues(words).iter().enumerate() {
        let (start, end) = (clock(cue.start_ms, ','), clock(cue.end_ms, ','));
        writeln!(out, "{}\n{start} --> {end}\n{}\n", i + 1, cue.text).expect("writing to a string succeeds");
    }
    out
}

/// As `WebVTT`.
pub fn vtt(words: &[Word]) -> String {
    let mut out = String::from("WEBVTT\n\n");
    for cue in cues(words) {
        let (start, end) = (clock(cue.start_ms, '.'), clock(cue.end_ms, '.'));
        writeln!(out, "{start} --> {end}\n{}\n", cue.text).expect("writing to a string succeeds");
    }
    out
}

fn cues(words: &[Word]) -> Vec<Cue> {
    let mut cues: Vec<Cue> = Vec::new();
    for word in words {
        match cues.last_mut() {
            Some(cue)
                if word.start_ms < cue.end_ms + PAUSE_MS
                    && word.end_ms <= cue.start_ms + MAX_CUE_MS
                    && cue.text.chars().count() + 1 + word.word.chars().count() <= MAX_CHARS =>
            {
                cue.text.push(' ');
                cue.text.push_str(&word.word);
                cue.end_ms = word.end_ms;
            }
            _ => cues.push(Cue { start_ms: word.start_ms, end_ms: word.end_ms, text: word.word.clone() }),
        }
    }
    cues
}

fn clock(ms: u64, mark: char) -> String {
    let (s, ms) = (ms / 1_000, ms % 1_000);
    format!("{:02}:{:02}:{:02}{mark}{ms:03}", s / 3_600, s / 60 % 60, s % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_cues_that_end_at_pauses() {
        let word = |w: &str, start_ms, end_ms| Word { word: w.to_owned(), start_ms, end_ms, confidence: 1.0 };
        let words = [word("hello", 0, 400), word("world", 500, 900), word("again", 3_661_001, 3_661_500)];
        assert_eq!(
            srt(&words),
            "1\n00:00:00,000 --> 00:00:00,900\nhello world\n\n2\n01:01:01,001 --> 01:01:01,500\nagain\n\n"
        );
        assert_eq!(vtt(&words[..1]), "WEBVTT\n\n00:00:00.000 --> 00:00:00.400\nhello\n\n");
        assert_eq!((srt(&[]), vtt(&[])), (String::new(), "WEBVTT\n\n".to_owned()));
    }

    #[test]
    fn cues_are_short_enough_to_read() {
        let words: Vec<Word> = (0..200)
            .map(|i| Word {
                word: "speech".to_owned(),
                start_ms: i * 300,
                end_ms: i * 300 + 250,
                confidence: 1.0,
            })
            .collect();
        for cue in cues(&words) {
            assert!(cue.text.len() <= MAX_CHARS && cue.end_ms - cue.start_ms <= MAX_CUE_MS, "{cue:?}");
        }
    }
}
