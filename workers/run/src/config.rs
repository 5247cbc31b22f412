//! Flags and environment of `smallest-worker`, parsed once into what the rest needs.
//!
//! Journey: `[config] → load → warm → ready → work → drain`. Names follow the published ones. Must not know: anything
//! that happens afterwards.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::model_source::{Checksum, ModelError, ModelSource};

/// Recordings to work on at once when nobody says how many.
const BATCH_SLOTS: u16 = 8;

/// The worker of Smallest's self-hosted speech platform.
#[derive(Debug, Parser)]
#[command(name = "smallest-worker", version)]
pub struct Cli {
    /// What to serve.
    #[command(subcommand)]
    pub command: Command,
}

/// Kinds of workers.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Recognizes speech: live streams and recordings
    Asr(Box<AsrArgs>),
    /// Synthesizes speech: not in this version, but for ENGINE=fake, which answers the queue of TTS for tests
    Tts(Box<AsrArgs>),
}

/// What a worker serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Component {
    /// Speech recognition.
    Asr,
    /// Speech synthesis.
    Tts,
}

/// The flags of a worker; each may come from the environment.
#[derive(Debug, Clone, Args)]
pub struct AsrArgs {
    /// Address to serve health and metrics on
    #[arg(long, env = "HOST", default_value = "127.0.0.1")]
    pub host: IpAddr,
    /// Port of /health; 2233 for asr and 8876 for tts when not given
    #[arg(long, env = "PORT")]
    pub port: Option<u16>,
    /// Port of /metrics; 9090 for asr and 9190 for tts when not given
    #[arg(long, env = "METRICS_PORT")]
    pub metrics_port: Option<u16>,
    /// Deployment to work for, as namespace/name
    #[arg(long, env = "SMALLEST_DEPLOYMENT", default_value = "default/quickstart")]
    pub deployment: String,
    /// Name of the pod it runs in, for its registration
    #[arg(long, env = "POD_NAME")]
    pub pod_name: Option<String>,
    /// License proxy beside this worker; may be empty for the fake engine only
    #[arg(long, env = "LICENSE_PROXY_URL", default_value = "http://127.0.0.1:6699")]
    pub license_proxy_url: String,
    /// Model folder: `file://` or `https://`, holding config.json, model.safetensors and tokenizer.json
    #[arg(long, env = "MODEL_URL")]
    pub model_url: Option<ModelSource>,
    /// Digest the model must have: `sha256:…` of `sha256sum config.json model.safetensors tokenizer.json`'s output
    #[arg(long, env = "MODEL_CHECKSUM", default_value = "")]
    pub model_checksum: Wanted,
    /// Where downloaded models are kept
    #[arg(long, env = "MODEL_CACHE_DIR", default_value = "/smallest/models")]
    pub model_cache_dir: PathBuf,
    /// Name clients use for the model; the last part of the model URL when not given
    #[arg(long, env = "MODEL_NAME")]
    pub model_name: Option<String>,
    /// Where to run the model
    #[arg(long, env = "DEVICE", value_enum, default_value_t = Device::Auto)]
    pub device: Device,
    /// Type to compute in
    #[arg(long, env = "MODEL_PRECISION", value_enum, default_value_t = Precision::Fp32)]
    pub precision: Precision,
    /// Live streams to hold at once: a number, or `auto` for what this machine does in time
    #[arg(long, env = "SLOTS", default_value = "auto")]
    pub slots: SlotCount,
    /// Recordings to work on at once; 8 when not given, fewer where the engine has no slots for them
    #[arg(long, env = "BATCH_SLOTS", value_parser = clap::value_parser!(u16).range(1..=512))]
    pub batch_slots: Option<u16>,
    /// Seconds of audio of all recordings claimed at once
    #[arg(long, env = "BATCH_AUDIO_SECONDS", default_value_t = 7_200)]
    pub batch_audio_seconds: u64,
    /// Threads of the model on a CPU; half of the cores when not given, since idle threads spin, and 1 beside a GPU
    #[arg(long, env = "TORCH_THREADS")]
    pub torch_threads: Option<usize>,
    /// What runs the model
    #[arg(long, env = "ENGINE", value_enum, default_value_t = EngineKind::Torch)]
    pub engine: EngineKind,
    /// Milliseconds each chunk costs on the fake engine
    #[arg(long, env = "FAKE_CHUNK_COST_MS", default_value_t = 0, hide = true)]
    pub fake_chunk_cost_ms: u64,
    /// Milliseconds that a complete chunk waits for others to share its step
    #[arg(long, env = "COALESCE_MS", default_value_t = 0)]
    pub coalesce_ms: u64,
    /// Seconds without a word from a client until its session is closed
    #[arg(long, env = "SESSION_IDLE_SECONDS", default_value_t = 300)]
    pub session_idle_seconds: u64,
    /// Milliseconds that a claim lives without a heartbeat; the same for all programs of a deployment
    #[arg(long, env = "QUEUE_LEASE_MS", default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(100..))]
    pub queue_lease_ms: u64,
    /// Milliseconds that running work may take after SIGTERM; then it is handed back
    #[arg(long, env = "DRAIN_TIMEOUT_MS", default_value_t = 30_000)]
    pub drain_timeout_ms: u64,
    /// Where Redis is.
    #[command(flatten)]
    pub redis: queue::args::RedisArgs,
    /// Logs and spans.
    #[command(flatten)]
    pub telemetry: telemetry::TelemetryArgs,
}

