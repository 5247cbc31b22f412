//! First step of a batch: samples become log-mel frames, exactly as the reference's extractor gives them.
//!
//! In come 16-bit samples per row with their history, out goes `[rows, frames, mels]` in fp32. Frame `t` is the
//! Hann window of `window` samples centred on sample `t · hop`; nothing is normalised. Frames that lie before the
//! audio or after its end are raw zeros, not the log of silence. Must not know slots, chunks or models.
//!
//! Source: `feature_extraction_nemotron_asr_streaming.py` of transformers 5.23.0 and its `mel_filter_bank`.

use std::ops::Range;

use tch::{Kind, TchError, Tensor};

use crate::arena::LANES;
use crate::config::FeatureConfig;
use crate::ffi;
use crate::linear::Placement;

/// Added before the logarithm, 2⁻²⁴.
const LOG_GUARD: f64 = 1.0 / 16_777_216.0;

/// Samples to full scale: a 16-bit sample is `value / 32768`.
const FULL_SCALE: f32 = 32_768.0;

/// The extractor: window and mel filters on the device.
#[derive(Debug)]
pub(crate) struct Features {
    config: FeatureConfig,
    place: Placement,
    window: Tensor,
    /// `[mels, bins]`; for the CPU kernel with zeros behind.
    filters: Tensor,
    /// For the CPU kernel: first bin and number of bins of each filter, `[mels, 2]`.
    extents: Option<Tensor>,
}

/// One row of audio for [`Features::extract`].
#[derive(Debug)]
pub(crate) struct FeatureRow<'a> {
    /// Samples before `samples`, as far back as the first frame reaches ([`history_samples`] of them).
    pub(crate) history: &'a [i16],
    /// New samples; what is missing to the last frame's end counts as after the end.
    pub(crate) samples: &'a [i16],
    /// Frames of the result that lie inside the audio.
    pub(crate) valid: Range<usize>,
}

/// Samples of history that the frames of a later chunk reach back: what windows overlap, and one for pre-emphasis.
pub(crate) fn history_samples(config: &FeatureConfig) -> usize {
    config.window - config.hop + 1
}

impl Features {
    pub(crate) fn new(config: FeatureConfig, place: Placement) -> Result<Self, TchError> {
        let fp32 = Placement { kind: Kind::Float, ..place };
        let window =
            Tensor::f_hann_window_periodic(config.window as i64, false, (Kind::Float, place.device))?;
        let margin = ((config.n_fft - config.window) / 2) as i64;
        let window = window.f_constant_pad_nd([margin, margin])?;
        let bins = config.n_fft / 2 + 1;
        let filters = mel_filters(&config);
        let extents: Vec<i64> = filters.chunks_exact(bins).flat_map(extent).collect();
        let filters = Tensor::f_from_slice(&filters)?.f_view([config.mels as i64, bins as i64])?;
        let (filters, extents) = if place.fused {
            (filters.f_constant_pad_nd([0, LANES as i64])?, Some(Tensor::f_from_slice(&extents)?))
        } else {
            (filters, None)
        };
        Ok(Self { config, place: fp32, window, filters: fp32.put(&filters)?, extents })
    }

