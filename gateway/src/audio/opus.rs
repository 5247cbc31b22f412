//! Opus, the codec of browsers, telephones and messengers: libopus behind symphonia's decoder.
//!
//! Recordings: [`codecs`] is what symphonia decodes with, Opus in Ogg, Matroska or MP4 among it. Live audio: [`OpusReader`]
//! takes packets one by one, or an Ogg stream in pieces of any size (RFC 6716 and 7845). What is kept between pieces is
//! less than one page, or a packet over a few pages.

use std::sync::LazyLock;

use ogg::reading::{BasePacketReader, PageParser};
use symphonia::core::audio::layouts::CHANNEL_LAYOUT_MONO;
use symphonia::core::codecs::audio::well_known::CODEC_ID_OPUS;
use symphonia::core::codecs::audio::{AudioCodecParameters, AudioDecoder, AudioDecoderOptions};
use symphonia::core::codecs::registry::CodecRegistry;
use symphonia::core::packet::PacketRef;
use symphonia::core::units::{Duration, Timestamp};
use symphonia_adapter_libopus::OpusDecoder;

use super::{SAMPLE_RATE_HZ, in_range};
use crate::error::Error;

/// Bytes of an Ogg page's header, without its table of segments.
const PAGE_HEADER: usize = 27;
/// Pages over which one packet may go: 120 ms of Opus fit into one.
const PAGES_A_PACKET: u32 = 8;

/// Every codec that recordings may have.
pub fn codecs() -> &'static CodecRegistry {
    static CODECS: LazyLock<CodecRegistry> = LazyLock::new(|| {
        let mut codecs = CodecRegistry::new();
        symphonia::default::register_enabled_codecs(&mut codecs);
        codecs.register_audio_decoder::<OpusDecoder>();
        codecs
    });
    &CODECS
}

/// How live Opus comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Every message is one packet.
    Packets,
    /// An Ogg stream, cut anywhere.
    Ogg,
}

/// Live Opus to samples of one channel at 16 kHz, -1 to 1.
pub struct OpusReader {
    /// There is none before the header of an Ogg stream.
    decoder: Option<Box<dyn AudioDecoder>>,
    pages: Option<Pages>,
    decoded: Vec<f32>,
}

impl std::fmt::Debug for OpusReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpusReader").field("ogg", &self.pages.is_some()).finish_non_exhaustive()
    }
}

impl OpusReader {
    /// A reader of a stream from its start.
    pub fn new(framing: Framing) -> Result<Self, Error> {
        let (decoder, pages) = match framing {
            Framing::Packets => (Some(decoder(None)?), None),
            Framing::Ogg => (None, Some(Pages::default())),
        };
        Ok(Self { decoder, pages, decoded: Vec::new() })
    }

    /// Reads a message and appends its samples to `mono`. Fails on what is no Opus: a client that sends something else
    /// must hear of it.
    pub fn read(&mut self, bytes: &[u8], mono: &mut Vec<f32>) -> Result<(), Error> {
        let Some(mut pages) = self.pages.take() else {
            // An empty message says nothing; to libopus it would be a lost packet.
            return if bytes.is_empty() { Ok(()) } else { self.packet(bytes, mono) };
        };
        pages.push(bytes);
        while let Some(packet) = pages.next()? {
            if packet.starts_with(b"OpusHead") {
                self.decoder = Some(decoder(Some(packet))?);
            } else if !packet.starts_with(b"OpusTags") && !packet.is_empty() {
                self.packet(&packet, mono)?;
            }
        }
        self.pages = Some(pages);
        Ok(())
    }

    fn packet(&mut self, packet: &[u8], mono: &mut Vec<f32>) -> Result<(), Error> {
        let no_header =
            || Error::InvalidAudio("the Ogg stream does not begin with an Opus header".to_owned());
        let decoder = self.decoder.as_mut().ok_or_else(no_header)?;
        let packet = PacketRef::new(0, Timestamp::default(), Duration::default(), packet);
        let buffer = decoder.decode_ref(&packet).map_err(|e| Error::InvalidAudio(format!("opus: {e}")))?;
        buffer.copy_to_vec_interleaved::<f32>(&mut self.decoded);
        mono.extend(self.decoded.iter().copied().map(in_range));
        Ok(())
    }
}

/// A decoder to what workers take: libopus itself mixes channels and changes the rate. `head` is the stream's header,
/// which says how many samples at its start are not to be heard.
fn decoder(head: Option<Vec<u8>>) -> Result<Box<dyn AudioDecoder>, Error> {
    let mut parameters = AudioCodecParameters::new();
    parameters.for_codec(CODEC_ID_OPUS).with_sample_rate(SAMPLE_RATE_HZ).with_channels(CHANNEL_LAYOUT_MONO);
    if let Some(head) = head {
        parameters.with_extra_data(head.into_boxed_slice());
    }
    let made = codecs().make_audio_decoder(&parameters, &AudioDecoderOptions::default());
    made.map_err(|_| Error::Internal("libopus made no decoder"))
}

/// Ogg pages out of pieces of any size, and the packets in them.
#[derive(Default)]
struct Pages {
    bytes: Vec<u8>,
    packets: Option<BasePacketReader>,
    /// Pages since the last whole packet.
    unfinished: u32,
}

