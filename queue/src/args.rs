//! Flags and environment that say where Redis is, the same for gateway and worker.
//!
//! Journey: command line → [`RedisArgs`] → [`RedisConfig`](crate::redis::RedisConfig). One URL, or host, port and login
//! one by one as the published compose files give them. Reads the file of authorities; opens no connection.

use std::path::PathBuf;

use url::Url;

/// Port of Redis where none is said.
const PORT: u16 = 6379;

/// Where Redis is. Flatten these into a program's own flags.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Redis")]
pub struct RedisArgs {
    /// Redis of this deployment, redis:// or rediss://; this machine's own when neither it nor a host is given
    #[arg(long, env = "REDIS_URL", hide_env_values = true)]
    pub redis_url: Option<String>,
    /// Host of Redis, where no URL is given
    #[arg(long, env = "REDIS_HOST")]
    pub redis_host: Option<String>,
    /// Port beside the host; 6379 when not given
    // A cluster sets this variable too, to tcp://ADDRESS:PORT, for every Service that is named redis.
    #[arg(long, env = "REDIS_PORT")]
    pub redis_port: Option<String>,
    /// User beside the host
    #[arg(long, env = "REDIS_USERNAME", hide_env_values = true)]
    pub redis_username: Option<String>,
    /// Password beside the host
    #[arg(long, env = "REDIS_PASSWORD", hide_env_values = true)]
    pub redis_password: Option<String>,
    /// Talk TLS to the host
    #[arg(long, env = "REDIS_TLS", num_args = 0..=1, default_missing_value = "true", default_value = "false",
        value_parser = clap::builder::FalseyValueParser::new())]
    pub redis_tls: bool,
    /// File of the certificate authorities that Redis' certificate is trusted by, as PEM; the system's when not given
    #[arg(long, env = "REDIS_CA_FILE")]
    pub redis_ca_file: Option<PathBuf>,
}

/// Why the flags name no Redis.
#[derive(Debug, thiserror::Error)]
pub enum RedisArgsError {
    /// Host or port do not make an address.
    #[error(
        "failed to read REDIS_HOST {host:?} with REDIS_PORT {port:?}: give a name or address, and a number"
    )]
    InvalidAddress {
        /// The host as given.
        host: String,
        /// The port as given.
        port: String,
    },
    /// The file of authorities cannot be read.
    #[error("failed to read {path:?}, the file named by REDIS_CA_FILE")]
    ReadAuthorities {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
}

impl RedisArgs {
    /// The URL, made of the parts where it is not given.
    pub fn url(&self) -> Result<String, RedisArgsError> {
        let given = |value: &Option<String>| value.clone().filter(|v| !v.trim().is_empty());
        if let Some(url) = given(&self.redis_url) {
            return Ok(url);
        }
        let host = given(&self.redis_host).unwrap_or_else(|| "127.0.0.1".to_owned());
        let port = given(&self.redis_port).filter(|_| given(&self.redis_host).is_some());
        let invalid =
            || RedisArgsError::InvalidAddress { host: host.clone(), port: port.clone().unwrap_or_default() };
        let number = port.as_deref().map(|port| port.rsplit(':').next().unwrap_or(port).parse::<u16>());
        let number = number.transpose().map_err(|_| invalid())?.unwrap_or(PORT);
        let scheme = if self.redis_tls { "rediss" } else { "redis" };
        let mut url = Url::parse(&format!("{scheme}://localhost")).map_err(|_| invalid())?;
        // An IPv6 address stands in brackets in a URL only.
        let bare = host.contains(':') && !host.starts_with('[');
        let host_in_url = if bare { format!("[{host}]") } else { host.clone() };
        url.set_host(Some(&host_in_url)).map_err(|_| invalid())?;
        url.set_port(Some(number)).map_err(|()| invalid())?;
        url.set_username(&given(&self.redis_username).unwrap_or_default()).map_err(|()| invalid())?;
        url.set_password(given(&self.redis_password).as_deref()).map_err(|()| invalid())?;
        Ok(url.into())
    }

    /// The authorities to trust instead of the system's, as PEM.
    pub fn root_certificates(&self) -> Result<Option<String>, RedisArgsError> {
        let read = |path: &PathBuf| {
            let failed = |source| RedisArgsError::ReadAuthorities { path: path.clone(), source };
            std::fs::read_to_string(path).map_err(failed)
        };
        self.redis_ca_file.as_ref().map(read).transpose()
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Program {
        #[command(flatten)]
        redis: RedisArgs,
    }

    fn url(flags: &[&str]) -> Result<String, RedisArgsError> {
        Program::parse_from([&["program"], flags].concat()).redis.url()
    }

    #[test]
    fn a_url_wins_and_parts_make_one() {
        let cases: [(&[&str], &str); 7] = [
            (&[], "redis://127.0.0.1:6379"),
            (&["--redis-url", "rediss://r/2", "--redis-host", "other"], "rediss://r/2"),
            (&["--redis-host", "cache"], "redis://cache:6379"),
            (&["--redis-host", "cache", "--redis-port", "7000", "--redis-tls"], "rediss://cache:7000"),
            (&["--redis-host", "::1", "--redis-password", "p@ss/w:d"], "redis://:p%40ss%2Fw%3Ad@[::1]:6379"),
            (&["--redis-host", "c", "--redis-username", "u", "--redis-password", "p"], "redis://u:p@c:6379"),
            // What a cluster says of a Service that is named redis means nothing where no host is given.
            (&["--redis-port", "tcp://10.0.0.7:6379"], "redis://127.0.0.1:6379"),
        ];
        for (flags, expected) in cases {
            assert_eq!(url(flags).unwrap(), expected, "{flags:?}");
        }
    }

    #[test]
    fn what_is_no_address_is_named() {
        for flags in
            [["--redis-host", "a b", "--redis-port", "1"], ["--redis-host", "a", "--redis-port", "x"]]
        {
            let error = url(&flags).unwrap_err().to_string();
            assert!(error.contains(flags[1]) && error.contains(flags[3]), "{error}");
        }
    }
}
