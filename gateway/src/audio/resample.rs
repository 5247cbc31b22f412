//! Changes the sample rate to 16 kHz, for whole recordings and for audio while it is spoken. Pure.
//!
//! Samples of one channel in, in pieces of any size; samples at 16 kHz out. The filter's delay is cut off at
//! the start and made up at the end, so the output lies where the input lay in time and has its duration.

use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Fft, FixedSync, Resampler as _};

use super::SAMPLE_RATE_HZ;
use crate::error::Error;

/// What matters more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aim {
    /// Little delay: blocks of about 10 ms.
    Live,
    /// Steep filter and speed: blocks of about 64 ms.
    Recording,
}

impl Aim {
    fn block_ms(self) -> usize {
        match self {
            Self::Live => 10,
            Self::Recording => 64,
        }
    }
}

/// A running change of rate.
pub struct Resampler {
    /// `None` when the rate is right already.
    filter: Option<Filter>,
}

struct Filter {
    fft: Fft<f32>,
    rate_hz: u64,
    /// Input of a block that is not complete.
    pending: Vec<f32>,
    block: Vec<f32>,
    /// Output still to be cut off: the filter's delay.
    skip: usize,
    consumed: u64,
    produced: u64,
}

impl Resampler {
    /// From a rate to 16 kHz. Fails for rates outside [`super::INPUT_RATES_HZ`].
    pub fn new(rate_hz: u32, aim: Aim) -> Result<Self, Error> {
        if rate_hz == SAMPLE_RATE_HZ {
            return Ok(Self { filter: None });
        }
        if !super::INPUT_RATES_HZ.contains(&rate_hz) {
            return Err(Error::InvalidParameter {
                name: "sample_rate",
                detail: format!("{rate_hz} Hz is outside {:?} Hz", super::INPUT_RATES_HZ),
            });
        }
        let rate = rate_hz as usize;
        let block = (rate * aim.block_ms() / 1_000).max(1);
        let fft = Fft::new_custom(
            rate,
            SAMPLE_RATE_HZ as usize,
            block,
            1,
            1,
            rubato::WindowFunction::BlackmanHarris2,
            FixedSync::Both,
        )
        .map_err(|_| Error::Internal("the resampler refused its rates"))?;
        let filter = Filter {
            skip: fft.output_delay(),
            block: vec![0.0; fft.output_frames_max()],
            pending: Vec::with_capacity(fft.input_frames_max()),
            fft,
            rate_hz: u64::from(rate_hz),
            consumed: 0,
            produced: 0,
        };
        Ok(Self { filter: Some(filter) })
    }

    /// Largest delay between input and its output, in input samples.
    pub fn delay(&self) -> usize {
        self.filter.as_ref().map_or(0, |f| f.fft.input_frames_max() * 3 / 2)
    }

    /// Takes a piece of input and appends what is ready.
    pub fn push(&mut self, input: &[f32], out: &mut Vec<f32>) -> Result<(), Error> {
        if let Some(filter) = &mut self.filter {
            return filter.push(input, out);
        }
        out.extend_from_slice(input);
        Ok(())
    }

    /// The input is over: appends the rest, so that the output has the input's duration.
    pub fn finish(&mut self, out: &mut Vec<f32>) -> Result<(), Error> {
        self.filter.as_mut().map_or(Ok(()), |f| f.finish(out))
    }
}

impl Filter {
    fn push(&mut self, mut input: &[f32], out: &mut Vec<f32>) -> Result<(), Error> {
        self.consumed += input.len() as u64;
        let need = self.fft.input_frames_next();
        if !self.pending.is_empty() {
            let take = (need - self.pending.len()).min(input.len());
            self.pending.extend_from_slice(&input[..take]);
            input = &input[take..];
            if self.pending.len() < need {
                return Ok(());
            }
            let block = std::mem::take(&mut self.pending);
            self.step(&block, out)?;
            self.pending = block;
            self.pending.clear();
        }
        let blocks = input.chunks_exact(need);
        self.pending.extend_from_slice(blocks.remainder());
        blocks.into_iter().try_for_each(|block| self.step(block, out))
    }

    fn finish(&mut self, out: &mut Vec<f32>) -> Result<(), Error> {
        let wanted = (self.consumed * u64::from(SAMPLE_RATE_HZ)).div_ceil(self.rate_hz);
        let silence = vec![0.0; self.fft.input_frames_next()];
        let real = self.consumed;
        // Each round gives a block, the delay is half a block: two rounds are enough, four are a bound.
        for _ in 0..4 {
            let missing = wanted.saturating_sub(self.produced);
            if missing == 0 {
                break;
            }
            let before = out.len();
            let fill = silence.len() - self.pending.len();
            self.push(&silence[..fill], out)?;
            let excess = (out.len() - before).saturating_sub(missing as usize);
            out.truncate(out.len() - excess);
            self.produced -= excess as u64;
        }
        self.consumed = real;
        Ok(())
    }

