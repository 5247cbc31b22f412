//! What a client says, as samples: bytes in the encoding of its request in, 16-bit samples at 16 kHz out.
//!
//! The buffers are kept between chunks, so that a chunk costs no allocation. Knows no session and no protocol.

use crate::audio::raw::{RawReader, to_pcm16};
use crate::audio::resample::{Aim, Resampler};
use crate::error::Error;
use crate::request::Live;

/// Raw audio of the client to samples at 16 kHz.
pub(super) struct Ears {
    reader: RawReader,
    resampler: Resampler,
    mono: Vec<f32>,
    resampled: Vec<f32>,
    pcm: Vec<u8>,
}

impl Ears {
    pub(super) fn new(request: &Live) -> Result<Self, Error> {
        Ok(Self {
            reader: RawReader::new(request.raw),
            resampler: Resampler::new(request.raw.rate_hz, Aim::Live)?,
            mono: Vec::new(),
            resampled: Vec::new(),
            pcm: Vec::new(),
        })
    }

    pub(super) fn hear(&mut self, bytes: &[u8]) -> Result<&[u8], Error> {
        self.mono.clear();
        self.resampled.clear();
        self.reader.read(bytes, &mut self.mono);
        self.resampler.push(&self.mono, &mut self.resampled)?;
        Ok(self.pcm())
    }

    pub(super) fn finish(&mut self) -> Result<&[u8], Error> {
        self.resampled.clear();
        self.resampler.finish(&mut self.resampled)?;
        Ok(self.pcm())
    }

    fn pcm(&mut self) -> &[u8] {
        self.pcm.clear();
        to_pcm16(&self.resampled, &mut self.pcm);
        &self.pcm
    }
}
