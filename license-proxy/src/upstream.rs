//! Where the license comes from: a signed file, or a key that the license server turns into a signed license.
//!
//! The server is asked `GET {url}/validate` with `Authorization: Bearer {key}` and answers 200 with
//! `{"license": "<signed license>"}`, or 401 or 403 for no. Anything else counts as away. Each check is one
//! bounded round of attempts; who calls again, and when, is `service`'s matter.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::decide::{DenyReason, Known};
use crate::license::License;
use crate::token::{self, MAX_TOKEN_BYTES, TokenError, TrustedKeys};

/// Longest wait for a connection to the license server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for its answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// Attempts of one check.
const ATTEMPTS: u32 = 3;
/// Pause before the second attempt; the third waits twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// Largest answer read.
const MAX_ANSWER_BYTES: usize = 4 * MAX_TOKEN_BYTES;

/// Where the license comes from.
pub enum Source {
    /// There is none.
    None,
    /// A signed license in a file, which may be replaced at any time.
    File(PathBuf),
    /// A license server.
    Server(Server),
}

/// A license server and the key to show it.
pub struct Server {
    client: reqwest::Client,
    url: String,
    key: String,
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A license; from a server if `confirmed`.
    License {
        /// The license.
        license: License,
        /// The server confirmed it just now.
        confirmed: bool,
    },
    /// No, and no earlier yes counts any more.
    No {
        /// Why.
        reason: DenyReason,
        /// Why, for people.
        message: String,
    },
    /// The server gave no answer that counts; an earlier yes lasts for the grace period.
    Away {
        /// What happened, for people.
        message: String,
    },
}

/// Why a source cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Two sources.
    #[error("failed to choose a license: LICENSE_FILE and LICENSE_KEY are both set; keep one")]
    ChooseSource,
    /// No usable address.
    #[error("failed to use license server {url:?}: write http://HOST or https://HOST")]
    ParseUrl {
        /// The address.
        url: String,
    },
    /// No HTTP client.
    #[error("failed to set up the way to the license server")]
    BuildClient(#[source] reqwest::Error),
}

impl SourceError {
    /// A stable word for logs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::ChooseSource => "TwoLicenses",
            Self::ParseUrl { .. } => "LicenseServerInvalid",
            Self::BuildClient(_) => "LicenseClientFailed",
        }
    }
}

#[derive(Deserialize)]
struct Answer {
    license: String,
}

impl Source {
    /// The source that the configuration names.
    pub fn new(file: Option<PathBuf>, key: Option<String>, server_url: &str) -> Result<Self, SourceError> {
        let key = key.map(|key| key.trim().to_owned()).filter(|key| !key.is_empty());
        match (file, key) {
            (Some(_), Some(_)) => Err(SourceError::ChooseSource),
            (Some(file), None) => Ok(Self::File(file)),
            (None, Some(key)) => Server::new(server_url, key).map(Self::Server),
            (None, None) => Ok(Self::None),
        }
    }

    /// Looks once.
    pub async fn check(&self, keys: &TrustedKeys) -> Found {
        match self {
            Self::None => Found::No {
                reason: DenyReason::LicenseMissing,
                message: "no license was given: set LICENSE_FILE, or LICENSE_KEY".to_owned(),
            },
            Self::File(path) => check_file(path, keys).await,
            Self::Server(server) => server.check(keys).await,
        }
    }

    /// The license needs a server's word.
    pub fn is_server(&self) -> bool {
        matches!(self, Self::Server(_))
    }
}

