//! `smallest up --demo`: speaks a sentence at the fresh service and shows what comes back, and how fast.
//!
//! Comes in: a service and a recording. Goes out: the words as they come (in place on a terminal), the
//! final transcript with word times, latencies, and how to talk to the service oneself.

use crate::args::Service;
use crate::bench::stats::Distribution;
use crate::client::session::{self, Chunk};
use crate::client::timeline::{Report, Timeline, to_std};
use crate::client::{self, ClientError};
use crate::terminal::{Paint, Palette};
use crate::wav::Recording;
use proto::speech::v1::streaming_recognize_response::Response;
use proto::speech::v1::{AudioEncoding, RecognitionConfig, StreamingConfig, Word};
use std::io::Write;
use std::path::Path;
use tokio::sync::mpsc;

/// Milliseconds of audio a message: what telephones and browsers send.
const CHUNK_MS: u32 = 20;

/// What a live session of a recording asks for.
pub fn streaming_config(recording: &Recording) -> StreamingConfig {
    StreamingConfig {
        config: Some(RecognitionConfig {
            encoding: AudioEncoding::Linear16.into(),
            sample_rate_hz: recording.sample_rate_hz,
            channels: u32::from(recording.channels),
            word_timestamps: true,
            ..Default::default()
        }),
        interim_results: true,
        progress: true,
        ..Default::default()
    }
}

/// Speaks `recording` in real time; `file` is only named.
pub async fn speak(service: &Service, file: &Path, recording: &Recording) -> Result<Report, ClientError> {
    let palette = Palette::stdout();
    println!();
    println!(
        "{} {} ({:.1} s), spoken in real time to {}",
        palette.paint(Paint::Bold, "▶"),
        file.display(),
        recording.duration_ms() as f32 / 1000.0,
        service.url
    );
    let stub = client::connect(service).await?;
    let (out, chunks) = mpsc::channel(4);
    let prepared = recording.chunks(CHUNK_MS).into_iter().map(|(until_ms, audio)| Chunk { until_ms, audio });
    tokio::spawn(session::speak_in_real_time(prepared.collect(), out));
    let mut printer = Partials::new(palette);
    let config = streaming_config(recording);
    let report = session::run(stub, config, chunks, |r, t| printer.show(r, t), &service.url).await?;
    printer.finish();
    print_report(&report, palette);
    Ok(report)
}

/// Prints the text as it grows: in place on a terminal, a line for each change otherwise.
#[derive(Debug)]
pub struct Partials {
    palette: Palette,
    last: String,
}

impl Partials {
    /// Nothing said yet.
    pub fn new(palette: Palette) -> Self {
        Self { palette, last: String::new() }
    }

    /// Shows the text after a response, if it changed.
    pub fn show(&mut self, response: &Response, timeline: &Timeline) {
        if !matches!(response, Response::Result(_)) {
            return;
        }
        let text = timeline.text();
        if text == self.last {
            return;
        }
        match self.palette {
            // Back to the line's start and clear it; a long text shows its end, in one line.
            Palette::Colour => print!("\r\u{1b}[K  {}", self.palette.paint(Paint::Dim, &tail(&text, 100))),
            Palette::Plain => println!("  partial  {text}"),
        }
        // A terminal that cannot be written to is nothing to stop for.
        let _ = std::io::stdout().flush();
        self.last = text;
    }

    /// Leaves the line free.
    pub fn finish(&self) {
        if self.palette == Palette::Colour && !self.last.is_empty() {
            print!("\r\u{1b}[K");
        }
    }
}

fn tail(text: &str, columns: usize) -> String {
    let count = text.chars().count();
    if count <= columns {
        text.to_owned()
    } else {
        format!("…{}", text.chars().skip(count + 1 - columns).collect::<String>())
    }
}

fn print_report(report: &Report, palette: Palette) {
    let label = |text| palette.paint(Paint::Bold, text);
    println!("  {}    {}", label("final"), palette.paint(Paint::Green, &report.text));
    println!("  {}    {}", label("words"), word_times(&report.words));
    let partials = Distribution::of(&report.partials_ms);
    let lags = Distribution::of(&report.lags_ms);
    println!(
        "  {}  a word stands {:.0} ms after its end (median); audio is answered {:.0} ms (median), {:.0} ms (p99) after it is spoken; \
         final {:.0} ms after the last sample",
        label("latency"),
        partials.p50,
        lags.p50,
        lags.p99,
        report.final_ms.unwrap_or_default()
    );
}

/// `hello 0.32-0.60  world 0.64-1.00`.
pub fn word_times(words: &[Word]) -> String {
    let one = |word: &Word| {
        let (start, end) =
            (to_std(word.start.as_ref()).as_secs_f32(), to_std(word.end.as_ref()).as_secs_f32());
        format!("{} {start:.2}-{end:.2}", word.word)
    };
    words.iter().map(one).collect::<Vec<_>>().join("  ")
}

/// How to talk to the service oneself: lines to copy.
pub fn print_ways(url: &str, file: &Path) {
    let palette = Palette::stdout();
    let file = file.display();
    let host = url.trim_start_matches("http://");
    println!();
    println!("{}", palette.paint(Paint::Bold, "Talk to it:"));
    let ways = [
        (
            "a recording",
            format!(
                "curl -sS -H 'Content-Type: audio/wav' --data-binary @{file} \
                 '{url}/api/v1/lightning/get_text?word_timestamps=true'"
            ),
        ),
        ("OpenAI's API", format!("curl -sS -F file=@{file} -F model=demo-asr {url}/v1/audio/transcriptions")),
        ("live, gRPC", format!("smallest transcribe --stream --url {url} {file}")),
        ("gRPC, by hand", format!("grpcurl -plaintext {host} list smallest.speech.v1.Speech")),
        (
            "live, WebSocket",
            format!(
                "(tail -c +45 {file}; sleep 1) | websocat -b 'ws://{host}/api/v1/lightning/get_text?sample_rate=16000'"
            ),
        ),
        ("your voice", format!("smallest transcribe --microphone --url {url}")),
        ("how it is", format!("smallest status; curl -sS {url}/metrics")),
    ];
    for (what, command) in ways {
        println!("  {}  {command}", palette.paint(Paint::Dim, &format!("{what:<15}")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_shows_its_end() {
        assert_eq!(tail("short", 10), "short");
        assert_eq!(tail("0123456789abc", 5), "…9abc");
    }

    #[test]
    fn words_are_shown_with_their_times() {
        let at = |ms: i32| Some(prost_types::Duration { seconds: 0, nanos: ms * 1_000_000 });
        let word = Word { word: "hello".into(), start: at(320), end: at(600), confidence: 1.0 };
        assert_eq!(word_times(&[word]), "hello 0.32-0.60");
    }
}