/// Where to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Device {
    /// A GPU when there is one, else the CPU
    Auto,
    /// The CPU
    Cpu,
    /// A GPU; an error when there is none
    Cuda,
}

/// Type of weights and activations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Precision {
    /// 32-bit floating point
    Fp32,
    /// bfloat16
    Bf16,
}

/// What runs the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EngineKind {
    /// libtorch
    Torch,
    /// A deterministic engine without a model, for tests
    Fake,
}

/// How many live streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotCount {
    /// As many as the machine does in time.
    Auto,
    /// So many.
    Exactly(usize),
}

impl FromStr for SlotCount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" | "" => Ok(Self::Auto),
            number => match number.parse() {
                Ok(n @ 1..=4_096) => Ok(Self::Exactly(n)),
                _ => Err("use auto or a number from 1 to 4096".to_owned()),
            },
        }
    }
}

/// A checksum that may be asked for; an empty value counts as none, as Kubernetes manifests often have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted(Option<Checksum>);

impl FromStr for Wanted {
    type Err = ModelError;

    fn from_str(text: &str) -> Result<Self, ModelError> {
        if text.is_empty() { Ok(Self(None)) } else { text.parse().map(|sum| Self(Some(sum))) }
    }
}

impl Component {
    /// Its name in the queue and in licenses.
    pub fn name(self) -> &'static str {
        match self {
            Self::Asr => "asr",
            Self::Tts => "tts",
        }
    }

    /// Ports of health and metrics, when none are given.
    fn ports(self) -> (u16, u16) {
        match self {
            Self::Asr => (2233, 9090),
            Self::Tts => (8876, 9190),
        }
    }
}

impl Command {
    /// What to serve, and how.
    pub fn parts(self) -> (Component, AsrArgs) {
        match self {
            Self::Asr(args) => (Component::Asr, *args),
            Self::Tts(args) => (Component::Tts, *args),
        }
    }
}

impl AsrArgs {
    /// Address of `/health`.
    pub fn health_address(&self, component: Component) -> SocketAddr {
        SocketAddr::new(self.host, self.port.unwrap_or(component.ports().0))
    }

    /// Address of `/metrics`.
    pub fn metrics_address(&self, component: Component) -> SocketAddr {
        SocketAddr::new(self.host, self.metrics_port.unwrap_or(component.ports().1))
    }

    /// Recordings to work on at once, if the engine has slots for them.
    pub fn wanted_jobs(&self) -> usize {
        usize::from(self.batch_slots.unwrap_or(BATCH_SLOTS))
    }

    /// Longest drain.
    pub fn drain_timeout(&self) -> Duration {
        Duration::from_millis(self.drain_timeout_ms)
    }

    /// The digest the model must have, if one is asked for.
    pub fn checksum(&self) -> Option<&Checksum> {
        self.model_checksum.0.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn slots_are_auto_or_a_number() {
        assert_eq!("auto".parse(), Ok(SlotCount::Auto));
        assert_eq!("12".parse(), Ok(SlotCount::Exactly(12)));
        assert!("0".parse::<SlotCount>().is_err());
        assert!("many".parse::<SlotCount>().is_err());
    }

    #[test]
    fn ports_are_those_of_the_component() {
        let ports = |words: &[&str]| {
            let cli = Cli::try_parse_from([&["smallest-worker"], words].concat()).unwrap();
            let (component, args) = cli.command.parts();
            (args.health_address(component).port(), args.metrics_address(component).port())
        };
        assert_eq!(ports(&["asr"]), (2233, 9090));
        assert_eq!(ports(&["tts"]), (8876, 9190));
        assert_eq!(ports(&["tts", "--port", "1", "--metrics-port", "2"]), (1, 2));
    }

    #[test]
    fn an_empty_checksum_is_none() {
        let parse = |sum: &str| {
            let cli = Cli::try_parse_from(["smallest-worker", "asr", "--model-checksum", sum])?;
            let (_, args) = cli.command.parts();
            Ok::<_, clap::Error>(args.checksum().cloned())
        };
        assert_eq!(parse("").unwrap(), None);
        assert!(parse(&format!("sha256:{}", "a".repeat(64))).unwrap().is_some());
        assert!(parse("md5:1").is_err());
    }
}
