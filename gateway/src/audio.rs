//! Any audio a client sends becomes 16-bit little-endian mono samples at 16 kHz: all that workers ever see.
//!
//! In order of travel: [`sniff`] says what the bytes are, [`wav`] and [`raw`] read what needs no codec,
//! [`decode`] reads the rest with symphonia on a bounded pool, [`opus`] is its codec that comes live too, [`resample`]
//! changes the rate.
//! Everything here is bounded by the longest recording allowed; nothing here knows a protocol or the queue.

pub mod decode;
pub mod opus;
pub mod pool;
pub mod raw;
pub mod resample;
pub mod sniff;
pub mod wav;

/// Sample rate of all audio behind the edges, Hz.
pub const SAMPLE_RATE_HZ: u32 = 16_000;

/// Sample rates of input audio that are read, Hz.
pub const INPUT_RATES_HZ: std::ops::RangeInclusive<u32> = 4_000..=192_000;

/// Channels of input audio that are read; all are mixed to one.
pub const MAX_CHANNELS: u16 = 16;

/// A decoded sample as it may go on, -1 to 1; what is not a number is silence.
fn in_range(sample: f32) -> f32 {
    if sample.is_finite() { sample.clamp(-1.0, 1.0) } else { 0.0 }
}

/// Samples at 16 kHz to milliseconds.
pub const fn samples_to_ms(samples: u64) -> u64 {
    samples / (SAMPLE_RATE_HZ as u64 / 1_000)
}
