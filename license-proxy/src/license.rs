//! What a license says. Pure.

use serde::{Deserialize, Serialize};

/// Audience of every license for this product.
pub const AUDIENCE: &str = "smallest-self-hosted";
/// The host that means: only on the machine itself.
pub const LOCALHOST: &str = "localhost";

/// The claims of a license, as they stand in the signed token. Times are Unix seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Who issued it.
    pub iss: String,
    /// For which product; [`AUDIENCE`].
    pub aud: String,
    /// For which customer.
    pub sub: String,
    /// Id of the license.
    pub jti: String,
    /// When it was issued.
    pub iat: u64,
    /// Not valid before; when it was issued if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nbf: Option<u64>,
    /// Not valid from here on.
    pub exp: u64,
    /// Components that may serve: `asr`, `tts`.
    pub features: Vec<String>,
    /// Live streams at a time; no limit if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_streams: Option<u32>,
    /// Hosts where it is valid: `localhost`, a name, or `*.domain`. Empty means anywhere.
    #[serde(default)]
    pub hosts: Vec<String>,
}

/// A license whose signature was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct License {
    /// What it says.
    pub claims: Claims,
    /// It was signed with the development key: valid on this machine and for quickstarts only, whatever it says.
    pub development: bool,
}

impl License {
    /// First instant it is valid, Unix milliseconds.
    pub fn starts_ms(&self) -> u64 {
        self.claims.nbf.unwrap_or(self.claims.iat).saturating_mul(1000)
    }

    /// First instant it is no longer valid, Unix milliseconds.
    pub fn ends_ms(&self) -> u64 {
        self.claims.exp.saturating_mul(1000)
    }

    /// Whether it is valid on this host.
    pub fn allows_host(&self, host: &str) -> bool {
        // A quickstart in a cluster is what this machine is elsewhere.
        let host = if self.development && is_quickstart(host) { LOCALHOST } else { host };
        if self.development && !host.eq_ignore_ascii_case(LOCALHOST) {
            return false;
        }
        self.claims.hosts.is_empty() || self.claims.hosts.iter().any(|pattern| matches(pattern, host))
    }

    /// Whether this component may serve. Parts that are no feature, such as the gateway, always may.
    pub fn allows_component(&self, component: &str) -> bool {
        !matches!(component, "asr" | "tts") || self.claims.features.iter().any(|f| f == component)
    }
}

/// Name of a deployment called `quickstart`, in any namespace: `quickstart.<namespace>.svc`.
fn is_quickstart(host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    let namespace = host.strip_prefix("quickstart.").and_then(|rest| rest.strip_suffix(".svc"));
    namespace.is_some_and(|namespace| !namespace.is_empty() && !namespace.contains('.'))
}

fn matches(pattern: &str, host: &str) -> bool {
    let (pattern, host) = (pattern.to_ascii_lowercase(), host.to_ascii_lowercase());
    match pattern.strip_prefix('*') {
        Some(domain) if domain.starts_with('.') => host.len() > domain.len() && host.ends_with(domain),
        Some(_) => false,
        None => pattern == host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quickstart_is_known_by_its_whole_name() {
        for (host, known) in [
            ("quickstart.default.svc", true),
            ("Quickstart.Speech.svc", true),
            ("quickstart.svc", false),
            ("quickstart..svc", false),
            ("quickstart.default", false),
            ("my-quickstart.default.svc", false),
            ("speech.quickstart.svc", false),
            ("quickstart.a.b.svc", false),
            ("quickstart.default.svc.example.com", false),
        ] {
            assert_eq!(is_quickstart(host), known, "{host}");
        }
    }

    #[test]
    fn hosts_match_whole_names_and_domains() {
        for (pattern, host, fits) in [
            ("localhost", "LOCALHOST", true),
            ("speech.example.com", "speech.example.com", true),
            ("example.com", "speech.example.com", false),
            ("*.example.com", "speech.example.com", true),
            ("*.example.com", "a.b.example.com", true),
            ("*.example.com", "example.com", false),
            ("*.example.com", ".example.com", false),
            ("*example.com", "badexample.com", false),
            ("*", "anything", false),
        ] {
            assert_eq!(matches(pattern, host), fits, "{pattern} {host}");
        }
    }
}
