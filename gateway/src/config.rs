//! What the gateway is started with: flags and environment, parsed once into one value.
//!
//! `Args` is what people write; [`Config`] is what the rest may rely on: it only exists when it makes sense.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use sha2::{Digest, Sha256};

/// Flags and environment of `smallest-gateway`.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "smallest-gateway",
    version,
    about = "Serves the speech API on one port: HTTP, WebSocket, gRPC"
)]
pub struct Args {
    /// Address to listen on.
    #[arg(long, env = "HOST", default_value = "127.0.0.1")]
    pub host: IpAddr,
    /// Port for everything: REST, WebSocket, gRPC, health and metrics; 0 takes a free one.
    #[arg(long, env = "PORT", default_value_t = 7100)]
    pub port: u16,
    /// Components that the deployment has: this gateway registers with each of them.
    #[arg(long, env = "COMPONENTS", value_enum, value_delimiter = ',', default_value = "asr")]
    pub components: Vec<Component>,
    /// Scope of all Redis keys: namespace/name of the deployment.
    #[arg(long, env = "SMALLEST_DEPLOYMENT", default_value = "default/quickstart")]
    pub deployment: String,
    /// Name of the pod it runs in, for its registration.
    #[arg(long, env = "POD_NAME")]
    pub pod_name: Option<String>,
    /// The license proxy beside this gateway.
    #[arg(long, env = "LICENSE_PROXY_URL", default_value = "http://127.0.0.1:6699")]
    pub license_proxy_url: String,
    /// File of API keys, one a line, plain or as SHA-256 in hex; without it no key is needed.
    #[arg(long, env = "API_KEYS_FILE")]
    pub api_keys_file: Option<PathBuf>,
    /// Serve without keys on an address that other machines can reach.
    #[arg(long, env = "ALLOW_ANONYMOUS", default_value_t = false, action = clap::ArgAction::Set)]
    pub allow_anonymous: bool,
    /// Which addresses of a {"url": …} request are fetched.
    #[arg(long, env = "ALLOW_URL_FETCH", value_enum, default_value_t = UrlFetch::None)]
    pub allow_url_fetch: UrlFetch,
    /// Model names that mean "the default model", so that clients written for other services work.
    #[arg(
        long,
        env = "MODEL_ALIASES",
        value_delimiter = ',',
        default_value = "default,pulse,pulse-pro,lightning,lightning-asr,whisper-1,gpt-4o-transcribe"
    )]
    pub model_aliases: Vec<String>,
    /// Language when the request names none and no worker is known yet.
    #[arg(long, env = "DEFAULT_LANGUAGE", default_value = "en")]
    pub default_language: String,
    /// Limits.
    #[command(flatten)]
    pub limits: Limits,
    /// Where Redis is.
    #[command(flatten)]
    pub redis: queue::args::RedisArgs,
    /// Logs and spans.
    #[command(flatten)]
    pub telemetry: telemetry::TelemetryArgs,
}

/// A kind of workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Component {
    /// Speech recognition.
    Asr,
    /// Speech synthesis.
    Tts,
}

impl Args {
    /// Components beside ASR, whose queue is the gateway's own.
    pub fn beside(&self) -> &'static [&'static str] {
        if self.components.contains(&Component::Tts) { &["tts"] } else { &[] }
    }
}

/// Bounds of everything that could grow.
#[derive(Debug, Clone, Parser)]
pub struct Limits {
    /// Largest body in bytes.
    #[arg(long, env = "MAX_BODY_BYTES", default_value_t = 250_000_000)]
    pub max_body_bytes: u64,
    /// Longest recording in seconds.
    #[arg(long, env = "MAX_AUDIO_SECONDS", default_value_t = 7_200)]
    pub max_audio_seconds: u64,
    /// Bodies and decoded audio of all requests together, in bytes.
    #[arg(long, env = "MAX_BUFFERED_BYTES", default_value_t = 1_500_000_000)]
    pub max_buffered_bytes: u64,
    /// Batch requests at once.
    #[arg(long, env = "MAX_ACTIVE_REQUESTS", default_value_t = 512)]
    pub max_active_requests: u32,
    /// Live streams at once.
    #[arg(long, env = "MAX_STREAMS", default_value_t = 2_000)]
    pub max_streams: u32,
    /// Connections at once.
    #[arg(long, env = "MAX_CONNECTIONS", default_value_t = 10_000)]
    pub max_connections: u32,
    /// Recordings decoded at once; 0 is one for every core.
    #[arg(long, env = "DECODE_THREADS", default_value_t = 0)]
    pub decode_threads: usize,
    /// Longest wait of a live session for a free worker, milliseconds.
    #[arg(long, env = "QUEUE_TIMEOUT_MS", default_value = "30000", value_parser = millis)]
    pub queue_timeout_ms: Duration,
    /// Longest wait of a live session while no worker is ready at all, milliseconds: one starts, or is scaled up
    /// from zero for this very session.
    #[arg(long, env = "WORKER_START_TIMEOUT_MS", default_value = "300000", value_parser = millis)]
    pub worker_start_timeout_ms: Duration,
    /// Longest wait for the answer to a batch request, milliseconds.
    #[arg(long, env = "REQUEST_TIMEOUT_MS", default_value = "300000", value_parser = millis)]
    pub request_timeout_ms: Duration,
    /// A request body or stream from which nothing comes for this long ends, milliseconds.
    #[arg(long, env = "IDLE_TIMEOUT_MS", default_value = "60000", value_parser = millis)]
    pub idle_timeout_ms: Duration,
    /// A live session without any event although audio waits is looked after, milliseconds.
    #[arg(long, env = "STALL_TIMEOUT_MS", default_value = "15000", value_parser = millis)]
    pub stall_timeout_ms: Duration,
    /// How long running requests and streams may take to finish after SIGTERM, milliseconds.
    #[arg(long, env = "DRAIN_TIMEOUT_MS", default_value = "30000", value_parser = millis)]
    pub drain_timeout_ms: Duration,
    /// How long new requests are still taken after SIGTERM, milliseconds: load balancers need time to hear of it.
    #[arg(long, env = "DRAIN_DELAY_MS", default_value = "0", value_parser = millis)]
    pub drain_delay_ms: Duration,
    /// Results that may wait for one client that does not read.
    #[arg(long, env = "MAX_UNREAD_RESULTS", default_value_t = 1_024)]
    pub max_unread_results: usize,
    /// Interval of WebSocket and HTTP/2 pings, milliseconds; a peer silent for two of them is cut off.
    #[arg(long, env = "PING_INTERVAL_MS", default_value = "15000", value_parser = millis)]
    pub ping_interval_ms: Duration,
}

