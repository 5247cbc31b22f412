//! Who asks: the client certificate of a connection and the headers of a request → [`User`]. Pure, but for the certificate
//! library.
//!
//! Callers never come here themselves: they ask the apiserver, which knows who they are, checks that they may, and passes
//! the request on with their names in headers. Its own certificate says that the headers are its own: signed by the front
//! proxy's authority, with one of the allowed names. Both, and the names of the headers, stand in the `ConfigMap`
//! `kube-system/extension-apiserver-authentication`. Everybody else is nobody.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::http::HeaderMap;
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Groups and extras that are read of one request.
const MOST_HEADERS: usize = 256;

/// Groups that everybody belongs to, known or not, and the name of those who are not.
const AUTHENTICATED: &str = "system:authenticated";
const UNAUTHENTICATED: &str = "system:unauthenticated";
const ANONYMOUS: &str = "system:anonymous";

/// Whom the apiserver says it is, and where it writes its callers' names.
#[derive(Debug)]
pub struct FrontProxy {
    verifier: Arc<dyn ClientCertVerifier>,
    /// Empty means that the authority signs for nobody else.
    allowed_names: Vec<String>,
    username_headers: Vec<String>,
    uid_headers: Vec<String>,
    group_headers: Vec<String>,
    extra_prefixes: Vec<String>,
}

/// Who asks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct User {
    /// Name.
    pub name: String,
    /// Unique id, if the apiserver passes it on.
    pub uid: Option<String>,
    /// Groups.
    pub groups: Vec<String>,
    /// Whatever else is known.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// A `ConfigMap` that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to read the ConfigMap extension-apiserver-authentication: {key} {detail}")]
pub struct ConfigError {
    key: &'static str,
    detail: String,
}

impl ConfigError {
    /// A stable word for logs.
    pub fn reason(&self) -> &'static str {
        "AuthenticationConfigInvalid"
    }
}

impl FrontProxy {
    /// Reads the data of the `ConfigMap`.
    pub fn parse(data: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        let key = "requestheader-client-ca-file";
        let refuse = |detail: String| ConfigError { key, detail };
        let pem =
            data.get(key).ok_or_else(|| refuse("is missing: the apiserver has no front proxy".to_owned()))?;
        let mut roots = RootCertStore::empty();
        for authority in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            let authority = authority.map_err(|error| refuse(format!("is no PEM: {error:?}")))?;
            roots.add(authority).map_err(|error| refuse(format!("holds no authority: {error}")))?;
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| refuse(format!("holds no authority: {error}")))?;
        Ok(Self {
            verifier,
            allowed_names: list(data, "requestheader-allowed-names", &[])?,
            username_headers: list(data, "requestheader-username-headers", &["X-Remote-User"])?,
            uid_headers: list(data, "requestheader-uid-headers", &["X-Remote-Uid"])?,
            group_headers: list(data, "requestheader-group-headers", &["X-Remote-Group"])?,
            extra_prefixes: list(data, "requestheader-extra-headers-prefix", &["X-Remote-Extra-"])?,
        })
    }

    /// The user of a request on a connection with these certificates; else why nobody is believed.
    pub fn user(
        &self,
        peer: &[CertificateDer<'_>],
        headers: &HeaderMap,
        now: UnixTime,
    ) -> Result<User, String> {
        let Some((certificate, intermediates)) = peer.split_first() else {
            return Err("no client certificate: only the apiserver is answered, ask through it".to_owned());
        };
        self.verifier
            .verify_client_cert(certificate, intermediates, now)
            .map_err(|error| format!("the client certificate is not the apiserver's: {error}"))?;
        let name = common_name(certificate).unwrap_or_default();
        if !self.allowed_names.is_empty() && !self.allowed_names.contains(&name) {
            return Err(format!("the client certificate is for {name:?}, which is no front proxy"));
        }
        let first = |names: &[String]| {
            names.iter().flat_map(|name| texts(headers, name)).find(|text| !text.is_empty())
        };
        let name = first(&self.username_headers).ok_or("the apiserver named no user")?;
        let groups = self.group_headers.iter().flat_map(|name| texts(headers, name));
        let groups = with_everybody(&name, groups.take(MOST_HEADERS).collect());
        Ok(User { name, uid: first(&self.uid_headers), groups, extra: self.extra(headers) })
    }

    fn extra(&self, headers: &HeaderMap) -> BTreeMap<String, Vec<String>> {
        let mut extra = BTreeMap::<String, Vec<String>>::new();
        for (name, value) in headers.iter().take(MOST_HEADERS) {
            // Names of headers come in lower case.
            let key = self.extra_prefixes.iter().find_map(|prefix| {
                let prefix = prefix.to_ascii_lowercase();
                name.as_str().strip_prefix(&prefix).filter(|key| !key.is_empty()).map(unescape)
            });
            if let (Some(key), Ok(value)) = (key, value.to_str()) {
                extra.entry(key).or_default().push(value.to_owned());
            }
        }
        extra
    }
}

