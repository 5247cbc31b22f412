//! The live load: `streams` speakers at the same time, each one session after the other, in real time.

use super::BenchError;
use super::samples::Sample;
use super::stats::WordErrors;
use crate::args::Service;
use crate::client::session::{self, Chunk};
use crate::client::timeline::Report;
use crate::client::{self, ClientError, Stub};
use crate::demo::streaming_config;
use proto::speech::v1::StreamingConfig;
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

/// What is put on the service.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    pub(super) streams: u32,
    pub(super) duration: Duration,
    pub(super) chunk_ms: u32,
    pub(super) lookahead: u32,
}

/// What came back, of all sessions but the first of each speaker (those warm up).
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) sessions: usize,
    pub(super) chunks_ms: Vec<f32>,
    pub(super) overheads_ms: Vec<f32>,
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
                Session::Heard { report, reference, audio_ms } => {
                    spoken_ms += audio_ms;
                    outcome.add(report, &reference);
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
    Heard { report: Report, reference: String, audio_ms: u64 },
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
            let sample = &self.samples[(self.index as usize + round) % self.samples.len()];
            match self.speak(sample).await {
                // The first session of each speaker warms up.
                Ok(_) if round == 0 => {}
                Ok(report) => sessions.push(Session::Heard {
                    report,
                    reference: sample.reference.clone(),
                    audio_ms: sample.recording.duration_ms(),
                }),
                Err(error) => {
                    sessions.push(Session::Failed(error));
                    tokio::time::sleep(AFTER_FAILURE).await;
                }
            }
        }
        sessions
    }

    async fn speak(&self, sample: &Sample) -> Result<Report, ClientError> {
        let mut config: StreamingConfig = streaming_config(&sample.recording);
        if let Some(recognition) = &mut config.config {
            recognition.lookahead_frames = Some(self.load.lookahead);
        }
        let pieces = sample.recording.chunks(self.load.chunk_ms).into_iter();
        let pieces = pieces.map(|(until_ms, audio)| Chunk { until_ms, audio }).collect();
        let (out, chunks) = mpsc::channel(4);
        let mouth = tokio::spawn(session::speak_in_real_time(pieces, out));
        let report = session::run(self.stub.clone(), config, chunks, |_, _| {}, &self.url).await;
        mouth.abort();
        report
    }
}

impl Outcome {
    fn add(&mut self, report: Report, reference: &str) {
        self.sessions += 1;
        self.errors = self.errors.and(WordErrors::of(reference, &report.text));
        self.chunks_ms.extend(report.chunks_ms);
        self.overheads_ms.extend(report.overheads_ms);
        self.partials_ms.extend(report.partials_ms);
        self.finals_ms.extend(report.final_ms);
    }
}
