//! The recordings of a bench, and what is said in them: WAV files listed in `samples.json`.

use super::BenchError;
use crate::wav::Recording;
use serde::Deserialize;
use std::path::Path;

/// One recording with its reference.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    pub(super) recording: Recording,
    /// What is said.
    pub(super) reference: String,
    /// Its words, each with the millisecond at which it is over at the latest; none where nobody knows.
    pub(super) words: Vec<(String, u64)>,
}

/// One entry of `samples.json`; further fields are for other readers.
#[derive(Debug, Deserialize)]
struct Entry {
    file: String,
    text: String,
    #[serde(default)]
    words: Vec<Start>,
}

/// Where a word of a sample begins: the synthesizer that spoke it tells.
#[derive(Debug, Deserialize)]
struct Start {
    word: String,
    start_ms: u64,
}

/// What is quieter than this share of the loudest sample is no speech.
const SILENCE: f64 = 0.02;

/// Each word with where it is over: where the next one begins at the latest, the last one where the speech ends.
fn ends(starts: Vec<Start>, recording: &Recording) -> Vec<(String, u64)> {
    let next = starts.iter().skip(1).map(|word| word.start_ms).chain([speech_end_ms(recording)]);
    let ends: Vec<u64> = next.collect();
    starts.into_iter().map(|word| word.word).zip(ends).collect()
}

fn speech_end_ms(recording: &Recording) -> u64 {
    let loudness = |sample: &i16| f64::from(sample.unsigned_abs());
    let loudest = recording.samples.iter().map(loudness).fold(0.0, f64::max);
    let last = recording.samples.iter().rposition(|sample| loudness(sample) > SILENCE * loudest);
    last.map_or(0, |last| (last + 1) as u64 * 1000 / recording.samples_a_second() as u64)
}

/// Reads all samples that `samples.json` of a folder lists.
pub(super) fn load(dir: &Path) -> Result<Vec<Sample>, BenchError> {
    let failed = |detail: String| BenchError::ReadSamples { dir: dir.to_owned(), detail };
    let list =
        std::fs::read(dir.join("samples.json")).map_err(|error| failed(format!("samples.json: {error}")))?;
    let entries: Vec<Entry> = serde_json::from_slice(&list)
        .map_err(|error| failed(format!("samples.json is no list of {{file, text}}: {error}")))?;
    let mut samples = Vec::new();
    for Entry { file, text, words } in entries {
        let bytes = std::fs::read(dir.join(&file)).map_err(|error| failed(format!("{file}: {error}")))?;
        let recording = Recording::parse(&bytes).map_err(|error| failed(format!("{file}: {error}")))?;
        samples.push(Sample { words: ends(words, &recording), recording, reference: text });
    }
    // Recordings are joined for the batch part, so they have one rate.
    samples.retain(|sample| sample.recording.sample_rate_hz == 16_000 && sample.recording.channels == 1);
    if samples.is_empty() {
        return Err(failed("samples.json names no 16 kHz mono recording".to_owned()));
    }
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_models_samples_are_read() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/demo-asr/samples");
        let samples = load(&dir).unwrap();
        assert!(
            samples.iter().all(|sample| !sample.reference.is_empty() && sample.recording.duration_ms() > 500)
        );
        for Sample { recording, reference, words } in samples {
            let said: Vec<&str> = words.iter().map(|(word, _)| word.as_str()).collect();
            assert_eq!(said.join(" "), reference);
            assert!(words.is_sorted_by_key(|(_, end)| end), "{words:?}");
            assert!(words.iter().all(|(_, end)| (1..=recording.duration_ms()).contains(end)), "{words:?}");
        }
    }

    #[test]
    fn a_word_is_over_where_the_next_begins_and_the_last_where_the_speech_ends() {
        let mut samples = vec![1_000_i16; 16_000];
        samples.resize(24_000, 5);
        let recording = Recording { sample_rate_hz: 16_000, channels: 1, samples };
        let word = |word: &str, start_ms| Start { word: word.into(), start_ms };
        let ends = ends(vec![word("one", 100), word("two", 400)], &recording);
        assert_eq!(ends, [("one".to_owned(), 400), ("two".to_owned(), 1_000)]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let dir = tempfile::tempdir().unwrap();
        assert!(load(dir.path()).unwrap_err().to_string().contains("samples.json"));
        std::fs::write(dir.path().join("samples.json"), r#"[{"file":"a.wav","text":"a"}]"#).unwrap();
        assert!(load(dir.path()).unwrap_err().to_string().contains("a.wav"));
        std::fs::write(dir.path().join("samples.json"), "[]").unwrap();
        assert!(load(dir.path()).unwrap_err().to_string().contains("no 16 kHz"));
    }
}
