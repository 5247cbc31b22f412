//! Recordings with what is said in them: the samples of the demo model.

use crate::demo_model;
use anyhow::Context;
use cli::bench::stats::WordErrors;
use cli::wav::Recording;
use serde::Deserialize;
use std::path::PathBuf;

/// One recording.
#[derive(Debug, Clone)]
pub struct Sample {
    /// The WAV file.
    pub path: PathBuf,
    /// Its bytes.
    pub wav: Vec<u8>,
    /// Its samples.
    pub recording: Recording,
    /// What is said.
    pub reference: String,
}

#[derive(Deserialize)]
struct Entry {
    file: String,
    text: String,
    #[serde(default)]
    words: Vec<EntryWord>,
}

#[derive(Deserialize)]
struct EntryWord {
    word: String,
    start_ms: u64,
}

/// Share of words that may be wrong in one sentence: one of ten. The model card has the error rates, which are far
/// lower; this bound lets a single word differ on another machine, and no more.
const MOST_ERRORS: f64 = 0.1;

impl Sample {
    /// Bytes of a recording that says it `times` times in a row: long enough to be in the middle of.
    pub fn repeated(&self, times: usize) -> Vec<u8> {
        let mut long = self.recording.clone();
        long.samples = long.samples.repeat(times);
        long.to_wav()
    }

    /// Fails when a transcript is not what was said.
    pub fn check(&self, text: &str) -> anyhow::Result<()> {
        let errors = WordErrors::of(&self.reference, text);
        anyhow::ensure!(
            errors.rate() <= MOST_ERRORS,
            "{}: said {:?}, heard {text:?}",
            self.path.display(),
            self.reference
        );
        Ok(())
    }
}

/// Words of a sample and when the synthesizer began each, in ms.
pub type WordStarts = Vec<(String, u64)>;

/// All samples, and the words of each with their starts in milliseconds; none where the synthesizer did not tell.
pub fn samples_with_words() -> anyhow::Result<Vec<(Sample, WordStarts)>> {
    let dir = demo_model().join("samples");
    let list = std::fs::read(dir.join("samples.json")).context("samples.json")?;
    let entries: Vec<Entry> = serde_json::from_slice(&list)?;
    let read = |entry: Entry| {
        let path = dir.join(&entry.file);
        let wav = std::fs::read(&path).with_context(|| path.display().to_string())?;
        let recording = Recording::parse(&wav)?;
        let words = entry.words.into_iter().map(|word| (word.word, word.start_ms)).collect();
        Ok((Sample { path, wav, recording, reference: entry.text }, words))
    };
    entries.into_iter().map(read).collect()
}

/// All samples.
pub fn samples() -> anyhow::Result<Vec<Sample>> {
    Ok(samples_with_words()?.into_iter().map(|(sample, _)| sample).collect())
}

/// The sentence of the quickstart.
pub fn quickstart() -> anyhow::Result<Sample> {
    let found = samples()?.into_iter().find(|sample| sample.path.ends_with("quickstart.wav"));
    found.context("samples.json names no quickstart.wav")
}
