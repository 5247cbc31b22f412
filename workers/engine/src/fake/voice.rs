//! The fake engine's voice: words in, audio out that the fake engine reads back as those words.
//!
//! Journey: tests only. One letter is 40 ms of a tone and 40 ms of silence. Must not know: slots, chunks.

use std::f64::consts::TAU;

use super::hear::{ALPHABET, tone_hz};
use crate::SAMPLE_RATE_HZ;

/// Samples of the tone of one letter, and of the silence after it: 40 ms each.
const HALF_LETTER_SAMPLES: usize = 640;
/// Loud enough to stay above the threshold when divided by six.
const AMPLITUDE: f64 = 12_000.0;

/// Audio that says the words, with silence before, between and after them: 200 ms, 240 ms and 300 ms.
/// Letters other than `a` to `z` and `'` are left out; capitals are said as small letters.
pub fn speak(words: &[&str]) -> Vec<i16> {
    let mut audio = silence(200);
    for (i, w) in words.iter().enumerate() {
        if i > 0 {
            audio.extend(silence(200));
        }
        audio.extend(word(w));
    }
    audio.extend(silence(260));
    audio
}

/// Audio of one word: 80 ms a letter, of which the second half is silence.
pub fn word(word: &str) -> Vec<i16> {
    let letters = word.chars().filter_map(|c| {
        let c = c.to_ascii_lowercase();
        ALPHABET.iter().position(|&a| a == c)
    });
    let mut audio = Vec::new();
    for letter in letters {
        let step = TAU * tone_hz(letter) / f64::from(SAMPLE_RATE_HZ);
        audio.extend((0..HALF_LETTER_SAMPLES).map(|n| (AMPLITUDE * (step * n as f64).sin()) as i16));
        audio.extend(std::iter::repeat_n(0, HALF_LETTER_SAMPLES));
    }
    audio
}

/// So many milliseconds of silence.
pub fn silence(ms: u32) -> Vec<i16> {
    vec![0; (ms * (SAMPLE_RATE_HZ / 1_000)) as usize]
}
