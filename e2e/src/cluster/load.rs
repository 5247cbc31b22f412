//! Load of the stories: words that the fake engine understands, live streams that stay open as long as a story wants.

use crate::clients::stream_chunks;
use crate::samples::Sample;
use anyhow::Context;
use cli::args;
use cli::client::ClientError;
use cli::client::session::Chunk;
use cli::client::timeline::Report;
use cli::wav::Recording;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use workers_engine::fake::{silence, speak};

/// Milliseconds of audio a message.
const CHUNK_MS: u64 = 100;
/// Bytes of a millisecond: 16 kHz, 16 bits.
const BYTES_A_MS: usize = 32;

/// A recording that says the words to the fake engine.
pub fn spoken(words: &[&str]) -> Sample {
    let recording = Recording { sample_rate_hz: 16_000, channels: 1, samples: speak(words) };
    let wav = recording.to_wav();
    Sample { path: PathBuf::from(words.join("-")), wav, recording, reference: words.join(" ") }
}

/// A live stream that says its words at once and then keeps silent until it is told to end.
#[derive(Debug)]
pub struct LiveStream {
    words: String,
    end: watch::Sender<bool>,
    running: JoinHandle<Result<Report, ClientError>>,
}

impl LiveStream {
    /// Opens a stream.
    pub fn open(service: &args::Service, words: &[&str]) -> Self {
        let sample = spoken(words);
        let (end, ended) = watch::channel(false);
        let (out, chunks) = mpsc::channel(4);
        tokio::spawn(talk(sample.clone(), out, ended));
        let service = service.clone();
        let running = tokio::spawn(async move { stream_chunks(&service, &sample, chunks).await });
        Self { words: words.join(" "), end, running }
    }

    /// Opens so many streams; each says another number.
    pub fn open_many(service: &args::Service, count: usize) -> Vec<Self> {
        let words = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"];
        (0..count).map(|index| Self::open(service, &["this", "is", words[index % words.len()]])).collect()
    }

    /// Has it ended by itself, which is too early?
    pub fn is_over(&self) -> bool {
        self.running.is_finished()
    }

    /// Ends the stream; every word that was said must have been heard, once.
    pub async fn finish(self) -> anyhow::Result<()> {
        // Nobody listens any more when the stream broke; its result says why.
        let _ = self.end.send(true);
        let report = self.running.await?.with_context(|| format!("the stream that said {:?}", self.words))?;
        let heard = plain(&report.text);
        anyhow::ensure!(heard == self.words, "said {:?}, heard {:?}", self.words, report.text);
        Ok(())
    }
}

/// Ends all streams; the first that lost a word is the error.
pub async fn finish_all(streams: Vec<LiveStream>) -> anyhow::Result<()> {
    let ended = streams.into_iter().map(LiveStream::finish);
    futures::future::join_all(ended).await.into_iter().collect()
}

/// Words only: lower case, no punctuation.
pub fn plain(text: &str) -> String {
    let kept = |c: &char| c.is_ascii_alphanumeric() || *c == ' ' || *c == '\'';
    text.to_lowercase().chars().filter(kept).collect::<String>().trim().to_owned()
}

/// Speaks in real time, then sends silence in real time until told to end.
async fn talk(sample: Sample, out: mpsc::Sender<Chunk>, mut ended: watch::Receiver<bool>) {
    let began = Instant::now();
    let speech = sample.recording.chunks(u32::try_from(CHUNK_MS).unwrap_or(100));
    let said_ms = speech.last().map_or(0, |(until_ms, _)| *until_ms);
    let quiet = vec![0_u8; BYTES_A_MS * usize::try_from(CHUNK_MS).unwrap_or(100)];
    let silence = (1_u64..).map(|step| (said_ms + step * CHUNK_MS, quiet.clone()));
    for (until_ms, audio) in speech.into_iter().chain(silence) {
        tokio::select! {
            () = sleep_until(began + Duration::from_millis(until_ms)) => {}
            _ = ended.wait_for(|ended| *ended), if until_ms > said_ms => return,
        }
        if out.send(Chunk { until_ms, audio }).await.is_err() {
            return;
        }
    }
}

/// A recording that takes the fake engine some steps: words, and so many seconds of silence.
pub fn long_recording(words: &[&str], seconds: u32) -> Sample {
    let mut sample = spoken(words);
    sample.recording.samples.extend(silence(seconds * 1_000));
    sample.wav = sample.recording.to_wav();
    sample
}