impl User {
    /// Members of this group may do everything, as in the apiserver.
    pub fn is_master(&self) -> bool {
        self.groups.iter().any(|group| group == "system:masters")
    }
}

/// Who is known belongs to `system:authenticated`, whether the apiserver writes that into the headers or not: for its own
/// questions (discovery, `OpenAPI`) it does not.
fn with_everybody(user: &str, mut groups: Vec<String>) -> Vec<String> {
    let said = groups.iter().any(|group| matches!(group.as_str(), AUTHENTICATED | UNAUTHENTICATED));
    if !said && user != ANONYMOUS {
        groups.push(AUTHENTICATED.to_owned());
    }
    groups
}

fn list(
    data: &BTreeMap<String, String>,
    key: &'static str,
    absent: &[&str],
) -> Result<Vec<String>, ConfigError> {
    let Some(text) = data.get(key) else { return Ok(absent.iter().map(|&text| text.to_owned()).collect()) };
    serde_json::from_str(text).map_err(|error| ConfigError { key, detail: format!("is no list: {error}") })
}

fn texts<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = String> + use<'a> {
    headers
        .get_all(name.to_ascii_lowercase())
        .iter()
        .filter_map(|value| Some(value.to_str().ok()?.to_owned()))
}

fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let name = certificate.subject().iter_common_name().next()?;
    name.as_str().ok().map(str::to_owned)
}

/// Keys of extras may hold what headers may not: it comes as `%xx`.
fn unescape(key: &str) -> String {
    let mut bytes = Vec::with_capacity(key.len());
    let mut rest = key.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let code = (byte == b'%').then(|| std::str::from_utf8(after.get(..2)?).ok()).flatten();
        let escaped = code.and_then(|code| u8::from_str_radix(code, 16).ok());
        bytes.push(escaped.unwrap_or(byte));
        rest = if escaped.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_who_is_known_is_authenticated() {
        for (user, groups, expected) in [
            ("system:aggregator", vec![], vec![AUTHENTICATED]),
            ("hpa", vec!["a"], vec!["a", AUTHENTICATED]),
            ("hpa", vec![AUTHENTICATED, "a"], vec![AUTHENTICATED, "a"]),
            (ANONYMOUS, vec![UNAUTHENTICATED], vec![UNAUTHENTICATED]),
            (ANONYMOUS, vec![], vec![]),
        ] {
            let groups = groups.into_iter().map(str::to_owned).collect();
            assert_eq!(with_everybody(user, groups), expected, "{user}");
        }
    }

    #[test]
    fn escaped_keys_are_read() {
        for (key, plain) in [
            ("scopes", "scopes"),
            ("example.com%2fkey", "example.com/key"),
            ("%", "%"),
            ("%2", "%2"),
            ("%zz", "%zz"),
            ("a%20b%", "a b%"),
        ] {
            assert_eq!(unescape(key), plain);
        }
    }

    #[test]
    fn a_config_map_that_cannot_be_used_says_what_is_wrong() {
        let with =
            |pem: Option<&str>| pem.map(|pem| ("requestheader-client-ca-file".to_owned(), pem.to_owned()));
        for (data, part) in [
            (with(None), "is missing"),
            (with(Some("")), "holds no authority"),
            (
                with(Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")),
                "holds no authority",
            ),
        ] {
            let error = FrontProxy::parse(&data.into_iter().collect()).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
