//! Reads WAV files for live streaming: 16-bit PCM of any rate and channel count. Pure.
//!
//! Comes in: the bytes of a file. Goes out: a [`Recording`], or what is wrong with it. Recordings that are
//! sent whole are not read here: the gateway understands many more formats.

/// Samples as they would come from a microphone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recording {
    /// Samples a second and channel, Hz.
    pub sample_rate_hz: u32,
    /// Channels, interleaved.
    pub channels: u16,
    /// 16-bit samples of all channels.
    pub samples: Vec<i16>,
}

/// Why bytes are no WAV file that can be streamed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WavError {
    /// No RIFF/WAVE header.
    #[error("it does not begin like a WAV file")]
    FindHeader,
    /// The format or data chunk is missing or cut off.
    #[error("its {0} chunk is missing or cut off")]
    ReadChunk(&'static str),
    /// Not 16-bit PCM.
    #[error("it holds {bits}-bit samples of format {format}; only 16-bit PCM (format 1) can be streamed")]
    UseFormat {
        /// The `wFormatTag`.
        format: u16,
        /// Bits a sample.
        bits: u16,
    },
    /// Zero channels or rate.
    #[error("its header says {channels} channels at {sample_rate_hz} Hz")]
    UseShape {
        /// Channels.
        channels: u16,
        /// Hz.
        sample_rate_hz: u32,
    },
}

impl Recording {
    /// Parses a file. A data chunk that promises more than there is (as recorders that were cut off leave
    /// it, or streams write it) is taken as far as it goes.
    pub fn parse(bytes: &[u8]) -> Result<Self, WavError> {
        let (b"RIFF", rest) = split(bytes, 4).ok_or(WavError::FindHeader)? else {
            return Err(WavError::FindHeader);
        };
        let Some((b"WAVE", mut rest)) = rest.get(4..).and_then(|rest| split(rest, 4)) else {
            return Err(WavError::FindHeader);
        };
        let mut format = None;
        while let Some((header, body)) = split(rest, 8) {
            let length = u32::from_le_bytes([header[4], header[5], header[6], header[7]]) as usize;
            let content = &body[..length.min(body.len())];
            match &header[..4] {
                b"fmt " => format = Some(Format::parse(content)?),
                b"data" => return Ok(format.ok_or(WavError::ReadChunk("format"))?.recording(content)),
                _ => {}
            }
            // Chunks are padded to even lengths.
            rest = body.get(length.saturating_add(length % 2)..).unwrap_or_default();
        }
        Err(WavError::ReadChunk(if format.is_some() { "data" } else { "format" }))
    }

    /// Samples of all channels in a second.
    pub fn samples_a_second(&self) -> usize {
        self.sample_rate_hz as usize * usize::from(self.channels)
    }

    /// How long it plays, milliseconds.
    pub fn duration_ms(&self) -> u64 {
        (self.samples.len() as u64) * 1000 / (self.samples_a_second() as u64)
    }

    /// Pieces of `chunk_ms` (the last one shorter), as little-endian bytes, each with the position in
    /// milliseconds at which it ends.
    pub fn chunks(&self, chunk_ms: u32) -> Vec<(u64, Vec<u8>)> {
        self.chunks_from(chunk_ms, chunk_ms)
    }

    /// The same with a first piece of another length.
    pub fn chunks_from(&self, first_ms: u32, chunk_ms: u32) -> Vec<(u64, Vec<u8>)> {
        let length =
            |ms: u32| (self.sample_rate_hz as usize * ms as usize / 1000).max(1) * usize::from(self.channels);
        let (first, others) = self.samples.split_at(length(first_ms).min(self.samples.len()));
        let mut sent = 0_u64;
        let pieces =
            std::iter::once(first).filter(|first| !first.is_empty()).chain(others.chunks(length(chunk_ms)));
        let chunks = pieces.map(|chunk| {
            sent += chunk.len() as u64;
            let until_ms = sent * 1000 / self.samples_a_second() as u64;
            (until_ms, chunk.iter().flat_map(|sample| sample.to_le_bytes()).collect())
        });
        chunks.collect()
    }

