//! Flags and environment of the program.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use license_proxy::license::LOCALHOST;
use license_proxy::service::ServiceConfig;
use license_proxy::token::{KeyError, TrustedKeys};
use license_proxy::upstream::{Source, SourceError};

/// Validates the license of a speech service and tells gateway and workers whether they may work.
#[derive(Debug, Parser)]
#[command(version, about)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) serve: ServeArgs,
}

/// What else it can do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// For vendors: make a signing key
    Keygen(KeygenArgs),
    /// For vendors: sign a license
    Issue(IssueArgs),
    /// Check a license file and print what it says
    Show(ShowArgs),
    /// Ask the proxy of this host whether it is up, and end with 0 or 1: for those who cannot reach its port
    Probe,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Address to listen on
    #[arg(long, env = "HOST", default_value = "127.0.0.1")]
    pub(crate) host: IpAddr,
    /// Port to listen on
    #[arg(long, env = "PORT", default_value_t = 6699)]
    pub(crate) port: u16,
    /// Signed license
    #[arg(long, env = "LICENSE_FILE", value_name = "FILE")]
    license_file: Option<PathBuf>,
    /// License key, checked with the license server
    #[arg(long, env = "LICENSE_KEY", hide_env_values = true, value_name = "KEY")]
    license_key: Option<String>,
    /// License server
    #[arg(long, env = "LICENSE_SERVER_URL", default_value = "https://api.smallest.ai", value_name = "URL")]
    license_server_url: String,
    /// Further keys whose signatures are trusted: NAME=BASE64, parted by commas
    #[arg(long, env = "LICENSE_TRUSTED_KEYS", default_value = "", value_name = "KEYS")]
    license_trusted_keys: String,
    /// Name of this host, as licenses have it; `localhost` when listening on the loopback address
    #[arg(long, env = "LICENSE_HOST", value_name = "NAME")]
    license_host: Option<String>,
    /// How long a confirmed license lasts while the server is away
    #[arg(long, env = "GRACE_PERIOD_SECONDS", default_value_t = 86_400, value_name = "SECONDS")]
    grace_period_seconds: u64,
    /// How often the license server is asked
    #[arg(long, env = "REVALIDATE_SECONDS", default_value_t = 300, value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    revalidate_seconds: u64,
    /// How long open requests may last after SIGTERM
    #[arg(long, env = "DRAIN_TIMEOUT_MS", default_value_t = 1_000, value_name = "MS")]
    drain_timeout_ms: u64,
    #[command(flatten)]
    pub(crate) telemetry: telemetry::TelemetryArgs,
}

#[derive(Debug, Args)]
pub(crate) struct KeygenArgs {
    /// Name of the key; stands in every license as `kid`
    #[arg(long)]
    pub(crate) name: String,
    /// File to write the secret key to; must not exist
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct IssueArgs {
    /// Secret key, as `keygen` wrote it
    #[arg(long, value_name = "FILE")]
    pub(crate) key: PathBuf,
    /// Name of the key
    #[arg(long)]
    pub(crate) key_name: String,
    /// Who issues the license
    #[arg(long, default_value = "smallest.ai")]
    pub(crate) issuer: String,
    /// Who gets it
    #[arg(long)]
    pub(crate) customer: String,
    /// Id of the license; a fresh one when absent
    #[arg(long)]
    pub(crate) id: Option<String>,
    /// Days that it lasts
    #[arg(long, default_value_t = 365.0)]
    pub(crate) days: f64,
    /// First instant, RFC 3339 such as 2027-01-01T00:00:00Z; now when absent
    #[arg(long, value_name = "TIME")]
    pub(crate) not_before: Option<jiff::Timestamp>,
    /// Components that may serve
    #[arg(long, value_delimiter = ',', default_value = "asr,tts")]
    pub(crate) features: Vec<String>,
    /// Live streams at a time; no limit when absent
    #[arg(long)]
    pub(crate) max_streams: Option<u32>,
    /// Hosts where it is valid: a name, *.domain or localhost; anywhere when absent
    #[arg(long, value_delimiter = ',')]
    pub(crate) hosts: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// License file
    pub(crate) file: PathBuf,
}

impl ServeArgs {
    pub(crate) fn keys(&self) -> Result<TrustedKeys, KeyError> {
        TrustedKeys::with(&self.license_trusted_keys)
    }

    pub(crate) fn source(&self) -> Result<Source, SourceError> {
        Source::new(self.license_file.clone(), self.license_key.clone(), &self.license_server_url)
    }

    pub(crate) fn service_config(&self) -> ServiceConfig {
        ServiceConfig {
            host: self.license_host(),
            grace_period: Duration::from_secs(self.grace_period_seconds),
            revalidate: Duration::from_secs(self.revalidate_seconds),
        }
    }

    pub(crate) fn drain(&self) -> Duration {
        Duration::from_millis(self.drain_timeout_ms)
    }

    /// `localhost` only ever means a proxy that nobody else can reach.
    fn license_host(&self) -> String {
        let named = self.license_host.clone().filter(|name| !name.eq_ignore_ascii_case(LOCALHOST));
        named.unwrap_or_else(|| if self.host.is_loopback() { LOCALHOST.to_owned() } else { hostname() })
    }
}

fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    // Never the word that means this machine alone, even where a machine calls itself so.
    if name.is_empty() || name.eq_ignore_ascii_case(LOCALHOST) {
        "unnamed".to_owned()
    } else {
        name.to_owned()
    }
}