    /// Log-mel frames `[rows, frames, mels]` in fp32.
    pub(crate) fn extract(&self, rows: &[FeatureRow<'_>], frames: usize) -> Result<Tensor, TchError> {
        // The window stands in the middle of the transform, as in the reference: there the rounding of the
        // transform is the reference's too, which decides the last digits of quiet bins beside loud ones.
        let margin = (self.config.n_fft - self.config.window) / 2;
        let length = (frames - 1) * self.config.hop + self.config.n_fft;
        let mut emphasized = vec![0f32; rows.len() * length];
        for (row, target) in rows.iter().zip(emphasized.chunks_exact_mut(length)) {
            emphasize(row, self.config.preemphasis, &mut target[margin..length - margin]);
        }
        let (hop, size) = (self.config.hop as i64, self.config.n_fft as i64);
        let (count, length) = (rows.len() as i64, length as i64);
        let audio = Tensor::f_from_slice(&emphasized)?.f_to_device(self.place.device)?;
        let windows = audio.f_as_strided([count, frames as i64, size], [length, hop, 1], None)?;
        let spectrum = windows.f_mul(&self.window)?.f_fft_rfft(size, -1, "backward")?;
        let mel = if let Some(extents) = &self.extents {
            let spectrum = spectrum.f_view([count * frames as i64, -1])?;
            ffi::mels(&spectrum, &self.filters, extents, LOG_GUARD)?.f_view([count, frames as i64, -1])?
        } else {
            let power =
                spectrum.f_view_as_real()?.f_square()?.f_sum_dim_intlist(-1i64, false, Kind::Float)?;
            power.f_matmul(&self.filters.f_transpose(0, 1)?)?.f_add_scalar_(LOG_GUARD)?.f_log_()?
        };
        blank_outside(rows, frames, &mel)?;
        Ok(mel)
    }
}

/// Sets frames outside the audio to zero.
fn blank_outside(rows: &[FeatureRow<'_>], frames: usize, mel: &Tensor) -> Result<(), TchError> {
    for (index, row) in rows.iter().enumerate() {
        for outside in [0..row.valid.start, row.valid.end..frames] {
            if !outside.is_empty() {
                let row = mel.f_select(0, index as i64)?;
                let _ = row.f_narrow(0, outside.start as i64, outside.len() as i64)?.f_zero_()?;
            }
        }
    }
    Ok(())
}

/// `y[n] = x[n] − c·x[n−1]` over history and samples; zero after the end. The history's first sample only feeds
/// the second, so `target` starts there.
fn emphasize(row: &FeatureRow<'_>, coefficient: f32, target: &mut [f32]) {
    let value = |sample: i16| f32::from(sample) / FULL_SCALE;
    let between = |before: i16, sample: i16| value(sample) - coefficient * value(before);
    let (mut free, mut last) = (target, None);
    for part in [row.history, row.samples] {
        // Where two parts meet one by one, within a part in one sweep that the compiler makes vectors of.
        if let Some((before, &sample)) = last.zip(part.first())
            && let Some((place, rest)) = std::mem::take(&mut free).split_first_mut()
        {
            *place = between(before, sample);
            free = rest;
        }
        let pairs = part.len().saturating_sub(1).min(free.len());
        let (places, rest) = std::mem::take(&mut free).split_at_mut(pairs);
        for (place, pair) in places.iter_mut().zip(part.windows(2)) {
            *place = between(pair[0], pair[1]);
        }
        free = rest;
        last = part.last().copied().or(last);
    }
}

/// Triangular filters on the Slaney mel scale with Slaney's area normalisation, `[mels, bins]`.
fn mel_filters(config: &FeatureConfig) -> Vec<f32> {
    let bins = config.n_fft / 2 + 1;
    let nyquist = f64::from(workers_engine::SAMPLE_RATE_HZ / 2);
    let top = hertz_to_mel(nyquist);
    let edges: Vec<f64> =
        (0..config.mels + 2).map(|n| mel_to_hertz(top * n as f64 / (config.mels + 1) as f64)).collect();
    let mut filters = Vec::with_capacity(config.mels * bins);
    for triangle in edges.windows(3) {
        let area = (2.0 / (triangle[2] - triangle[0])) as f32;
        for bin in 0..bins {
            let hertz = nyquist * bin as f64 / (bins - 1) as f64;
            let up = (hertz - triangle[0]) / (triangle[1] - triangle[0]);
            let down = (triangle[2] - hertz) / (triangle[2] - triangle[1]);
            filters.push(up.min(down).max(0.0) as f32 * area);
        }
    }
    filters
}

/// First bin and number of bins between the first and the last that is not zero.
fn extent(filter: &[f32]) -> [i64; 2] {
    let first = filter.iter().position(|&value| value != 0.0).unwrap_or(0);
    let end = filter.iter().rposition(|&value| value != 0.0).map_or(first, |last| last + 1);
    [first as i64, (end - first) as i64]
}

/// Slaney's scale: linear below 1 kHz (15 mel), logarithmic above.
fn hertz_to_mel(hertz: f64) -> f64 {
    if hertz < 1000.0 { 3.0 * hertz / 200.0 } else { 15.0 + (hertz / 1000.0).ln() * (27.0 / 6.4f64.ln()) }
}

fn mel_to_hertz(mel: f64) -> f64 {
    if mel < 15.0 { 200.0 * mel / 3.0 } else { 1000.0 * ((6.4f64.ln() / 27.0) * (mel - 15.0)).exp() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mel_scale_inverts_itself() {
        for hertz in [0.0, 440.0, 999.0, 1000.0, 4321.0, 8000.0] {
            assert!((mel_to_hertz(hertz_to_mel(hertz)) - hertz).abs() < 1e-9 * (1.0 + hertz));
        }
    }

    #[test]
    fn pre_emphasis_ends_with_the_audio() {
        let row = FeatureRow { history: &[0, 16384], samples: &[16384, -16384], valid: 0..1 };
        let mut target = [9.0; 5];
        target.fill(0.0);
        emphasize(&row, 0.5, &mut target);
        let wanted = [0.5, 0.25, -0.75, 0.0, 0.0];
        assert!(
            target.iter().zip(wanted).all(|(got, want): (&f32, f32)| (got - want).abs() < 1e-6),
            "{target:?}"
        );
    }
}