impl Pages {
    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole packet, if there is one.
    fn next(&mut self) -> Result<Option<Vec<u8>>, Error> {
        loop {
            let packets = self.packets.get_or_insert_with(BasePacketReader::new);
            if let Some(packet) = packets.read_packet() {
                self.unfinished = 0;
                return Ok(Some(packet.data));
            }
            if self.unfinished > PAGES_A_PACKET {
                return Err(Error::InvalidAudio(format!(
                    "ogg: a packet goes over more than {PAGES_A_PACKET} pages"
                )));
            }
            let Some(page) = next_page(&mut self.bytes)? else { return Ok(None) };
            packets.push_page(page).map_err(|e| broken(&e))?;
            self.unfinished += 1;
        }
    }
}

/// Takes the first page off the bytes; nothing while it is not there as a whole.
fn next_page(bytes: &mut Vec<u8>) -> Result<Option<ogg::reading::OggPage>, Error> {
    let magic = &bytes[..bytes.len().min(4)];
    if !b"OggS".starts_with(magic) {
        return Err(Error::InvalidAudio("ogg: there is no page where one must begin".to_owned()));
    }
    let Some(header) = bytes.first_chunk::<PAGE_HEADER>() else { return Ok(None) };
    let (mut page, segments) = PageParser::new(*header).map_err(|e| broken(&e))?;
    let Some(table) = bytes.get(PAGE_HEADER..PAGE_HEADER + segments) else { return Ok(None) };
    let start = PAGE_HEADER + segments;
    let end = start + page.parse_segments(table.to_vec());
    let Some(body) = bytes.get(start..end) else { return Ok(None) };
    let page = page.parse_packet_data(body.to_vec()).map_err(|e| broken(&e))?;
    drop(bytes.drain(..end));
    Ok(Some(page))
}

fn broken(error: &ogg::OggReadError) -> Error {
    Error::InvalidAudio(format!("ogg: {error}; send the stream whole, from its first page on"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 0.5 s of speech, Opus in Ogg at 48 kHz.
    const OGG: &[u8] = include_bytes!("../../tests/it/fixtures/234-opus.ogg");

    fn read(framing: Framing, pieces: &[&[u8]]) -> Result<Vec<f32>, Error> {
        let (mut reader, mut mono) = (OpusReader::new(framing)?, Vec::new());
        pieces.iter().try_for_each(|piece| reader.read(piece, &mut mono))?;
        Ok(mono)
    }

    #[test]
    fn packets_one_by_one_are_the_stream_without_its_pre_skip() {
        let whole = read(Framing::Ogg, &[OGG]).unwrap();
        let (mut pages, mut packets) = (Pages::default(), Vec::new());
        pages.push(OGG);
        while let Some(packet) = pages.next().unwrap() {
            packets.push(packet);
        }
        let head = packets[0].clone();
        let pre_skip = usize::from(u16::from_le_bytes([head[10], head[11]])) / 3;
        let pieces: Vec<_> = packets[2..].iter().map(Vec::as_slice).collect();
        let single = read(Framing::Packets, &pieces).unwrap();
        assert_eq!(single.len(), whole.len() + pre_skip);
        assert_eq!(single[pre_skip..], whole[..]);
        assert!(whole.iter().any(|s| s.abs() > 0.05), "there is speech in it");
    }

    #[test]
    fn what_is_no_opus_is_named() {
        let mut wrong = OGG.to_vec();
        wrong[60] ^= 1;
        let late = &OGG[OGG.windows(4).skip(1).position(|w| w == b"OggS").unwrap() + 1..];
        let cases: [(Framing, &[u8], &str); 6] = [
            (Framing::Ogg, b"RIFF", "no page"),
            (Framing::Ogg, &wrong, "send the stream whole"),
            (Framing::Ogg, late, "from its first page on"),
            (
                Framing::Ogg,
                include_bytes!("../../tests/it/fixtures/234.ogg"),
                "does not begin with an Opus header",
            ),
            (Framing::Packets, &[0xFF, 0xFF], "opus"),
            (Framing::Packets, &[3], "opus"),
        ];
        for (framing, bytes, said) in cases {
            let error = read(framing, &[bytes]).unwrap_err();
            assert_eq!(error.reason(), "InvalidAudio");
            assert!(error.to_string().contains(said), "{error}");
        }
        assert!(read(Framing::Packets, &[b""]).unwrap().is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]
        /// Where a stream is cut makes no difference.
        #[test]
        fn any_cut_gives_the_same_samples(cuts in prop::collection::vec(0..OGG.len(), 0..20)) {
            let mut cuts = cuts;
            cuts.extend([0, OGG.len()]);
            cuts.sort_unstable();
            let pieces: Vec<_> = cuts.windows(2).map(|w| &OGG[w[0]..w[1]]).collect();
            prop_assert_eq!(read(Framing::Ogg, &pieces).unwrap(), read(Framing::Ogg, &[OGG]).unwrap());
        }

        /// Whatever comes, an answer comes; what is kept for later stays small.
        #[test]
        fn arbitrary_bytes_never_panic(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..8)) {
            let pieces: Vec<_> = pieces.iter().map(Vec::as_slice).collect();
            drop(read(Framing::Packets, &pieces));
            drop(read(Framing::Ogg, &pieces));
            drop(read(Framing::Ogg, &[&[OGG], &pieces[..]].concat()));
        }
    }
}
