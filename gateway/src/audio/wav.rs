//! Reads the chunks of a RIFF/WAVE file without believing them. Pure.
//!
//! Whole file in, place and layout of its samples out. Every size in the file is a claim by a stranger: it is
//! compared with the bytes that are there and never used to allocate.

use std::ops::Range;

use super::raw::{Encoding, RawFormat};
use super::{INPUT_RATES_HZ, MAX_CHANNELS};
use crate::error::Error;

/// What a WAVE file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wav {
    /// Raw samples at a range of the file.
    Raw(RawFormat, Range<usize>),
    /// A codec that needs a decoder (ADPCM and others).
    Coded,
}

/// Data sizes that writers without seek leave in the header; they mean "until the end".
const UNKNOWN_SIZES: [u32; 3] = [0, 0x7FFF_FFFF, 0xFFFF_FFFF];

/// Finds the samples.
pub fn parse(bytes: &[u8]) -> Result<Wav, Error> {
    if bytes.get(..4) != Some(b"RIFF") && bytes.get(..4) != Some(b"RF64") {
        return Err(Error::UnsupportedFormat("only little-endian WAVE files are read".to_owned()));
    }
    let mut format = None;
    let mut at = 12_usize;
    while let Some(header) = bytes.get(at..at + 8) {
        let size = u32_at(header, 4);
        let body = at + 8;
        match &header[..4] {
            b"fmt " => format = Some(parse_format(chunk(bytes, body, size)?)?),
            b"data" => {
                return match format {
                    None => Err(invalid("the data chunk comes before the fmt chunk")),
                    Some(None) => Ok(Wav::Coded),
                    Some(Some(format)) => Ok(Wav::Raw(format, data_range(bytes.len(), body, size)?)),
                };
            }
            _ => {}
        }
        // Chunks start at even positions.
        at = body.saturating_add(size as usize).saturating_add(size as usize & 1);
    }
    Err(Error::TruncatedAudio("the WAVE file ends before its samples".to_owned()))
}

fn chunk(bytes: &[u8], body: usize, size: u32) -> Result<&[u8], Error> {
    bytes
        .get(body..body.saturating_add(size as usize))
        .ok_or_else(|| Error::TruncatedAudio("the WAVE file ends inside its fmt chunk".to_owned()))
}

fn data_range(len: usize, body: usize, size: u32) -> Result<Range<usize>, Error> {
    let there = len - body;
    if UNKNOWN_SIZES.contains(&size) || size as usize == there {
        return Ok(body..len);
    }
    if size as usize > there {
        return Err(Error::TruncatedAudio(format!(
            "its header promises {size} bytes of samples, {there} are there"
        )));
    }
    Ok(body..body + size as usize)
}

/// The fmt chunk; `None` for a codec that is not read here.
fn parse_format(fmt: &[u8]) -> Result<Option<RawFormat>, Error> {
    if fmt.len() < 16 {
        return Err(invalid("the fmt chunk is shorter than 16 bytes"));
    }
    let (mut tag, channels, rate_hz) = (u16_at(fmt, 0), u16_at(fmt, 2), u32_at(fmt, 4));
    let (block, bits) = (u16_at(fmt, 12), u16_at(fmt, 14));
    if tag == 0xFFFE {
        // WAVE_FORMAT_EXTENSIBLE: the real tag is the start of the sub-format's GUID.
        tag =
            if fmt.len() >= 26 { u16_at(fmt, 24) } else { return Err(invalid("the fmt extension is cut")) };
    }
    let encoding = match (tag, bits) {
        (1, 8) => Encoding::Unsigned8,
        (1, 16) => Encoding::Linear16,
        (1, 24) => Encoding::Linear24,
        (1, 32) => Encoding::Integer32,
        (3, 32) => Encoding::Linear32,
        (3, 64) => Encoding::Float64,
        (6, 8) => Encoding::Alaw,
        (7, 8) => Encoding::Mulaw,
        (1 | 3 | 6 | 7, bits) => return Err(invalid(&format!("samples of {bits} bits are not read"))),
        _ => return Ok(None),
    };
    if channels == 0 || channels > MAX_CHANNELS {
        return Err(invalid(&format!("{channels} channels; 1 to {MAX_CHANNELS} are read")));
    }
    if !INPUT_RATES_HZ.contains(&rate_hz) {
        return Err(invalid(&format!("{rate_hz} Hz; {INPUT_RATES_HZ:?} are read")));
    }
    let format = RawFormat { encoding, rate_hz, channels };
    if usize::from(block) != format.frame_bytes() {
        return Err(invalid(&format!(
            "its header says {block} bytes a frame, but {channels} channels of {bits} bits"
        )));
    }
    Ok(Some(format))
}

