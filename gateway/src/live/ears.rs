//! What a client says, as samples: bytes in the encoding of its request in, 16-bit samples at 16 kHz out.
//!
//! The buffers are kept between chunks, so that a chunk costs no allocation. Knows no session and no protocol.

use crate::audio::opus::OpusReader;
use crate::audio::raw::{RawReader, to_pcm16};
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

/// What reads the client's bytes.
enum Reader {
    /// Samples of any rate.
    Raw(RawReader, Box<Resampler>),
    /// The codec gives samples at 16 kHz itself.
    Opus(OpusReader),
}

impl Ears {
    pub(super) fn new(request: &Live) -> Result<Self, Error> {
        let reader = match request.format {
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
