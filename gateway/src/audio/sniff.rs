//! What the bytes of a body are: a container, text by mistake, or nothing known. Pure.

/// What a body seems to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// RIFF/WAVE, read by [`super::wav`].
    Wav,
    /// A container or codec that symphonia reads.
    Container(&'static str),
    /// Text, where audio belongs.
    Text,
    /// Nothing known.
    Unknown,
}

/// Looks at the first bytes.
pub fn sniff(bytes: &[u8]) -> Kind {
    let at = |offset: usize, magic: &[u8]| bytes.get(offset..).is_some_and(|b| b.starts_with(magic));
    if (at(0, b"RIFF") || at(0, b"RIFX") || at(0, b"RF64")) && at(8, b"WAVE") {
        Kind::Wav
    } else if at(0, b"fLaC") {
        Kind::Container("flac")
    } else if at(0, b"OggS") {
        Kind::Container("ogg")
    } else if at(4, b"ftyp") {
        Kind::Container("mp4")
    } else if at(0, &[0x1A, 0x45, 0xDF, 0xA3]) {
        Kind::Container("mkv")
    } else if at(0, b"FORM") && (at(8, b"AIFF") || at(8, b"AIFC")) {
        Kind::Container("aiff")
    } else if at(0, b"caff") {
        Kind::Container("caf")
    } else if at(0, b"ID3") || is_mpeg_frame(bytes) {
        Kind::Container("mp3")
    } else if is_text(bytes) {
        Kind::Text
    } else {
        Kind::Unknown
    }
}

/// Sync word of an MPEG audio or ADTS frame, with fields that are not reserved.
fn is_mpeg_frame(bytes: &[u8]) -> bool {
    let [0xFF, second, third, ..] = bytes else { return false };
    let adts = second & 0xF6 == 0xF0;
    let layers = second & 0xE0 == 0xE0 && second & 0x06 != 0 && second & 0x18 != 0x08;
    adts || (layers && third & 0xF0 != 0xF0 && third & 0x0C != 0x0C)
}

/// The first bytes are printable UTF-8.
fn is_text(bytes: &[u8]) -> bool {
    let head = &bytes[..bytes.len().min(256)];
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        // A character may be cut at the end of the head.
        Err(e) if e.error_len().is_none() => {
            std::str::from_utf8(&head[..e.valid_up_to()]).expect("valid up to here")
        }
        Err(_) => return false,
    };
    !text.is_empty() && text.chars().all(|c| !c.is_control() || matches!(c, '\n' | '\r' | '\t'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_by_their_first_bytes() {
        let cases: [(&[u8], Kind); 10] = [
            (b"RIFF\x00\x00\x00\x00WAVEfmt ", Kind::Wav),
            (b"fLaC\x00", Kind::Container("flac")),
            (b"OggS\x00\x02........vorbis", Kind::Container("ogg")),
            (b"OggS\x00\x02........OpusHead", Kind::Container("ogg")),
            (b"\x00\x00\x00\x20ftypM4A ", Kind::Container("mp4")),
            (b"ID3\x04", Kind::Container("mp3")),
            (&[0xFF, 0xFB, 0x90, 0x00], Kind::Container("mp3")),
            ("grüße, please transcribe me".as_bytes(), Kind::Text),
            (&[0, 1, 2, 3], Kind::Unknown),
            (b"", Kind::Unknown),
        ];
        for (bytes, kind) in cases {
            assert_eq!(sniff(bytes), kind, "{bytes:?}");
        }
    }
}
