//! `smallest transcribe`: recordings, standard input, live streams and the microphone, in; text, out.
//!
//! Results go to standard output, everything else (bars, partials, errors) to standard error where a pipe
//! would suffer from it. One failed file does not stop the others; it decides the exit code.

mod batch;
mod live;

use crate::args::TranscribeArgs;
use crate::client::ClientError;
use crate::client::rest::Transcript;
use crate::error::{CliError, exit};
use crate::terminal;
use crate::wav::WavError;
use std::path::PathBuf;
use std::process::ExitCode;

/// Why an input brought no text.
#[derive(Debug, thiserror::Error)]
pub enum TranscribeError {
    /// The file cannot be read.
    #[error("failed to read {}", path.display())]
    ReadInput {
        /// The file, `-` for standard input.
        path: PathBuf,
        /// The system's word.
        #[source]
        source: std::io::Error,
    },
    /// The file cannot be streamed.
    #[error("failed to stream {}: {source}; leave out --stream to send it whole", path.display())]
    StreamInput {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: WavError,
    },
    /// There is no program that listens to a microphone, or it stopped.
    #[error("failed to listen to a microphone: {detail}")]
    Listen {
        /// What was tried and what to do.
        detail: String,
    },
    /// See [`ClientError`].
    #[error(transparent)]
    Client(#[from] ClientError),
}

impl TranscribeError {
    /// A stable word for JSON.
    pub fn reason(&self) -> &str {
        match self {
            Self::ReadInput { .. } => "ReadInput",
            Self::StreamInput { .. } => "StreamInput",
            Self::Listen { .. } => "Listen",
            Self::Client(error) => error.reason(),
        }
    }

    /// The exit code that goes with it.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::ReadInput { .. } | Self::StreamInput { .. } | Self::Listen { .. } => exit::BAD_INPUT,
            Self::Client(error) => error.exit_code(),
        }
    }
}

/// Runs the command; the exit code is that of the first input that failed.
pub async fn run(args: TranscribeArgs) -> Result<ExitCode, CliError> {
    let failed = if args.microphone {
        live::microphone(&args).await?;
        None
    } else if args.stream {
        live::files(&args).await
    } else {
        batch::files(&args).await?
    };
    Ok(failed.map_or(ExitCode::SUCCESS, |error| ExitCode::from(error.exit_code())))
}

/// Prints one result as the arguments want it; `several` inputs are told apart by their names.
fn print(args: &TranscribeArgs, name: &str, transcript: &Transcript) {
    if args.json {
        let mut json = serde_json::json!({ "file": name, "text": transcript.text });
        json["audioSeconds"] = transcript.audio_seconds.into();
        json["requestId"] = transcript.request_id.clone().into();
        if args.words {
            json["words"] = serde_json::json!(transcript.words);
        }
        println!("{json}");
        return;
    }
    if args.files.len() > 1 {
        println!("{name}: {}", transcript.text);
    } else {
        println!("{}", transcript.text);
    }
    if args.words && !transcript.words.is_empty() {
        let mut table = terminal::table(&["word", "start s", "end s", "confidence"]);
        for word in &transcript.words {
            table.add_row([
                word.word.clone(),
                format!("{:.2}", word.start),
                format!("{:.2}", word.end),
                format!("{:.2}", word.confidence),
            ]);
        }
        println!("{table}");
    }
}

/// Tells that one input failed, on standard error and, for JSON, on standard output as well.
fn print_failure(args: &TranscribeArgs, name: &str, error: &TranscribeError) {
    if args.json {
        println!(
            "{}",
            serde_json::json!({ "file": name, "error": error.to_string(), "reason": error.reason() })
        );
    }
    eprintln!("{name}: {error}");
}
