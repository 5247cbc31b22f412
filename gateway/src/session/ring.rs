//! The audio of a session since its last commit. Pure.
//!
//! Positions are samples (16 kHz) from the session's start. What is committed is forgotten; what is not can be
//! read again from any position, for the worker that takes over. Its size is bounded by whoever pushes.

use std::collections::VecDeque;

use bytes::Bytes;

/// Bytes of one sample.
const SAMPLE: u64 = 2;
/// Memory that stays when the ring becomes empty, bytes: one second.
const KEEP: usize = 32_000;

/// Audio from [`Ring::start`] to [`Ring::end`].
#[derive(Debug, Default)]
pub struct Ring {
    start: u64,
    bytes: VecDeque<u8>,
}

impl Ring {
    /// Empty, at a position.
    pub fn at(start: u64) -> Self {
        Self { start, bytes: VecDeque::new() }
    }

    /// First position held.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Position after the last one held.
    pub fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64 / SAMPLE
    }

    /// Appends whole samples, 16-bit little-endian.
    pub fn push(&mut self, pcm: &[u8]) {
        debug_assert_eq!(pcm.len() % 2, 0, "whole samples only");
        self.bytes.extend(pcm);
    }

    /// Forgets everything before a position; positions not yet reached count as the end.
    pub fn commit(&mut self, position: u64) {
        let position = position.clamp(self.start, self.end());
        self.bytes.drain(..((position - self.start) * SAMPLE) as usize);
        self.start = position;
        if self.bytes.capacity() > KEEP.max(self.bytes.len() * 4) {
            self.bytes.shrink_to(KEEP.max(self.bytes.len() * 2));
        }
    }

    /// A copy of the samples of a range that is held.
    pub fn read(&self, range: std::ops::Range<u64>) -> Bytes {
        let index = |position: u64| ((position.clamp(self.start, self.end()) - self.start) * SAMPLE) as usize;
        let (from, to) = (index(range.start), index(range.end));
        let (head, tail) = self.bytes.as_slices();
        let mut out = Vec::with_capacity(to.saturating_sub(from));
        if from < head.len() {
            out.extend_from_slice(&head[from..to.min(head.len())]);
        }
        if to > head.len() {
            out.extend_from_slice(&tail[from.saturating_sub(head.len())..to - head.len()]);
        }
        Bytes::from(out)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Push(usize),
        Commit(u64),
        Read(u64, u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (0usize..3_000).prop_map(Step::Push),
            (0u64..60_000).prop_map(Step::Commit),
            (0u64..60_000, 0u64..5_000).prop_map(|(from, n)| Step::Read(from, n)),
        ];
        prop::collection::vec(step, 0..60)
    }

    proptest! {
        /// Against a model that never forgets: any order of push, commit and replay gives the right audio.
        #[test]
        fn every_sequence_gives_the_right_audio(steps in steps(), start in 0u64..1_000) {
            let mut ring = Ring::at(start);
            let (mut all, mut committed): (Vec<i16>, u64) = (Vec::new(), start);
            let mut next = 0i16;
            for step in steps {
                match step {
                    Step::Push(n) => {
                        let piece: Vec<i16> = (0..n).map(|_| { next = next.wrapping_add(7); next }).collect();
                        ring.push(&piece.iter().flat_map(|s| s.to_le_bytes()).collect::<Vec<_>>());
                        all.extend(piece);
                    }
                    Step::Commit(position) => {
                        ring.commit(position);
                        committed = position.clamp(committed, start + all.len() as u64);
                    }
                    Step::Read(from, n) => {
                        let got = ring.read(from..from + n);
                        let lo = from.clamp(committed, start + all.len() as u64) - start;
                        let hi = (from + n).clamp(committed, start + all.len() as u64) - start;
                        let wanted: Vec<u8> =
                            all[lo as usize..hi as usize].iter().flat_map(|s| s.to_le_bytes()).collect();
                        prop_assert_eq!(&got[..], &wanted[..]);
                    }
                }
                prop_assert_eq!(ring.start(), committed);
                prop_assert_eq!(ring.end(), start + all.len() as u64);
            }
        }
    }
}
