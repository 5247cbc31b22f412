//! Live audio: a WAV file in real time, raw samples from standard input, or a microphone.
//!
//! A microphone is a child program's standard output (`arecord`, `parec` or `pw-record`): no sound library
//! is linked, and whatever the machine uses for sound works.

use super::{TranscribeError, print, print_failure};
use crate::args::TranscribeArgs;
use crate::client;
use crate::client::rest::{TimedWord, Transcript};
use crate::client::session::{self, Chunk};
use crate::client::timeline::{Report, to_std};
use crate::demo::{Partials, streaming_config};
use crate::terminal::Palette;
use crate::wav::Recording;
use proto::speech::v1::StreamingConfig;
use std::path::Path;
use std::process::Stdio;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

/// Milliseconds of audio a message.
const CHUNK_MS: u32 = 40;
/// Samples a second of a microphone and of raw standard input.
const LIVE_RATE_HZ: u32 = 16_000;
/// Programs that write a microphone's samples (16 kHz, one channel, s16le) to standard output.
const RECORDERS: [(&str, &[&str]); 3] = [
    ("arecord", &["-q", "-t", "raw", "-f", "S16_LE", "-r", "16000", "-c", "1"]),
    ("parec", &["--raw", "--format=s16le", "--rate=16000", "--channels=1", "--latency-msec=40"]),
    ("pw-record", &["--format=s16", "--rate=16000", "--channels=1", "-"]),
];

/// Streams files one after the other; the first failure comes back after all are done.
pub(super) async fn files(args: &TranscribeArgs) -> Option<TranscribeError> {
    let mut first_failure = None;
    for path in &args.files {
        let name = path.display().to_string();
        let report = if path == Path::new("-") { stdin(args).await } else { file(args, path).await };
        match report {
            Ok(report) => print(args, &name, &transcript(report)),
            Err(error) => {
                print_failure(args, &name, &error);
                first_failure = first_failure.or(Some(error));
            }
        }
    }
    first_failure
}

/// Listens until Ctrl-C or until the recorder stops.
pub(super) async fn microphone(args: &TranscribeArgs) -> Result<(), TranscribeError> {
    let (recorder, mut child) = start_recorder()?;
    eprintln!("listening through {recorder}; Ctrl-C ends");
    let Some(sound) = child.stdout.take() else {
        return Err(TranscribeError::Listen { detail: format!("{recorder} gave no output") });
    };
    let (out, chunks) = mpsc::channel(8);
    let reader = tokio::spawn(read_raw(sound, out));
    let stop = reader.abort_handle();
    tokio::spawn(async move {
        // Ctrl-C ends the audio, not the session: the last words still come.
        if tokio::signal::ctrl_c().await.is_ok() {
            stop.abort();
        }
    });
    let live = Recording { sample_rate_hz: LIVE_RATE_HZ, channels: 1, samples: Vec::new() };
    let report = run(args, &live, chunks).await;
    let _ = child.kill().await;
    let report = report?;
    if report.chunks_ms.is_empty() {
        let detail =
            format!("{recorder} gave no sound; is a microphone there? (`{recorder}` alone tells more)");
        return Err(TranscribeError::Listen { detail });
    }
    print(args, "microphone", &transcript(report));
    Ok(())
}

async fn file(args: &TranscribeArgs, path: &Path) -> Result<Report, TranscribeError> {
    let read = tokio::fs::read(path).await;
    let bytes = read.map_err(|source| TranscribeError::ReadInput { path: path.to_owned(), source })?;
    let recording = Recording::parse(&bytes)
        .map_err(|source| TranscribeError::StreamInput { path: path.to_owned(), source })?;
    let (out, chunks) = mpsc::channel(4);
    let pieces = recording.chunks(CHUNK_MS).into_iter().map(|(until_ms, audio)| Chunk { until_ms, audio });
    tokio::spawn(session::speak_in_real_time(pieces.collect(), out));
    run(args, &recording, chunks).await
}

async fn stdin(args: &TranscribeArgs) -> Result<Report, TranscribeError> {
    let (out, chunks) = mpsc::channel(8);
    tokio::spawn(read_raw(tokio::io::stdin(), out));
    let live = Recording { sample_rate_hz: LIVE_RATE_HZ, channels: 1, samples: Vec::new() };
    run(args, &live, chunks).await
}

async fn run(
    args: &TranscribeArgs,
    format: &Recording,
    chunks: mpsc::Receiver<Chunk>,
) -> Result<Report, TranscribeError> {
    let stub = client::connect(&args.service).await?;
    let mut config: StreamingConfig = streaming_config(format);
    if let Some(recognition) = &mut config.config {
        recognition.language = args.language.clone().unwrap_or_default();
        recognition.model = args.model.clone().unwrap_or_default();
    }
    let palette = Palette::stdout();
    let mut printer = Partials::new(palette);
    let quiet = args.json || palette == Palette::Plain;
    let observe = |response: &_, timeline: &_| {
        if !quiet {
            printer.show(response, timeline);
        }
    };
    let report = session::run(stub, config, chunks, observe, &args.service.url).await;
    printer.finish();
    Ok(report?)
}

/// Reads raw samples as they come, in pieces of a chunk, until the input ends or nobody listens.
async fn read_raw(mut input: impl AsyncRead + Unpin, out: mpsc::Sender<Chunk>) {
    let bytes_a_second = LIVE_RATE_HZ as usize * 2;
    let mut piece = vec![0_u8; bytes_a_second * CHUNK_MS as usize / 1000];
    let (mut held, mut sent) = (0, 0_u64);
    loop {
        let read = input.read(&mut piece[held..]).await.unwrap_or_default();
        held += read;
        if held == piece.len() || (read == 0 && held > 1) {
            let whole = held - held % 2;
            sent += whole as u64;
            let chunk =
                Chunk { until_ms: sent * 1000 / bytes_a_second as u64, audio: piece[..whole].to_vec() };
            if out.send(chunk).await.is_err() {
                return;
            }
            held = 0;
        }
        if read == 0 {
            return;
        }
    }
}

fn start_recorder() -> Result<(&'static str, Child), TranscribeError> {
    for (recorder, args) in RECORDERS {
        let child = Command::new(recorder)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            // Ctrl-C must end the audio first, so it may not reach the recorder directly.
            .process_group(0)
            .spawn();
        if let Ok(child) = child {
            return Ok((recorder, child));
        }
    }
    let detail = "none of arecord, parec and pw-record is there; install one (Debian: apt-get install alsa-utils), \
                  or pipe 16 kHz 16-bit samples: … | smallest transcribe --stream -";
    Err(TranscribeError::Listen { detail: detail.into() })
}

fn transcript(report: Report) -> Transcript {
    let seconds = |at: &Option<prost_types::Duration>| to_std(at.as_ref()).as_secs_f64();
    let words = report.words.iter().map(|word| TimedWord {
        word: word.word.clone(),
        start: seconds(&word.start),
        end: seconds(&word.end),
        confidence: f64::from(word.confidence),
    });
    Transcript {
        words: words.collect(),
        text: report.text,
        audio_seconds: report.audio_seconds,
        request_id: report.request_id,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn raw_samples_come_in_chunks_with_their_positions() {
        let bytes = vec![7_u8; 1280 * 2 + 11];
        let (out, mut chunks) = mpsc::channel(8);
        read_raw(bytes.as_slice(), out).await;
        let mut seen = Vec::new();
        while let Some(chunk) = chunks.recv().await {
            seen.push((chunk.until_ms, chunk.audio.len()));
        }
        assert_eq!(seen, [(40, 1280), (80, 1280), (80, 10)]);
    }
}
