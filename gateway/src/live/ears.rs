//! What a client says, as samples: bytes in the encoding of its request in, 16-bit samples at 16 kHz out.
//! What is that already goes on as it is.
//!
//! The buffers are kept between chunks, so that a chunk costs no allocation. Knows no session and no protocol.

use crate::audio::SAMPLE_RATE_HZ;
use crate::audio::opus::OpusReader;
use crate::audio::raw::{Encoding, RawFormat, RawReader, to_pcm16};
use crate::audio::resample::{Aim, Resampler};
use crate::error::Error;
use crate::request::{Live, LiveFormat};

/// Audio of the client to samples at 16 kHz.
pub(super) struct Ears {
    reader: Reader,
    mono: Vec<f32>,
    resampled: Vec<f32>,
    pcm: Vec<u8>,
}

/// The format in which audio goes on.
const SAME: RawFormat = RawFormat { encoding: Encoding::Linear16, rate_hz: SAMPLE_RATE_HZ, channels: 1 };

/// What reads the client's bytes.
enum Reader {
    /// The client's bytes are what goes on; the first half of a sample waits for the second.
    Same(Option<u8>),
    /// Samples of any rate.
    Raw(RawReader, Box<Resampler>),
    /// The codec gives samples at 16 kHz itself.
    Opus(OpusReader),
}

impl Ears {
    pub(super) fn new(request: &Live) -> Result<Self, Error> {
        let reader = match request.format {
            LiveFormat::Raw(SAME) => Reader::Same(None),
            LiveFormat::Raw(raw) => {
                Reader::Raw(RawReader::new(raw), Box::new(Resampler::new(raw.rate_hz, Aim::Live)?))
            }
            LiveFormat::Opus(framing) => Reader::Opus(OpusReader::new(framing)?),
        };
        Ok(Self { reader, mono: Vec::new(), resampled: Vec::new(), pcm: Vec::new() })
    }

    pub(super) fn hear(&mut self, bytes: &[u8]) -> Result<&[u8], Error> {
        self.mono.clear();
        self.resampled.clear();
        match &mut self.reader {
            Reader::Same(half) => {
                self.pcm.clear();
                self.pcm.extend(half.take());
                self.pcm.extend_from_slice(bytes);
                if !self.pcm.len().is_multiple_of(2) {
                    *half = self.pcm.pop();
                }
                return Ok(&self.pcm);
            }
            Reader::Raw(reader, resampler) => {
                reader.read(bytes, &mut self.mono);
                resampler.push(&self.mono, &mut self.resampled)?;
            }
            Reader::Opus(reader) => reader.read(bytes, &mut self.resampled)?,
        }
        Ok(self.pcm())
    }

    pub(super) fn finish(&mut self) -> Result<&[u8], Error> {
        self.resampled.clear();
        if let Reader::Raw(_, resampler) = &mut self.reader {
            resampler.finish(&mut self.resampled)?;
        }
        Ok(self.pcm())
    }

    fn pcm(&mut self) -> &[u8] {
        self.pcm.clear();
        to_pcm16(&self.resampled, &mut self.pcm);
        &self.pcm
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_right_already_goes_on_as_it_is_and_as_if_it_had_been_decoded() {
        let all: Vec<u8> = (i16::MIN..=i16::MAX).flat_map(i16::to_le_bytes).collect();
        let ears = |reader| Ears { reader, mono: Vec::new(), resampled: Vec::new(), pcm: Vec::new() };
        let resampler = Resampler::new(SAMPLE_RATE_HZ, Aim::Live).unwrap();
        let decoded = Reader::Raw(RawReader::new(SAME), Box::new(resampler));
        for reader in [Reader::Same(None), decoded] {
            let mut ears = ears(reader);
            let mut heard = Vec::new();
            // Pieces of odd length cut samples in two.
            for piece in all.chunks(777) {
                let pcm = ears.hear(piece).unwrap();
                assert!(pcm.len().is_multiple_of(2));
                heard.extend_from_slice(pcm);
            }
            heard.extend_from_slice(ears.finish().unwrap());
            assert!(heard == all);
        }
    }
}
