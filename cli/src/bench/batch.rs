//! The batch load: recordings of about a minute, alone and several at a time.

use super::BenchError;
use super::samples::Sample;
use super::stats::WordErrors;
use crate::args::Service;
use crate::client::{self, Stub};
use crate::wav::Recording;
use futures::StreamExt;
use proto::speech::v1::recognize_request::Audio;
use proto::speech::v1::{RecognitionConfig, RecognizeRequest};
use std::time::Instant;

/// Seconds of one recording, about.
const LENGTH_S: u64 = 60;
/// Silence between the sentences of a recording, samples at 16 kHz.
const PAUSE_SAMPLES: usize = 8_000;
/// Recordings of each case.
const RECORDINGS: usize = 8;

/// What one case showed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Case {
    /// Recordings at the same time.
    pub(super) parallel: usize,
    /// Wall time by audio time.
    pub(super) real_time_factor: f64,
    pub(super) errors: WordErrors,
}

/// Runs one recording at a time, then four.
pub(super) async fn run(service: &Service, samples: &[Sample]) -> Result<Vec<Case>, BenchError> {
    let stub = client::connect(service).await?;
    let recordings: Vec<(Recording, String)> = (0..RECORDINGS).map(|first| join(samples, first)).collect();
    // The first request of its size warms caches up.
    one(stub.clone(), &recordings[0], &service.url).await?;
    let mut cases = Vec::new();
    for parallel in [1, 4] {
        let began = Instant::now();
        let work = recordings.iter().map(|recording| one(stub.clone(), recording, &service.url));
        let mut answers = futures::stream::iter(work).buffer_unordered(parallel);
        let mut errors = WordErrors::default();
        while let Some(answer) = answers.next().await {
            errors = errors.and(answer?);
        }
        let audio_s: f64 =
            recordings.iter().map(|(recording, _)| recording.duration_ms() as f64 / 1000.0).sum();
        cases.push(Case { parallel, real_time_factor: began.elapsed().as_secs_f64() / audio_s, errors });
    }
    Ok(cases)
}

async fn one(
    stub: Stub,
    (recording, reference): &(Recording, String),
    url: &str,
) -> Result<WordErrors, BenchError> {
    let request = RecognizeRequest {
        config: Some(RecognitionConfig::default()),
        audio: Some(Audio::Content(recording.to_wav())),
    };
    let answer = client::recognize(stub, request, url).await?;
    Ok(WordErrors::of(reference, &answer.text))
}

/// Sentences one after the other, with pauses, until the recording is long enough.
fn join(samples: &[Sample], first: usize) -> (Recording, String) {
    let mut joined = Recording { sample_rate_hz: 16_000, channels: 1, samples: Vec::new() };
    let mut said = Vec::new();
    for sample in samples.iter().cycle().skip(first) {
        joined.samples.extend_from_slice(&sample.recording.samples);
        joined.samples.resize(joined.samples.len() + PAUSE_SAMPLES, 0);
        said.push(sample.reference.as_str());
        if joined.duration_ms() >= LENGTH_S * 1000 {
            break;
        }
    }
    (joined, said.join(" "))
}
