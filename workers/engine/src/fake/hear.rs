//! The fake engine's ear: samples of one slot in, letters out. Pure.
//!
//! Works on blocks of 10 ms: a run of 3 to 8 loud blocks between silent ones is a letter when most of its energy
//! lies in one of the alphabet's tones (Goertzel's algorithm). So the result does not depend on how the
//! samples were split, and noise or real speech gives (nearly) nothing.

use std::f64::consts::TAU;
use std::sync::Arc;

use crate::{SAMPLE_RATE_HZ, Token};

/// Letters in the order of their pitch.
pub(super) const ALPHABET: [char; 27] = [
    'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l', 'm', 'n', 'o', 'p', 'q', 'r', 's', 't', 'u',
    'v', 'w', 'x', 'y', 'z', '\'',
];
/// A letter is emitted when its tone has ended, 40 ms after it began.
pub(super) const DELAY_MS: u32 = 40;

/// Samples of one block: 10 ms, so that the tones, 100 Hz apart, are orthogonal in it.
const BLOCK: usize = 160;
/// Sum of squares above which a block is loud: a level of 800 of 32,768.
const LOUD_ENERGY: f64 = 800.0 * 800.0 * BLOCK as f64;
/// Blocks of a letter at least and at most.
const RUN: std::ops::RangeInclusive<u32> = 3..=8;
/// Part of a letter's energy that lies in its tone.
const PURITY: f64 = 0.6;
/// Silent blocks before a letter that begins a word.
const WORD_GAP: u32 = 10;

/// Pitch of a letter.
pub(super) fn tone_hz(letter: usize) -> f64 {
    400.0 + 100.0 * letter as f64
}

/// Every letter twice: as the beginning of a word, then inside one.
pub(super) fn pieces() -> Arc<[String]> {
    let begins = ALPHABET.iter().map(|c| format!("▁{c}"));
    begins.chain(ALPHABET.iter().map(char::to_string)).collect()
}

/// What one slot has heard so far.
#[derive(Debug, Default)]
pub(super) struct Ear {
    /// Samples of the block under way.
    rest: Vec<i16>,
    /// Blocks finished.
    blocks: u32,
    /// The run of loud blocks under way.
    run: Run,
    /// Block after the last letter, `None` before the first one.
    last_end: Option<u32>,
}

#[derive(Debug, Default)]
struct Run {
    blocks: u32,
    energy: f64,
    tones: [f64; ALPHABET.len()],
}

impl Ear {
    /// Takes samples; letters that ended in them are appended. `frame` of a token is a sample position here,
    /// the caller makes a frame of it.
    pub(super) fn hear(&mut self, samples: &[i16], tokens: &mut Vec<Token>) {
        let mut samples = samples;
        while self.rest.len() + samples.len() >= BLOCK {
            let (head, tail) = samples.split_at(BLOCK - self.rest.len());
            self.rest.extend_from_slice(head);
            samples = tail;
            let block = std::mem::take(&mut self.rest);
            self.block(&block, tokens);
        }
        self.rest.extend_from_slice(samples);
    }

    /// The audio has ended: a letter under way ends with it.
    pub(super) fn finish(&mut self, tokens: &mut Vec<Token>) {
        let mut block = std::mem::take(&mut self.rest);
        block.resize(BLOCK, 0);
        self.block(&block, tokens);
        self.block(&[0; BLOCK], tokens);
    }

    fn block(&mut self, block: &[i16], tokens: &mut Vec<Token>) {
        let energy: f64 = block.iter().map(|&s| f64::from(s).powi(2)).sum();
        if energy > LOUD_ENERGY {
            self.run.add(block, energy);
        } else {
            let run = std::mem::take(&mut self.run);
            if let Some((letter, purity)) = run.letter() {
                let start = self.blocks - run.blocks;
                let begins = self.last_end.is_none_or(|end| start - end >= WORD_GAP);
                let id = letter + if begins { 0 } else { ALPHABET.len() };
                let frame = self.blocks * BLOCK as u32;
                tokens.push(Token { id: id as u32, frame, log_prob: purity.min(1.0).ln() as f32 });
                self.last_end = Some(self.blocks);
            }
        }
        self.blocks += 1;
    }
}

impl Run {
    fn add(&mut self, block: &[i16], energy: f64) {
        self.blocks += 1;
        self.energy += energy;
        // A long run is no letter whatever it holds, so its pitch is not looked for.
        if self.blocks <= *RUN.end() {
            for (letter, sum) in self.tones.iter_mut().enumerate() {
                *sum += goertzel(block, tone_hz(letter)) * 2.0 / BLOCK as f64;
            }
        }
    }

    fn letter(&self) -> Option<(usize, f64)> {
        if !RUN.contains(&self.blocks) {
            return None;
        }
        let (letter, best) = self.tones.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1))?;
        let purity = best / self.energy;
        (purity >= PURITY).then_some((letter, purity))
    }
}

/// Power of one frequency in a block.
fn goertzel(block: &[i16], hz: f64) -> f64 {
    let coefficient = 2.0 * (TAU * hz / f64::from(SAMPLE_RATE_HZ)).cos();
    let (mut s1, mut s2) = (0.0, 0.0);
    for &sample in block {
        let s0 = f64::from(sample) + coefficient * s1 - s2;
        s2 = s1;
        s1 = s0;
    }
    s1 * s1 + s2 * s2 - coefficient * s1 * s2
}