    /// Exactly one block through the filter.
    fn step(&mut self, block: &[f32], out: &mut Vec<f32>) -> Result<(), Error> {
        let broken = || Error::Internal("the resampler refused a block");
        let frames = self.block.len();
        let input = InterleavedSlice::new(block, 1, block.len()).map_err(|_| broken())?;
        let mut output = InterleavedSlice::new_mut(&mut self.block, 1, frames).map_err(|_| broken())?;
        let (_, made) = self.fft.process_into_buffer(&input, &mut output, None).map_err(|_| broken())?;
        let skip = self.skip.min(made);
        self.skip -= skip;
        self.produced += (made - skip) as u64;
        out.extend_from_slice(&self.block[skip..made]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tone(rate_hz: u32, hz: f32, seconds: f32) -> Vec<f32> {
        let n = (rate_hz as f32 * seconds) as usize;
        (0..n).map(|i| 0.5 * (std::f32::consts::TAU * hz * i as f32 / rate_hz as f32).sin()).collect()
    }

    fn run(rate_hz: u32, aim: Aim, input: &[f32], piece: usize) -> Vec<f32> {
        let (mut resampler, mut out) = (Resampler::new(rate_hz, aim).unwrap(), Vec::new());
        input.chunks(piece).for_each(|p| resampler.push(p, &mut out).unwrap());
        resampler.finish(&mut out).unwrap();
        out
    }

    /// Amplitude and phase (radians) of one frequency at 16 kHz, away from the ends.
    fn measure(samples: &[f32], hz: f32) -> (f32, f32) {
        let (skip, n) = (1_600, 8_000);
        let (mut re, mut im) = (0.0_f64, 0.0_f64);
        for (i, s) in samples[skip..skip + n].iter().enumerate() {
            let angle = std::f64::consts::TAU * f64::from(hz) * (i + skip) as f64 / 16_000.0;
            re += f64::from(*s) * angle.sin();
            im += f64::from(*s) * angle.cos();
        }
        let scale = 2.0 / n as f64;
        (((re * re + im * im).sqrt() * scale) as f32, im.atan2(re) as f32)
    }

    #[test]
    fn a_tone_keeps_its_level_frequency_and_place() {
        for aim in [Aim::Live, Aim::Recording] {
            for rate in [8_000, 11_025, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000] {
                let out = run(rate, aim, &tone(rate, 1_000.0, 1.0), 777);
                let (level, phase) = measure(&out, 1_000.0);
                assert!((level - 0.5).abs() < 0.01, "{aim:?} {rate} Hz: level {level}");
                // One sample of 16 kHz is 0.39 rad at 1 kHz: the place is right to within one sample.
                assert!(phase.abs() < 0.39, "{aim:?} {rate} Hz: phase {phase}");
                assert_eq!(out.len(), 16_000, "{aim:?} {rate} Hz");
            }
        }
    }

    #[test]
    fn what_16_khz_cannot_hold_is_filtered_out() {
        for aim in [Aim::Live, Aim::Recording] {
            let out = run(48_000, aim, &tone(48_000, 11_000.0, 1.0), 480);
            let rms = (out[1_600..14_400].iter().map(|s| s * s).sum::<f32>() / 12_800.0).sqrt();
            assert!(rms < 0.005, "{aim:?}: alias rms {rms}");
        }
    }

    #[test]
    fn live_audio_is_delayed_little() {
        for rate in [8_000, 24_000, 44_100, 48_000] {
            let delay = Resampler::new(rate, Aim::Live).unwrap().delay() as f32 / rate as f32;
            assert!(delay <= 0.016, "{rate} Hz: {delay} s");
        }
    }

    #[test]
    fn rates_outside_the_range_are_refused() {
        for rate in [0, 1, 3_999, 192_001, u32::MAX] {
            assert!(Resampler::new(rate, Aim::Live).is_err(), "{rate}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        /// However the input is cut, the output is the same and as long as the input lasted.
        #[test]
        fn pieces_do_not_matter(
            rate in prop::sample::select(vec![8_000u32, 16_000, 22_050, 44_100, 48_000]),
            input in prop::collection::vec(-1.0f32..1.0, 0..3_000),
            piece in 1usize..2_000,
        ) {
            let whole = run(rate, Aim::Live, &input, usize::MAX);
            prop_assert_eq!(&whole, &run(rate, Aim::Live, &input, piece));
            prop_assert_eq!(whole.len(), (input.len() * 16_000).div_ceil(rate as usize));
        }
    }
}
