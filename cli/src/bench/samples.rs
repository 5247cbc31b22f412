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
}

/// One entry of `samples.json`; further fields are for other readers.
#[derive(Debug, Deserialize)]
struct Entry {
    file: String,
    text: String,
}

/// Reads all samples that `samples.json` of a folder lists.
pub(super) fn load(dir: &Path) -> Result<Vec<Sample>, BenchError> {
    let failed = |detail: String| BenchError::ReadSamples { dir: dir.to_owned(), detail };
    let list =
        std::fs::read(dir.join("samples.json")).map_err(|error| failed(format!("samples.json: {error}")))?;
    let entries: Vec<Entry> = serde_json::from_slice(&list)
        .map_err(|error| failed(format!("samples.json is no list of {{file, text}}: {error}")))?;
    let mut samples = Vec::new();
    for Entry { file, text } in entries {
        let bytes = std::fs::read(dir.join(&file)).map_err(|error| failed(format!("{file}: {error}")))?;
        let recording = Recording::parse(&bytes).map_err(|error| failed(format!("{file}: {error}")))?;
        samples.push(Sample { recording, reference: text });
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
