//! Audio that says known words: levels of a tone, which the scripted worker hears as `w1`, `w2` …

/// Tone of all words, Hz; a block of the worker holds whole periods of it.
const TONE_HZ: f32 = 500.0;

/// Samples that say a script: a digit is a word of 300 ms, `|` a pause of 600 ms, `.` one of 100 ms.
pub(crate) fn say(script: &str, rate_hz: u32) -> Vec<i16> {
    let mut out = Vec::new();
    for c in script.chars().filter(|c| !c.is_whitespace()) {
        let (level, ms) = match c {
            '|' => (0.0, 600),
            '.' => (0.0, 100),
            d => (d.to_digit(10).expect("a digit") as f32, 300),
        };
        // The mean of |sin| is 2/π, so this level has a mean of 2,000 per step.
        let amplitude = level * 2_000.0 * std::f32::consts::FRAC_PI_2;
        let n = rate_hz * ms / 1_000;
        out.extend((0..n).map(|i| {
            let angle = std::f32::consts::TAU * TONE_HZ * i as f32 / rate_hz as f32;
            (amplitude * angle.sin()) as i16
        }));
    }
    out
}

/// Little-endian bytes.
pub(crate) fn bytes(samples: &[i16]) -> Vec<u8> {
    samples.iter().flat_map(|s| s.to_le_bytes()).collect()
}

/// Raw 16 kHz mono bytes of a script.
pub(crate) fn pcm(script: &str) -> Vec<u8> {
    bytes(&say(script, 16_000))
}

/// A WAVE file of 16-bit samples.
pub(crate) fn wav(samples: &[i16], rate_hz: u32, channels: u16) -> Vec<u8> {
    wav_file(1, channels, rate_hz, 16, &bytes(samples))
}

/// A WAVE file of any samples.
pub(crate) fn wav_file(tag: u16, channels: u16, rate_hz: u32, bits: u16, data: &[u8]) -> Vec<u8> {
    let block = channels * bits / 8;
    let mut f = b"RIFF".to_vec();
    f.extend_from_slice(&(36 + data.len() as u32).to_le_bytes());
    f.extend_from_slice(b"WAVEfmt \x10\0\0\0");
    f.extend_from_slice(&tag.to_le_bytes());
    f.extend_from_slice(&channels.to_le_bytes());
    f.extend_from_slice(&rate_hz.to_le_bytes());
    f.extend_from_slice(&(rate_hz * u32::from(block)).to_le_bytes());
    f.extend_from_slice(&block.to_le_bytes());
    f.extend_from_slice(&bits.to_le_bytes());
    f.extend_from_slice(b"data");
    f.extend_from_slice(&(data.len() as u32).to_le_bytes());
    f.extend_from_slice(data);
    f
}

/// A WAVE file of a script at 16 kHz.
pub(crate) fn wav_of(script: &str) -> Vec<u8> {
    wav(&say(script, 16_000), 16_000, 1)
}

/// G.711 µ-law of one sample (the inverse of the gateway's table, written independently).
pub(crate) fn to_mulaw(sample: i16) -> u8 {
    let sign = if sample < 0 { 0x80 } else { 0 };
    let magnitude = (i32::from(sample).abs() + 132).min(32_767);
    let exponent = (24 - (magnitude as u32).leading_zeros() as i32).clamp(0, 7);
    let mantissa = (magnitude >> (exponent + 3)) & 0x0F;
    !(sign | (exponent as u8) << 4 | mantissa as u8)
}
