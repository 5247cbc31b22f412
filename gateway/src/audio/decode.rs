//! A whole recording of any format to 16 kHz mono 16-bit samples. Blocking: run it on the [`super::pool`].
//!
//! In: the bytes as they came, and how they are to be read. Out: little-endian samples. Audio is decoded
//! packet by packet into the output, so memory is the input plus the output, and the output has a limit.

use bytes::Bytes;
use symphonia::core::codecs::audio::{AudioDecoder, AudioDecoderOptions};
use symphonia::core::errors::Error as CodecError;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, FormatReader, TrackType};
use symphonia::core::io::{MediaSourceStream, MediaSourceStreamOptions};
use symphonia::core::meta::MetadataOptions;

use super::opus::codecs;
use super::pool::Lease;
use super::raw::{Encoding, RawFormat, RawReader, to_pcm16};
use super::resample::{Aim, Resampler};
use super::sniff::{Kind, sniff};
use super::wav::{self, Wav};
use super::{INPUT_RATES_HZ, MAX_CHANNELS, SAMPLE_RATE_HZ, in_range};
use crate::error::Error;

/// Input is taken in pieces of this many bytes or samples, so that scratch buffers stay small.
const PIECE: usize = 1 << 16;

/// Samples of 16 kHz mono audio, and the memory they were granted.
#[derive(Debug)]
pub struct Recording {
    /// 16-bit little-endian samples; at least one.
    pub pcm: Bytes,
    /// Counts against the memory of all requests until dropped.
    pub lease: Lease,
}

impl Recording {
    /// Number of samples.
    pub fn samples(&self) -> u64 {
        self.pcm.len() as u64 / 2
    }
}

/// Decodes a body. `raw` says how to read bytes without a container; `None` looks at the bytes.
/// `lease` holds the body's memory and grows by the output's.
pub fn decode(
    body: Bytes,
    raw: Option<RawFormat>,
    max_seconds: u64,
    lease: Lease,
) -> Result<Recording, Error> {
    if body.is_empty() {
        return Err(Error::AudioMissing);
    }
    let kind = sniff(&body);
    match (raw, kind) {
        (_, Kind::Text) if raw.is_none() => {
            Err(Error::UnsupportedFormat("the body is text, not audio".to_owned()))
        }
        // A container says itself what it is, whatever the parameters say.
        (_, Kind::Wav) => match wav::parse(&body)? {
            Wav::Raw(format, range) => decode_raw(&body.slice(range), format, max_seconds, lease),
            Wav::Coded => decode_container(body, "wav", max_seconds, lease),
        },
        (Some(format), _) => decode_raw(&body, format, max_seconds, lease),
        (None, Kind::Container(name)) => decode_container(body, name, max_seconds, lease),
        (None, _) => {
            Err(Error::UnsupportedFormat("the bytes are not a known container; name the encoding".to_owned()))
        }
    }
}

/// Output under its limits.
struct Output {
    pcm: Vec<u8>,
    max_bytes: u64,
    max_seconds: u64,
    lease: Lease,
    resampler: Resampler,
    scratch: Vec<f32>,
}

impl Output {
    fn new(rate_hz: u32, max_seconds: u64, lease: Lease) -> Result<Self, Error> {
        Ok(Self {
            pcm: Vec::new(),
            max_bytes: max_seconds * u64::from(SAMPLE_RATE_HZ) * 2,
            max_seconds,
            lease,
            resampler: Resampler::new(rate_hz, Aim::Recording)?,
            scratch: Vec::new(),
        })
    }

