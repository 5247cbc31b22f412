//! Randomness of the operator: jitter, names of this process, passwords. Everything else is told what was drawn.

use aws_lc_rs::rand;

/// Letters and digits that nobody mixes up, 32 of them, so that every five bits are one.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// A number from 0 to below 1.
pub(crate) fn fraction() -> f64 {
    let bytes = bytes::<4>();
    f64::from(u32::from_le_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
}

/// Random letters and digits, five bits each.
pub(crate) fn letters<const LENGTH: usize>() -> String {
    bytes::<LENGTH>().iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect()
}

fn bytes<const LENGTH: usize>() -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    rand::fill(&mut bytes).expect("the system's source of randomness does not run dry");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_differ_and_stay_in_range() {
        let words: Vec<String> = (0..100).map(|_| letters::<16>()).collect();
        for (at, word) in words.iter().enumerate() {
            assert_eq!(word.len(), 16);
            assert!(word.bytes().all(|byte| ALPHABET.contains(&byte)), "{word}");
            assert!(!words[..at].contains(word), "{word} came twice");
        }
        assert!((0..1000).map(|_| fraction()).all(|fraction| (0.0..1.0).contains(&fraction)));
    }
}