    /// The same as a WAV file.
    pub fn to_wav(&self) -> Vec<u8> {
        let data = (self.samples.len() * 2) as u32;
        let mut bytes = Vec::with_capacity(44 + data as usize);
        bytes.extend_from_slice(b"RIFF");
        bytes.extend_from_slice(&(36 + data).to_le_bytes());
        bytes.extend_from_slice(b"WAVEfmt ");
        bytes.extend_from_slice(&16_u32.to_le_bytes());
        bytes.extend_from_slice(&1_u16.to_le_bytes());
        bytes.extend_from_slice(&self.channels.to_le_bytes());
        bytes.extend_from_slice(&self.sample_rate_hz.to_le_bytes());
        bytes.extend_from_slice(&(self.samples_a_second() as u32 * 2).to_le_bytes());
        bytes.extend_from_slice(&(self.channels * 2).to_le_bytes());
        bytes.extend_from_slice(&16_u16.to_le_bytes());
        bytes.extend_from_slice(b"data");
        bytes.extend_from_slice(&data.to_le_bytes());
        bytes.extend(self.samples.iter().flat_map(|sample| sample.to_le_bytes()));
        bytes
    }
}

struct Format {
    channels: u16,
    sample_rate_hz: u32,
}

impl Format {
    fn parse(content: &[u8]) -> Result<Self, WavError> {
        let [f0, f1, c0, c1, r0, r1, r2, r3, _, _, _, _, _, _, b0, b1, ..] = *content else {
            return Err(WavError::ReadChunk("format"));
        };
        let (mut format, bits) = (u16::from_le_bytes([f0, f1]), u16::from_le_bytes([b0, b1]));
        // WAVE_FORMAT_EXTENSIBLE hides the format in the first bytes of a GUID.
        if format == 0xfffe
            && let Some([low, high]) = content.get(24..26)
        {
            format = u16::from_le_bytes([*low, *high]);
        }
        if (format, bits) != (1, 16) {
            return Err(WavError::UseFormat { format, bits });
        }
        let (channels, sample_rate_hz) = (u16::from_le_bytes([c0, c1]), u32::from_le_bytes([r0, r1, r2, r3]));
        if channels == 0 || channels > 64 || sample_rate_hz == 0 || sample_rate_hz > 768_000 {
            return Err(WavError::UseShape { channels, sample_rate_hz });
        }
        Ok(Self { channels, sample_rate_hz })
    }

    fn recording(self, content: &[u8]) -> Recording {
        let whole = content.len() - content.len() % (2 * usize::from(self.channels));
        let samples =
            content[..whole].chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect();
        Recording { sample_rate_hz: self.sample_rate_hz, channels: self.channels, samples }
    }
}

fn split(bytes: &[u8], at: usize) -> Option<(&[u8], &[u8])> {
    bytes.split_at_checked(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn recording(sample_rate_hz: u32, channels: u16, samples: usize) -> Recording {
        Recording { sample_rate_hz, channels, samples: (0..samples).map(|i| i as i16).collect() }
    }

    #[test]
    fn a_written_file_is_read_back() {
        for original in [recording(16_000, 1, 1234), recording(48_000, 2, 96), recording(8_000, 1, 0)] {
            assert_eq!(Recording::parse(&original.to_wav()), Ok(original));
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert_eq!(Recording::parse(b""), Err(WavError::FindHeader));
        assert_eq!(Recording::parse(b"text where audio belongs"), Err(WavError::FindHeader));
        let wav = recording(16_000, 1, 10).to_wav();
        assert_eq!(Recording::parse(&wav[..20]), Err(WavError::ReadChunk("format")));
        assert_eq!(Recording::parse(&wav[..36]), Err(WavError::ReadChunk("data")));
        let mut float = wav.clone();
        float[20] = 3;
        assert_eq!(Recording::parse(&float), Err(WavError::UseFormat { format: 3, bits: 16 }));
        let mut no_channels = wav;
        no_channels[22] = 0;
        assert_eq!(
            Recording::parse(&no_channels),
            Err(WavError::UseShape { channels: 0, sample_rate_hz: 16_000 })
        );
    }

    #[test]
    fn a_lying_length_is_taken_as_far_as_it_goes() {
        let mut wav = recording(16_000, 1, 10).to_wav();
        wav[40..44].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(Recording::parse(&wav).unwrap().samples.len(), 10);
    }

    #[test]
    fn chunks_tell_where_they_end() {
        let ends: Vec<u64> =
            recording(16_000, 1, 16_000).chunks(160).iter().map(|(until, _)| *until).collect();
        assert_eq!(ends, [160, 320, 480, 640, 800, 960, 1000]);
        let ends: Vec<u64> =
            recording(16_000, 1, 8_000).chunks_from(137, 160).iter().map(|(until, _)| *until).collect();
        assert_eq!(ends, [137, 297, 457, 500]);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 0_usize..60) {
            let _ = Recording::parse(&bytes);
            let mut wav = recording(16_000, 1, 8).to_wav();
            wav.truncate(cut);
            wav.extend_from_slice(&bytes);
            if let Ok(recording) = Recording::parse(&wav) {
                let _ = (recording.duration_ms(), recording.chunks(20));
            }
        }
    }
}
