//! The command line: what a person may ask for, in `clap`'s terms. Parsing only, no decisions.

use clap::{Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  the work failed (the message says which and why)
  2  the command line is wrong
  3  nothing answers at the address
  4  the service refused: key, license, limit or overload
  5  an input cannot be used: a missing file, or audio that is not audio
  6  a port is taken, or the deployment already runs";

/// Speech recognition on your own machines.
#[derive(Debug, Parser)]
#[command(name = "smallest", version, about, after_help = EXIT_CODES)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs a whole service on this machine from a `SmallestDeployment` file, until Ctrl-C
    Up(UpArgs),
    /// Tells how the services that run on this machine are
    Status(StatusArgs),
    /// Turns recordings, a stream or a microphone into text
    Transcribe(TranscribeArgs),
    /// Measures a service
    Bench {
        /// What to measure.
        #[command(subcommand)]
        what: BenchCommand,
    },
    /// Works with model folders
    Model {
        /// What to do with it.
        #[command(subcommand)]
        what: ModelCommand,
    },
    /// Prints a completion script for a shell: `smallest completions bash > /etc/bash_completion.d/smallest`
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Becomes a program whose life ends with its parent's (used by `up`)
    #[command(hide = true)]
    Launch(LaunchArgs),
}

/// Which ports a local run listens on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PortChoice {
    /// The published ones: gateway 7100, Redis 6379, license proxy 6699, workers 2233 and up
    Default,
    /// Any free ones; the addresses are printed (for tests and a second service beside the first)
    Free,
}

/// `smallest up`.
#[derive(Debug, clap::Args)]
pub struct UpArgs {
    /// File with a `SmallestDeployment` and the Secrets it names (YAML, several documents)
    #[arg(short, long, value_name = "FILE")]
    pub file: PathBuf,
    /// Once ready, speaks a sentence at the service and prints what comes back, then stays up
    #[arg(long)]
    pub demo: bool,
    /// The recording that `--demo` speaks (WAV)
    #[arg(long, value_name = "WAV", requires = "demo", env = "SMALLEST_DEMO_WAV")]
    pub demo_audio: Option<PathBuf>,
    /// Ports to listen on
    #[arg(long, value_enum, default_value_t = PortChoice::Default)]
    pub ports: PortChoice,
    /// Seconds to wait until every program is ready
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub ready_timeout: u64,
    /// Once ready, runs this command with `SMALLEST_URL` set, stops the service, and exits as the command did
    #[arg(last = true, value_name = "COMMAND", conflicts_with = "demo")]
    pub then: Vec<String>,
}

/// `smallest status`.
#[derive(Debug, clap::Args)]
pub struct StatusArgs {
    /// One JSON document instead of tables
    #[arg(long)]
    pub json: bool,
}

/// Where the service is and how to be let in.
#[derive(Debug, Clone, clap::Args)]
pub struct Service {
    /// Address of the gateway
    #[arg(long, env = "SMALLEST_URL", default_value = "http://127.0.0.1:7100")]
    pub url: String,
    /// API key, where the service asks for one (better through the environment than in the arguments)
    #[arg(long, env = "SMALLEST_API_KEY", hide_env_values = true)]
    pub api_key: Option<String>,
}

/// `smallest transcribe`.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub struct TranscribeArgs {
    /// Recordings (WAV, FLAC, MP3, OGG, MP4 …); `-` is standard input
    #[arg(value_name = "FILE", required_unless_present = "microphone")]
    pub files: Vec<PathBuf>,
    /// Listens to the microphone instead (through `arecord`, `parec` or `pw-record`) until Ctrl-C
    #[arg(long, conflicts_with = "files")]
    pub microphone: bool,
    /// Sends the audio as it is spoken and prints the words as they come (WAV, or raw 16 kHz samples on `-`)
    #[arg(long)]
    pub stream: bool,
    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
    /// Prints a table of words with their times
    #[arg(long)]
    pub words: bool,
    /// Language of the speech, such as `en`; the deployment's default otherwise
    #[arg(long)]
    pub language: Option<String>,
    /// Model to use; the deployment's default otherwise
    #[arg(long)]
    pub model: Option<String>,
    /// Recordings sent at the same time
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub parallel: u16,
    /// The service.
    #[command(flatten)]
    pub service: Service,
}

/// `smallest bench …`.
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Live streams in real time, batch speed, error rate and latencies of speech recognition
    Asr(BenchAsrArgs),
    /// Time from start to ready, and CPU while nobody calls, of a service that it starts itself
    Service(BenchServiceArgs),
}

/// `smallest bench asr`.
#[derive(Debug, clap::Args)]
pub struct BenchAsrArgs {
    /// Live streams at the same time
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub streams: u32,
    /// Seconds that the streams speak
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub seconds: u64,
    /// Encoder frames the model looks ahead, which decides the chunk: 3 is 160 ms for the demo model
    #[arg(long, default_value_t = 3)]
    pub lookahead: u32,
    /// Folder with recordings (WAV) and samples.json, which lists them with what is said
    #[arg(long, value_name = "DIR", default_value = "models/demo-asr/samples")]
    pub samples: PathBuf,
    /// Steps the number of streams up until the 99th percentile reaches 100 ms
    #[arg(long)]
    pub find_capacity: bool,
    /// Leaves out the batch part
    #[arg(long)]
    pub no_batch: bool,
    /// Put in front of each row's case, to tell the rows of several services apart
    #[arg(long)]
    pub label: Option<String>,
    /// File that the JSON rows are appended to
    #[arg(long, value_name = "FILE", default_value = "target/bench/asr.jsonl")]
    pub out: PathBuf,
    /// The service.
    #[command(flatten)]
    pub service: Service,
}

/// `smallest bench service`.
#[derive(Debug, clap::Args)]
pub struct BenchServiceArgs {
    /// File with a `SmallestDeployment`, as for `smallest up`; it must not run already
    #[arg(short, long, value_name = "FILE")]
    pub file: PathBuf,
    /// Starts that are timed
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub repeats: u32,
    /// Seconds for which the idle service is watched; 0 leaves it out
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(0..=3600))]
    pub idle_seconds: u64,
    /// File that the JSON rows are appended to
    #[arg(long, value_name = "FILE", default_value = "target/bench/service.jsonl")]
    pub out: PathBuf,
}

/// `smallest model …`.
#[derive(Debug, Subcommand)]
pub enum ModelCommand {
    /// Prints the digest of a model folder, as `spec.asr.models[].sha256` wants it
    Digest(DigestArgs),
}

/// `smallest model digest`.
#[derive(Debug, clap::Args)]
pub struct DigestArgs {
    /// Folder with config.json, model.safetensors and tokenizer.json
    pub dir: PathBuf,
}

/// `smallest launch` (hidden).
#[derive(Debug, clap::Args)]
pub struct LaunchArgs {
    /// Process id of the supervisor; another parent means that it is gone already
    #[arg(long)]
    pub parent: i32,
    /// The program and its arguments
    #[arg(last = true, required = true)]
    pub command: Vec<std::ffi::OsString>,
}
