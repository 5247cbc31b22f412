//! The shape of one step: which slots, how many frames, and which of them lie inside the audio.
//!
//! Pure arithmetic on frame counts. Every chunk is treated alike: a chunk of `lookahead + 1` encoder frames is
//! made of `subsampling · (lookahead + 1)` mel frames, and the first chunk, whose audio begins with its
//! `subsampling`-th mel frame, is a chunk whose first `subsampling − 1` mel frames lie before the audio.

use std::ops::Range;

use tch::{Device, TchError, Tensor};
use workers_engine::SlotOptions;

use crate::config::EncoderConfig;
use crate::ffi::KernelRow;

/// One slot's place in a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    /// The slot.
    pub(crate) slot: usize,
    /// Encoder frames decoded before this step.
    pub(crate) start: u64,
    /// Valid mel frames of the whole audio, once its end is known.
    pub(crate) mel_frames: Option<u64>,
}

/// One step over several slots with the same options.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) rows: Vec<Row>,
    /// Encoder frames that a chunk looks ahead.
    pub(crate) lookahead: usize,
    /// Encoder frames of the step: whole chunks.
    pub(crate) frames: usize,
    /// Frames of attention left context.
    pub(crate) context: usize,
    /// The slots as an index tensor on the device.
    pub(crate) index: Tensor,
    /// The rows for the kernels of the encoder blocks.
    pub(crate) kernel_rows: Vec<KernelRow>,
    config: EncoderConfig,
}

impl Batch {
    pub(crate) fn new(
        config: EncoderConfig,
        rows: Vec<Row>,
        options: SlotOptions,
        device: Device,
    ) -> Result<Self, TchError> {
        let lookahead = options.lookahead;
        let slots: Vec<i64> = rows.iter().map(|row| row.slot as i64).collect();
        let mut batch = Self {
            rows,
            lookahead,
            frames: options.chunks_per_step * (lookahead + 1),
            context: config.context(lookahead),
            index: Tensor::f_from_slice(&slots)?.f_to_device(device)?,
            kernel_rows: Vec::new(),
            config,
        };
        // The audio of all rows may end within fewer chunks.
        let longest = batch.rows.iter().map(|row| batch.valid(row)).max().unwrap_or(0);
        batch.frames = longest.next_multiple_of(lookahead + 1);
        let row = |row: &Row| KernelRow {
            slot: row.slot as i64,
            start: row.start as i64,
            valid: batch.valid(row) as i64,
        };
        batch.kernel_rows = batch.rows.iter().map(row).collect();
        Ok(batch)
    }

    /// Frames of the step after `stage` halvings of time; stage 0 is mel frames.
    pub(crate) fn stage_frames(&self, stage: usize) -> usize {
        self.frames * (self.config.subsampling >> stage)
    }

    /// Those of them that lie inside the audio of `row`.
    pub(crate) fn stage_valid(&self, row: &Row, stage: usize) -> Range<usize> {
        let factor = (self.config.subsampling >> stage) as i64;
        let base = factor * row.start as i64 - factor + 1;
        let count = self.stage_frames(stage) as i64;
        let length = row.mel_frames.map(|mel| (0..stage).fold(mel, |frames, _| frames / 2 + 1));
        let end = length.map_or(count, |length| (length as i64 - base).clamp(0, count));
        let start = (-base).clamp(0, end);
        start as usize..end as usize
    }

    /// Encoder frames of `row` that this step decodes.
    pub(crate) fn valid(&self, row: &Row) -> usize {
        self.stage_valid(row, self.config.stages()).end
    }

    /// The rows for a kernel of the subsampling whose result is `stage`.
    pub(crate) fn kernel_stage_rows(&self, stage: usize) -> Vec<KernelRow> {
        let row = |row: &Row| {
            let valid = self.stage_valid(row, stage);
            KernelRow { slot: row.slot as i64, start: valid.start as i64, valid: valid.end as i64 }
        };
        self.rows.iter().map(row).collect()
    }

    /// Cached frames of `row` that exist, of [`Batch::context`].
    pub(crate) fn cached(&self, row: &Row) -> usize {
        self.context.min(row.start as usize)
    }

    /// Zeroes what lies outside the audio along dimension 1 of `[rows, stage_frames, …]`.
    pub(crate) fn blank_outside(&self, tensor: &Tensor, stage: usize, dim: i64) -> Result<(), TchError> {
        let count = self.stage_frames(stage);
        for (index, row) in self.rows.iter().enumerate() {
            let valid = self.stage_valid(row, stage);
            for outside in [0..valid.start, valid.end..count] {
                if !outside.is_empty() {
                    let row = tensor.f_select(0, index as i64)?;
                    let _ = row.f_narrow(dim - 1, outside.start as i64, outside.len() as i64)?.f_zero_()?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn batch(start: u64, mel_frames: Option<u64>) -> Batch {
        let row = Row { slot: 0, start, mel_frames };
        let encoder = Config::width_600m().encoder;
        let options = SlotOptions { lookahead: 1, chunks_per_step: 1 };
        Batch::new(encoder, vec![row], options, Device::Cpu).expect("an index tensor of one slot")
    }

    fn check(start: u64, mel_frames: Option<u64>, expect: &[Range<usize>; 4]) {
        let batch = batch(start, mel_frames);
        let got = [0, 1, 2, 3].map(|stage| batch.stage_valid(&batch.rows[0], stage));
        assert_eq!(&got, expect, "start {start}, mel frames {mel_frames:?}");
    }

    #[test]
    fn the_first_chunk_begins_with_the_last_frame_of_its_group() {
        check(0, None, &[7..16, 3..8, 1..4, 0..2]);
    }

    #[test]
    fn later_chunks_are_whole() {
        check(2, None, &[0..16, 0..8, 0..4, 0..2]);
    }

    #[test]
    fn the_end_masks_each_stage_as_the_reference_counts() {
        // 10 mel frames: 10 → 6 → 4 → 3 frames; the second chunk (frames 2 and 3) begins at mel frame 9.
        check(2, Some(10), &[0..1, 0..1, 0..1, 0..1]);
        check(0, Some(9), &[7..16, 3..8, 1..4, 0..2]);
        check(0, Some(1), &[7..8, 3..4, 1..2, 0..1]);
    }
}
