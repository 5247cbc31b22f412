//! The live load: `streams` speakers at the same time, each one session after the other, in real time.

use super::BenchError;
use super::samples::Sample;
use super::stats::{WordErrors, common_words};
use crate::args::Service;
use crate::client::session::{self, Chunk};
use crate::client::timeline::{Report, Timeline};
use crate::client::{self, ClientError, Stub};
use crate::demo::streaming_config;
use proto::speech::v1::StreamingConfig;
use proto::speech::v1::streaming_recognize_response::Response;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Sessions that share one HTTP/2 connection.
const STREAMS_A_CONNECTION: u32 = 25;
/// All speakers begin within this.
const JITTER: Duration = Duration::from_secs(2);
/// After a failed session a speaker waits, so that a broken service is not flooded.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// How long the session that finds the model's steps speaks.
const CALIBRATION_MS: u64 = 1_500;
/// Milliseconds a message of that session.
const CALIBRATION_CHUNK_MS: u32 = 10;

/// What is put on the service.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    pub(super) streams: u32,
    pub(super) duration: Duration,
    pub(super) lookahead: u32,
    pub(super) grid: Grid,
}

/// Where the model's steps end in the audio: the first needs less than the others, because of the
/// look-ahead's padding. Messages that end there are answered by exactly one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Grid {
    pub(super) first_ms: u32,
    pub(super) step_ms: u32,
}

impl Grid {
    /// From the positions that a session with very small messages was told.
    fn of(positions: &[u64]) -> Option<Self> {
        let [first, second, ..] = positions else { return None };
        // Positions are whole milliseconds, cut off: the next one is past the step's end.
        Some(Self { first_ms: *first as u32 + 1, step_ms: (second - first) as u32 })
    }
}

/// Finds the steps of the model at a look-ahead.
pub(super) async fn calibrate(
    service: &Service,
    sample: &Sample,
    lookahead: u32,
) -> Result<Grid, BenchError> {
    let pieces = sample.recording.chunks(CALIBRATION_CHUNK_MS).into_iter();
    let pieces = pieces.map(|(until_ms, audio)| Chunk { until_ms, audio });
    let (out, chunks) = mpsc::channel(4);
    tokio::spawn(session::speak_in_real_time(
        pieces.take_while(|c| c.until_ms <= CALIBRATION_MS).collect(),
        out,
    ));
    let mut positions = Vec::new();
    let observe = |response: &Response, _: &Timeline| {
        let position = match response {
            Response::Progress(progress) => progress.processed_ms,
            Response::Result(result) => result.processed_ms,
            _ => 0,
        };
        if position > positions.last().copied().unwrap_or_default() {
            positions.push(position);
        }
    };
    let stub = client::connect(service).await?;
    session::run(stub, config(sample, lookahead), chunks, observe, &service.url).await?;
    Grid::of(&positions).ok_or(BenchError::FindSteps)
}

fn config(sample: &Sample, lookahead: u32) -> StreamingConfig {
    let mut config = streaming_config(&sample.recording);
    if let Some(recognition) = &mut config.config {
        recognition.lookahead_frames = Some(lookahead);
    }
    config
}

/// What came back, of all sessions but the first of each speaker (those warm up).
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) sessions: usize,
    pub(super) chunks_ms: Vec<f32>,
    pub(super) overheads_ms: Vec<f32>,
    /// From each word's end as the service tells it until it stood for good.
    pub(super) told_partials_ms: Vec<f32>,
    /// The same from the ends that are known of the samples. A word that was not understood has none.
    pub(super) partials_ms: Vec<f32>,
    pub(super) finals_ms: Vec<f32>,
    pub(super) errors: WordErrors,
    /// Why sessions failed.
    pub(super) failures: Vec<String>,
    /// Seconds of audio a second that were really spoken: the streams that were really there.
    pub(super) concurrency: f64,
}

