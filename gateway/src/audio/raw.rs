//! Samples without a container: linear 16 and 32 bit, and the two tables of G.711. Pure.
//!
//! Bytes come in pieces of any size, samples of one channel go out; a frame cut in two waits for its rest.

use super::{MAX_CHANNELS, in_range};

/// How raw bytes are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// 8-bit unsigned samples (only inside WAV).
    Unsigned8,
    /// 16-bit little-endian signed samples.
    Linear16,
    /// 24-bit little-endian signed samples (only inside WAV).
    Linear24,
    /// 32-bit little-endian signed samples (only inside WAV).
    Integer32,
    /// 32-bit little-endian float samples, -1 to 1.
    Linear32,
    /// 64-bit little-endian float samples, -1 to 1 (only inside WAV).
    Float64,
    /// G.711 µ-law.
    Mulaw,
    /// G.711 A-law.
    Alaw,
}

impl Encoding {
    /// Bytes of one sample.
    pub const fn bytes(self) -> usize {
        match self {
            Self::Unsigned8 | Self::Mulaw | Self::Alaw => 1,
            Self::Linear16 => 2,
            Self::Linear24 => 3,
            Self::Integer32 | Self::Linear32 => 4,
            Self::Float64 => 8,
        }
    }

    /// One sample of exactly [`Self::bytes`] bytes, -1 to 1. What is not a number is silence.
    #[inline]
    fn sample(self, b: &[u8]) -> f32 {
        let value = match self {
            Self::Unsigned8 => (f32::from(b[0]) - 128.0) / 128.0,
            Self::Linear16 => f32::from(i16::from_le_bytes([b[0], b[1]])) / 32_768.0,
            Self::Linear24 => (i32::from_le_bytes([0, b[0], b[1], b[2]]) >> 8) as f32 / 8_388_608.0,
            Self::Integer32 => i32::from_le_bytes([b[0], b[1], b[2], b[3]]) as f32 / 2_147_483_648.0,
            Self::Linear32 => f32::from_le_bytes([b[0], b[1], b[2], b[3]]),
            Self::Float64 => f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]) as f32,
            Self::Mulaw => f32::from(mulaw(b[0])) / 32_768.0,
            Self::Alaw => f32::from(alaw(b[0])) / 32_768.0,
        };
        in_range(value)
    }
}

/// Layout of raw audio.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawFormat {
    /// How one sample is written.
    pub encoding: Encoding,
    /// Frames a second, Hz.
    pub rate_hz: u32,
    /// Interleaved channels, `1..=MAX_CHANNELS`.
    pub channels: u16,
}

impl RawFormat {
    /// Bytes of one frame (a sample of every channel).
    pub fn frame_bytes(&self) -> usize {
        self.encoding.bytes() * usize::from(self.channels.clamp(1, MAX_CHANNELS))
    }
}

/// Reads raw bytes piece by piece into one channel.
#[derive(Debug)]
pub struct RawReader {
    format: RawFormat,
    /// Start of a frame whose rest has not come yet; shorter than a frame.
    rest: Vec<u8>,
}

impl RawReader {
    /// A reader at the start of a frame.
    pub fn new(format: RawFormat) -> Self {
        Self { format, rest: Vec::new() }
    }

    /// Appends the mono samples of all complete frames to `out`.
    pub fn read(&mut self, mut bytes: &[u8], out: &mut Vec<f32>) {
        let size = self.format.frame_bytes();
        if !self.rest.is_empty() {
            let need = (size - self.rest.len()).min(bytes.len());
            self.rest.extend_from_slice(&bytes[..need]);
            bytes = &bytes[need..];
            if self.rest.len() == size {
                out.push(self.mono(&self.rest));
                self.rest.clear();
            }
        }
        let frames = bytes.chunks_exact(size);
        self.rest.extend_from_slice(frames.remainder());
        out.reserve(frames.len());
        out.extend(frames.map(|frame| self.mono(frame)));
    }

    /// Bytes of a frame that was never completed.
    pub fn rest(&self) -> usize {
        self.rest.len()
    }

    #[inline]
    fn mono(&self, frame: &[u8]) -> f32 {
        let encoding = self.format.encoding;
        if self.format.channels <= 1 {
            return encoding.sample(frame);
        }
        let samples = frame.chunks_exact(encoding.bytes());
        let n = samples.len() as f32;
        samples.map(|s| encoding.sample(s)).sum::<f32>() / n
    }
}