impl Known {
    /// What is known after a check at `now_ms`.
    #[must_use]
    pub fn after(self, found: Found, now_ms: u64) -> Self {
        match (found, self) {
            (Found::License { license, confirmed: false }, _) => Self::Offline(license),
            (Found::License { license, confirmed: true }, _) => {
                Self::Confirmed { license, confirmed_ms: now_ms, unreachable: false }
            }
            (Found::No { reason, message }, _) => Self::Nothing { reason, message },
            (Found::Away { .. }, Self::Confirmed { license, confirmed_ms, .. }) => {
                Self::Confirmed { license, confirmed_ms, unreachable: true }
            }
            (Found::Away { message }, _) => {
                Self::Nothing { reason: DenyReason::LicenseServerUnreachable, message }
            }
        }
    }
}

async fn check_file(path: &PathBuf, keys: &TrustedKeys) -> Found {
    match tokio::fs::read(path).await {
        Ok(bytes) if bytes.len() > MAX_TOKEN_BYTES => refused(&TokenError::ReadLength(bytes.len())),
        Ok(bytes) => read(&String::from_utf8_lossy(&bytes), keys, false),
        Err(error) => Found::No {
            reason: DenyReason::LicenseMissing,
            message: format!("license file {} cannot be read: {error}", path.display()),
        },
    }
}

fn read(text: &str, keys: &TrustedKeys, confirmed: bool) -> Found {
    match token::verify(text, keys) {
        Ok(license) => Found::License { license, confirmed },
        Err(error) => refused(&error),
    }
}

fn refused(error: &TokenError) -> Found {
    let reason = match error {
        TokenError::ReadLength(_) | TokenError::ParseToken(_) => DenyReason::LicenseMalformed,
        TokenError::CheckAlgorithm | TokenError::CheckSignature => DenyReason::LicenseSignatureInvalid,
        TokenError::FindKey { .. } => DenyReason::LicenseKeyUnknown,
        TokenError::ReadClaims(_) => DenyReason::LicenseClaimsInvalid,
    };
    Found::No { reason, message: error.to_string() }
}

impl Server {
    fn new(url: &str, key: String) -> Result<Self, SourceError> {
        let url = url.trim_end_matches('/').to_owned();
        let good = reqwest::Url::parse(&url).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
        if !good {
            return Err(SourceError::ParseUrl { url });
        }
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(ANSWER_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(SourceError::BuildClient)?;
        Ok(Self { client, url, key })
    }

    async fn check(&self, keys: &TrustedKeys) -> Found {
        let mut pause = FIRST_PAUSE;
        let mut found = self.ask(keys).await;
        for _ in 1..ATTEMPTS {
            if !matches!(found, Found::Away { .. }) {
                break;
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
            found = self.ask(keys).await;
        }
        found
    }

    async fn ask(&self, keys: &TrustedKeys) -> Found {
        let away = |what: String| Found::Away { message: format!("license server {}: {what}", self.url) };
        let request = self.client.get(format!("{}/validate", self.url)).bearer_auth(&self.key);
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => return away(kind(&error).to_owned()),
        };
        match response.status().as_u16() {
            200 => {}
            401 | 403 => {
                let message = format!(
                    "license server {} refused the key ({}): check LICENSE_KEY",
                    self.url,
                    response.status()
                );
                return Found::No { reason: DenyReason::LicenseRejected, message };
            }
            status => return away(format!("answered {status}")),
        }
        match body(response).await {
            Some(answer) => match read(&answer.license, keys, true) {
                // A server with a damaged answer is a server in trouble, not a customer without a license.
                Found::No { message, .. } => away(format!("its license cannot be used: {message}")),
                found => found,
            },
            None => away("answered something else than a license".to_owned()),
        }
    }
}

/// Reads a bounded body.
async fn body(mut response: reqwest::Response) -> Option<Answer> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.ok()? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > MAX_ANSWER_BYTES {
            return None;
        }
    }
    serde_json::from_slice(&bytes).ok()
}

/// What happened, without the address: it is told already.
fn kind(error: &reqwest::Error) -> &'static str {
    if error.is_timeout() {
        "no answer in time"
    } else if error.is_connect() {
        "connection refused or not found"
    } else {
        "the connection broke"
    }
}