/// Runs the load to its end. The service must at least answer: nobody there is an error.
pub(super) async fn run(service: &Service, samples: &[Sample], load: Load) -> Result<Outcome, BenchError> {
    let samples: Arc<[Sample]> = samples.into();
    let mut speakers = JoinSet::new();
    let mut stub = client::connect(service).await?;
    let end = Instant::now() + load.duration;
    for index in 0..load.streams {
        if index > 0 && index % STREAMS_A_CONNECTION == 0 {
            stub = client::connect(service).await?;
        }
        let speaker =
            Speaker { index, load, samples: samples.clone(), stub: stub.clone(), url: service.url.clone() };
        speakers.spawn(speaker.speak_until(end));
    }
    let mut outcome = Outcome::default();
    let mut spoken_ms = 0;
    while let Some(speaker) = speakers.join_next().await {
        let Ok(sessions) = speaker else { continue };
        for session in sessions {
            match session {
                Session::Heard { report, sample } => {
                    let sample = &samples[sample];
                    spoken_ms += sample.recording.duration_ms();
                    outcome.add(report, sample);
                }
                Session::Failed(error) => outcome.failures.push(error.to_string()),
            }
        }
    }
    let measured = load.duration.as_secs_f64();
    outcome.concurrency = spoken_ms as f64 / 1000.0 / measured;
    Ok(outcome)
}

enum Session {
    /// `sample` is the position among the samples.
    Heard {
        report: Report,
        sample: usize,
    },
    Failed(ClientError),
}

struct Speaker {
    index: u32,
    load: Load,
    samples: Arc<[Sample]>,
    stub: Stub,
    url: String,
}

impl Speaker {
    async fn speak_until(self, end: Instant) -> Vec<Session> {
        // Spread by the golden ratio: even, and never in step with the chunks.
        let share = (f64::from(self.index) * 0.618_033_988_749_895).fract();
        tokio::time::sleep(JITTER.mul_f64(share)).await;
        let mut sessions = Vec::new();
        for round in 0.. {
            if Instant::now() >= end {
                break;
            }
            let sample = (self.index as usize + round) % self.samples.len();
            match self.speak(&self.samples[sample]).await {
                // The first session of each speaker warms up.
                Ok(_) if round == 0 => {}
                Ok(report) => sessions.push(Session::Heard { report, sample }),
                Err(error) => {
                    sessions.push(Session::Failed(error));
                    tokio::time::sleep(AFTER_FAILURE).await;
                }
            }
        }
        sessions
    }

    async fn speak(&self, sample: &Sample) -> Result<Report, ClientError> {
        let Grid { first_ms, step_ms } = self.load.grid;
        let pieces = sample.recording.chunks_from(first_ms, step_ms).into_iter();
        let pieces = pieces.map(|(until_ms, audio)| Chunk { until_ms, audio }).collect();
        let (out, chunks) = mpsc::channel(4);
        let mouth = tokio::spawn(session::speak_in_real_time(pieces, out));
        let report = session::run(
            self.stub.clone(),
            config(sample, self.load.lookahead),
            chunks,
            |_, _| {},
            &self.url,
        )
        .await;
        mouth.abort();
        report
    }
}

impl Outcome {
    fn add(&mut self, report: Report, sample: &Sample) {
        self.sessions += 1;
        self.errors = self.errors.and(WordErrors::of(&sample.reference, &report.text));
        let said: Vec<&str> = sample.words.iter().map(|(word, _)| word.as_str()).collect();
        let heard: Vec<&str> = report.stands.iter().map(|(word, _)| word.as_str()).collect();
        for (said, heard) in common_words(&said, &heard) {
            self.partials_ms.push(report.stands[heard].1 - sample.words[said].1 as f32);
        }
        self.chunks_ms.extend(report.chunks_ms);
        self.overheads_ms.extend(report.overheads_ms);
        self.told_partials_ms.extend(report.partials_ms);
        self.finals_ms.extend(report.final_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wav::Recording;

    #[test]
    fn words_count_from_the_ends_that_are_known() {
        let word = |word: &str, at: u64| (word.to_owned(), at);
        let stands = |word: &str, at: f32| (word.to_owned(), at);
        let sample = Sample {
            recording: Recording { sample_rate_hz: 16_000, channels: 1, samples: vec![0; 16_000] },
            reference: "call me back".into(),
            words: vec![word("call", 300), word("me", 500), word("back", 900)],
        };
        let report = Report {
            text: "call my back".into(),
            stands: vec![stands("call", 420.0), stands("my", 600.0), stands("back", 880.0)],
            partials_ms: vec![5.0],
            ..Report::default()
        };
        let mut outcome = Outcome::default();
        outcome.add(report, &sample);
        assert_eq!(outcome.partials_ms, [120.0, -20.0]);
        assert_eq!(outcome.told_partials_ms, [5.0]);
    }

    #[test]
    fn the_grid_is_found_from_what_was_told() {
        assert_eq!(Grid::of(&[136, 296, 456]), Some(Grid { first_ms: 137, step_ms: 160 }));
        assert_eq!(Grid::of(&[136]), None);
    }
}