fn invalid(detail: &str) -> Error {
    Error::InvalidAudio(format!("the WAVE header is wrong: {detail}"))
}

fn u16_at(b: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([b[at], b[at + 1]])
}

fn u32_at(b: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file((tag, channels): (u16, u16), rate: u32, bits: u16, claim: u32, data: &[u8]) -> Vec<u8> {
        let block = channels * bits.div_ceil(8);
        let mut f = b"RIFF\xFF\xFF\xFF\xFFWAVELIST\x03\x00\x00\x00abc\x00fmt \x10\x00\x00\x00".to_vec();
        for field in [tag, channels] {
            f.extend_from_slice(&field.to_le_bytes());
        }
        f.extend_from_slice(&rate.to_le_bytes());
        f.extend_from_slice(&(rate * u32::from(block)).to_le_bytes());
        f.extend_from_slice(&block.to_le_bytes());
        f.extend_from_slice(&bits.to_le_bytes());
        f.extend_from_slice(b"data");
        f.extend_from_slice(&claim.to_le_bytes());
        f.extend_from_slice(data);
        f
    }

    #[test]
    fn samples_are_found_behind_other_chunks() {
        let f = file((1, 2), 44_100, 16, 8, &[1, 2, 3, 4, 5, 6, 7, 8, 99, 99]);
        let format = RawFormat { encoding: Encoding::Linear16, rate_hz: 44_100, channels: 2 };
        assert_eq!(parse(&f).unwrap(), Wav::Raw(format, f.len() - 10..f.len() - 2));
        assert_eq!(parse(&file((17, 1), 8_000, 4, 8, &[0; 8])).unwrap(), Wav::Coded);
    }

    #[test]
    fn a_size_left_open_means_until_the_end() {
        for claim in UNKNOWN_SIZES {
            let f = file((1, 1), 16_000, 16, claim, &[0; 6]);
            assert!(matches!(parse(&f).unwrap(), Wav::Raw(_, r) if r == (f.len() - 6..f.len())), "{claim}");
        }
    }

    #[test]
    fn lies_are_named() {
        let cases = [
            (file((1, 1), 16_000, 16, 7_000, &[0; 6]), "TruncatedAudio"),
            (file((1, 1), 16_000, 16, 8, &[0; 8])[..30].to_vec(), "TruncatedAudio"),
            (b"RIFF\0\0\0\0WAVE".to_vec(), "TruncatedAudio"),
            (b"RIFF\0\0\0\0WAVEdata\x02\0\0\0ab".to_vec(), "InvalidAudio"),
            (file((1, 0), 16_000, 16, 8, &[0; 8]), "InvalidAudio"),
            (file((1, 1), 0, 16, 8, &[0; 8]), "InvalidAudio"),
            (file((1, 1), 400_000_000, 16, 8, &[0; 8]), "InvalidAudio"),
            (file((1, 1), 16_000, 13, 8, &[0; 8]), "InvalidAudio"),
            (b"RIFX\0\0\0\0WAVE".to_vec(), "UnsupportedFormat"),
        ];
        for (bytes, reason) in cases {
            assert_eq!(parse(&bytes).unwrap_err().reason(), reason, "{bytes:?}");
        }
    }

    proptest! {
        /// Whatever the bytes, an answer comes, and a range lies inside the file.
        #[test]
        fn arbitrary_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            for head in [&b""[..], b"RIFF\0\0\0\0WAVE", b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0"] {
                let f = [head, &bytes].concat();
                if let Ok(Wav::Raw(_, range)) = parse(&f) {
                    prop_assert!(range.start <= range.end && range.end <= f.len());
                }
            }
            bytes.truncate(64);
            let f = file((1, 1), 16_000, 16, 64, &bytes);
            for cut in 0..f.len() {
                drop(parse(&f[..cut]));
            }
        }
    }
}