/// Rounds to 16-bit little-endian bytes.
pub fn to_pcm16(samples: &[f32], out: &mut Vec<u8>) {
    out.reserve(samples.len() * 2);
    for s in samples {
        let value = (s * 32_768.0).round().clamp(-32_768.0, 32_767.0) as i16;
        out.extend_from_slice(&value.to_le_bytes());
    }
}

/// One byte of µ-law (ITU-T G.711): inverted bits, sign, 3-bit exponent, 4-bit mantissa, bias 132.
pub const fn mulaw(byte: u8) -> i16 {
    let b = !byte;
    let magnitude = ((((b & 0x0F) as i16) << 3) + 132) << ((b >> 4) & 7);
    if b & 0x80 == 0 { magnitude - 132 } else { 132 - magnitude }
}

/// One byte of A-law (ITU-T G.711): even bits inverted, sign, 3-bit exponent, 4-bit mantissa.
pub const fn alaw(byte: u8) -> i16 {
    let b = byte ^ 0x55;
    let mantissa = ((b & 0x0F) as i16) << 4;
    let magnitude = match (b >> 4) & 7 {
        0 => mantissa + 8,
        e => (mantissa + 0x108) << (e - 1),
    };
    if b & 0x80 == 0 { -magnitude } else { magnitude }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Values at the ends of the segments in the tables of ITU-T G.711, at 16-bit scale.
    #[test]
    fn g711_tables_match_the_standard() {
        for (byte, value) in
            [(0x00, -32_124), (0x80, 32_124), (0xFF, 0), (0x7F, 0), (0xF0, 120), (0x8F, 16_764)]
        {
            assert_eq!(mulaw(byte), value, "mulaw {byte:#x}");
        }
        for (byte, value) in
            [(0x2A, -32_256), (0xAA, 32_256), (0xD5, 8), (0x55, -8), (0x80, 5_504), (0xC5, 264)]
        {
            assert_eq!(alaw(byte), value, "alaw {byte:#x}");
        }
    }

    fn formats() -> impl Strategy<Value = RawFormat> {
        use Encoding::{Alaw, Float64, Integer32, Linear16, Linear24, Linear32, Mulaw, Unsigned8};
        let encoding = prop::sample::select(vec![
            Unsigned8, Linear16, Linear24, Integer32, Linear32, Float64, Mulaw, Alaw,
        ]);
        (encoding, 1..=MAX_CHANNELS).prop_map(|(encoding, channels)| RawFormat {
            encoding,
            rate_hz: 16_000,
            channels,
        })
    }

    proptest! {
        /// However bytes are cut, the samples are the same, in range, and none is invented.
        #[test]
        fn pieces_give_the_same_samples_as_the_whole(
            format in formats(),
            bytes in prop::collection::vec(any::<u8>(), 0..2_000),
            cuts in prop::collection::vec(0usize..40, 0..80),
        ) {
            let mut whole = Vec::new();
            let mut reader = RawReader::new(format);
            reader.read(&bytes, &mut whole);
            prop_assert_eq!(whole.len(), bytes.len() / format.frame_bytes());
            prop_assert_eq!(reader.rest(), bytes.len() % format.frame_bytes());
            prop_assert!(whole.iter().all(|s| (-1.0..=1.0).contains(s)));

            let (mut pieces, mut reader, mut left) = (Vec::new(), RawReader::new(format), &bytes[..]);
            for cut in cuts {
                let (piece, rest) = left.split_at(cut.min(left.len()));
                reader.read(piece, &mut pieces);
                left = rest;
            }
            reader.read(left, &mut pieces);
            prop_assert_eq!(whole, pieces);
        }

        /// Linear 16-bit mono audio passes unchanged.
        #[test]
        fn linear16_passes_bit_by_bit(samples in prop::collection::vec(any::<i16>(), 0..500)) {
            let bytes: Vec<u8> = samples.iter().flat_map(|s| s.to_le_bytes()).collect();
            let format = RawFormat { encoding: Encoding::Linear16, rate_hz: 16_000, channels: 1 };
            let (mut mono, mut out) = (Vec::new(), Vec::new());
            RawReader::new(format).read(&bytes, &mut mono);
            to_pcm16(&mono, &mut out);
            prop_assert_eq!(bytes, out);
        }
    }
}