    fn push(&mut self, mono: &[f32]) -> Result<(), Error> {
        for piece in mono.chunks(PIECE) {
            self.scratch.clear();
            self.resampler.push(piece, &mut self.scratch)?;
            self.append()?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Recording, Error> {
        self.scratch.clear();
        self.resampler.finish(&mut self.scratch)?;
        self.append()?;
        if self.pcm.is_empty() {
            return Err(Error::AudioMissing);
        }
        Ok(Recording { pcm: Bytes::from(self.pcm), lease: self.lease })
    }

    fn append(&mut self) -> Result<(), Error> {
        let more = self.scratch.len() as u64 * 2;
        if self.pcm.len() as u64 + more > self.max_bytes {
            return Err(Error::AudioTooLong { limit_s: self.max_seconds });
        }
        self.lease.grow(more)?;
        to_pcm16(&self.scratch, &mut self.pcm);
        Ok(())
    }
}

fn decode_raw(body: &Bytes, format: RawFormat, max_seconds: u64, lease: Lease) -> Result<Recording, Error> {
    let frames = body.len() / format.frame_bytes();
    if frames == 0 {
        return Err(Error::AudioMissing);
    }
    // Refused before any work: the length is known.
    if frames as u64 > max_seconds * u64::from(format.rate_hz) {
        return Err(Error::AudioTooLong { limit_s: max_seconds });
    }
    let as_is = RawFormat { encoding: Encoding::Linear16, rate_hz: SAMPLE_RATE_HZ, channels: 1 };
    if format == as_is {
        return Ok(Recording { pcm: body.slice(..frames * 2), lease });
    }
    let mut out = Output::new(format.rate_hz, max_seconds, lease)?;
    let (mut reader, mut mono) = (RawReader::new(format), Vec::new());
    for piece in body.chunks(PIECE) {
        mono.clear();
        reader.read(piece, &mut mono);
        out.push(&mono)?;
    }
    out.finish()
}

fn decode_container(body: Bytes, name: &str, max_seconds: u64, lease: Lease) -> Result<Recording, Error> {
    let stream =
        MediaSourceStream::new(Box::new(std::io::Cursor::new(body)), MediaSourceStreamOptions::default());
    let mut hint = Hint::new();
    hint.with_extension(name);
    let mut format = symphonia::default::get_probe()
        .probe(&hint, stream, FormatOptions::default(), MetadataOptions::default())
        .map_err(|e| codec_error(name, &e))?;
    let (track, mut decoder) = open_track(format.as_ref(), name)?;
    let mut out: Option<(u32, Output)> = None;
    let mut lease = Some(lease);
    let (mut interleaved, mut mono) = (Vec::new(), Vec::new());
    while let Some(packet) = format.next_packet().map_err(|e| codec_error(name, &e))? {
        if packet.track_id != track {
            continue;
        }
        let buffer = match decoder.decode(&packet) {
            Ok(buffer) => buffer,
            // A damaged packet is skipped, as every player does; a file of nothing else has no samples.
            Err(CodecError::DecodeError(_)) => continue,
            Err(e) => return Err(codec_error(name, &e)),
        };
        let rate_hz = buffer.spec().rate();
        let channels = buffer.num_planes();
        buffer.copy_to_vec_interleaved::<f32>(&mut interleaved);
        mix(&interleaved, channels, &mut mono)?;
        if out.is_none() {
            check_rate(rate_hz)?;
            let lease = lease.take().ok_or(Error::Internal("the lease was taken twice"))?;
            out = Some((rate_hz, Output::new(rate_hz, max_seconds, lease)?));
        }
        match &mut out {
            Some((rate, out)) if *rate == rate_hz => out.push(&mono)?,
            _ => return Err(Error::InvalidAudio("the sample rate changes in the middle".to_owned())),
        }
    }
    out.map_or(Err(Error::AudioMissing), |(_, out)| out.finish())
}

fn open_track(format: &dyn FormatReader, name: &str) -> Result<(u32, Box<dyn AudioDecoder>), Error> {
    let missing = || Error::UnsupportedFormat(format!("the {name} file holds no audio track"));
    let track = format.default_track(TrackType::Audio).ok_or_else(missing)?;
    let params = track.codec_params.as_ref().and_then(|p| p.audio()).ok_or_else(missing)?;
    let decoder = codecs()
        .make_audio_decoder(params, &AudioDecoderOptions::default())
        .map_err(|e| codec_error(name, &e))?;
    Ok((track.id, decoder))
}

fn check_rate(rate_hz: u32) -> Result<(), Error> {
    if INPUT_RATES_HZ.contains(&rate_hz) {
        return Ok(());
    }
    Err(Error::InvalidAudio(format!("{rate_hz} Hz; {INPUT_RATES_HZ:?} are read")))
}

fn mix(interleaved: &[f32], channels: usize, mono: &mut Vec<f32>) -> Result<(), Error> {
    if channels == 0 || channels > usize::from(MAX_CHANNELS) {
        return Err(Error::InvalidAudio(format!("{channels} channels; 1 to {MAX_CHANNELS} are read")));
    }
    mono.clear();
    let scale = 1.0 / channels as f32;
    let mixed = interleaved.chunks_exact(channels).map(|frame| frame.iter().sum::<f32>() * scale);
    mono.extend(mixed.map(in_range));
    Ok(())
}

fn codec_error(name: &str, e: &CodecError) -> Error {
    match e {
        CodecError::IoError(io) if io.kind() == std::io::ErrorKind::UnexpectedEof => {
            Error::TruncatedAudio(format!("the {name} file ends too early"))
        }
        CodecError::Unsupported(what) => Error::UnsupportedFormat(format!("{name}: {what}")),
        e => Error::InvalidAudio(format!("{name}: {e}")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::audio::pool::Budget;

    fn lease() -> Lease {
        Budget::new(1 << 30).lease()
    }

    fn run(body: &[u8], raw: Option<RawFormat>) -> Result<Recording, Error> {
        decode(Bytes::copy_from_slice(body), raw, 60, lease())
    }

    #[test]
    fn what_is_not_audio_is_named() {
        let linear = RawFormat { encoding: Encoding::Linear16, rate_hz: 16_000, channels: 1 };
        let cases: [(&[u8], Option<RawFormat>, &str); 6] = [
            (b"", None, "AudioMissing"),
            (b"hello, this is text", None, "UnsupportedFormat"),
            (&[0, 1, 2, 3], None, "UnsupportedFormat"),
            (&[7], Some(linear), "AudioMissing"),
            (b"fLaC\x00\x00", None, "TruncatedAudio"),
            (b"OggS\x00\x02........OpusHead", None, "TruncatedAudio"),
        ];
        for (body, raw, reason) in cases {
            assert_eq!(run(body, raw).unwrap_err().reason(), reason, "{body:?}");
        }
        let long = vec![0; 61 * 16_000 * 2];
        assert_eq!(run(&long, Some(linear)).unwrap_err().reason(), "AudioTooLong");
        let one = run(&[5, 0], Some(linear)).unwrap();
        assert_eq!((one.samples(), &one.pcm[..]), (1, &[5u8, 0][..]));
    }

    #[test]
    fn memory_of_all_requests_is_bounded() {
        let budget = Budget::new(10_000);
        let format = RawFormat { encoding: Encoding::Mulaw, rate_hz: 8_000, channels: 1 };
        let refused = decode(Bytes::from(vec![0xFF; 8_000]), Some(format), 60, budget.lease());
        assert_eq!(refused.unwrap_err().reason(), "Overloaded");
        let fits = decode(Bytes::from(vec![0xFF; 1_000]), Some(format), 60, budget.lease()).unwrap();
        assert_eq!(fits.samples(), 2_000);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        /// Whatever the bytes behind a known magic, an answer comes and nothing large is allocated for it.
        #[test]
        fn arbitrary_bytes_never_panic(tail in prop::collection::vec(any::<u8>(), 0..600)) {
            let heads: [&[u8]; 8] = [
                b"", b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x02\0\x01\0", b"fLaC\0\0\0\x22", b"OggS\0\x02",
                b"\0\0\0\x20ftypM4A ", b"ID3\x04\0\0\0\0\0\0", &[0xFF, 0xFB, 0x90, 0], b"caff\0\x01\0\0",
            ];
            for head in heads {
                drop(run(&[head, &tail].concat(), None));
            }
        }
    }
}