/// Which addresses are fetched on behalf of clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum UrlFetch {
    /// None: clients send the audio itself.
    None,
    /// Only hosts with public addresses.
    Public,
    /// Any host this gateway can reach, also inside the cluster. Metadata services stay closed.
    Any,
}

/// A configuration that makes sense.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Accepted API keys.
    pub keys: Keys,
    /// Name of its pod.
    pub pod_name: Option<String>,
    /// Which addresses are fetched.
    pub url_fetch: UrlFetch,
    /// Model names that mean the default model, lower case.
    pub model_aliases: Aliases,
    /// Language when none is named.
    pub default_language: String,
    /// Limits.
    pub limits: Limits,
}

/// Names, lower case.
pub type Aliases = HashSet<String>;

/// Accepted API keys, held only as digests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keys {
    /// No key is needed.
    Anonymous,
    /// SHA-256 digests of the accepted keys.
    Sha256(HashSet<[u8; 32]>),
}

impl Keys {
    /// Reads a key file: one key a line, plain or 64 hex digits; blank lines and `#` comments are skipped.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let lines = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
        let keys: HashSet<_> = lines.map(|l| unhex(l).unwrap_or_else(|| digest(l))).collect();
        if keys.is_empty() { Err(ConfigError::NoKeys) } else { Ok(Self::Sha256(keys)) }
    }

    /// Whether a key is accepted.
    pub fn accept(&self, key: &str) -> bool {
        match self {
            Self::Anonymous => true,
            Self::Sha256(keys) => keys.contains(&digest(key)),
        }
    }
}

impl Config {
    /// Checks the arguments; `key_file` is the content of the key file, when there is one.
    pub fn parse(args: &Args, key_file: Option<&str>) -> Result<Self, ConfigError> {
        let keys = match key_file {
            Some(text) => Keys::parse(text)?,
            None if args.host.is_loopback() || args.allow_anonymous => Keys::Anonymous,
            None => return Err(ConfigError::OpenToTheWorld(args.host)),
        };
        Ok(Self {
            listen: SocketAddr::new(args.host, args.port),
            keys,
            pod_name: args.pod_name.clone().filter(|pod| !pod.is_empty()),
            url_fetch: args.allow_url_fetch,
            model_aliases: args.model_aliases.iter().map(|m| m.trim().to_lowercase()).collect(),
            default_language: args.default_language.clone(),
            limits: args.limits.clone(),
        })
    }
}

/// Why the gateway cannot start with these arguments.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Nobody would be kept out.
    #[error(
        "failed to open {0} without API keys: set API_KEYS_FILE, or ALLOW_ANONYMOUS=true if everyone may use it"
    )]
    OpenToTheWorld(IpAddr),
    /// The key file holds nothing.
    #[error("failed to read API keys: the file named by API_KEYS_FILE holds none")]
    NoKeys,
}

fn millis(text: &str) -> Result<Duration, std::num::ParseIntError> {
    text.parse().map(Duration::from_millis)
}

fn digest(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut out = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, pair) in out.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(list: &[&str]) -> Args {
        Args::parse_from(std::iter::once("smallest-gateway").chain(list.iter().copied()))
    }

    #[test]
    fn loopback_needs_no_key_but_the_world_does() {
        assert_eq!(Config::parse(&args(&[]), None).unwrap().keys, Keys::Anonymous);
        let open = args(&["--host", "0.0.0.0"]);
        assert!(matches!(Config::parse(&open, None), Err(ConfigError::OpenToTheWorld(_))));
        assert!(Config::parse(&open, Some("secret")).is_ok());
        assert!(Config::parse(&args(&["--host", "0.0.0.0", "--allow-anonymous", "true"]), None).is_ok());
    }

    #[test]
    fn keys_are_accepted_plain_and_as_digest() {
        let hex = digest("hashed").map(|b| format!("{b:02x}")).concat();
        let keys = Keys::parse(&format!("# people\nplain\n\n{hex}\n")).unwrap();
        assert!(keys.accept("plain") && keys.accept("hashed"));
        assert!(!keys.accept(&hex) && !keys.accept("") && !keys.accept("# people"));
        assert_eq!(Keys::parse("# nobody\n"), Err(ConfigError::NoKeys));
    }
}
