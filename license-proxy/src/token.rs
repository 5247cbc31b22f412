//! The signed text of a license → [`License`], or why it cannot be trusted. Pure.
//!
//! A license is a JSON Web Token signed with Ed25519 (`alg` `EdDSA`); `kid` names the key. The signature is
//! checked here, and that the claims are complete. Times and hosts are not: they change while a program runs
//! and belong to [`crate::decide`].

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};

use crate::license::{AUDIENCE, Claims, License};

/// Longest license text read, bytes.
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;
/// Name of the built-in development key.
pub const DEVELOPMENT_KEY: &str = "development";
/// The built-in development key; its secret half was thrown away after `examples/license` was signed.
const DEVELOPMENT_PEM: &str = include_str!("../keys/development.pub.pem");
/// Bytes of an Ed25519 public key.
const KEY_BYTES: usize = 32;

/// Keys whose signatures are trusted.
#[derive(Clone)]
pub struct TrustedKeys(Vec<TrustedKey>);

#[derive(Clone)]
struct TrustedKey {
    id: String,
    key: DecodingKey,
    development: bool,
}

/// Why a license text cannot be trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Empty or too long.
    #[error("failed to read the license: it has {0} bytes, a license has 1 to {MAX_TOKEN_BYTES}")]
    ReadLength(usize),
    /// Not three parts, no base64, no JSON.
    #[error("failed to read the license: {0}; copy it again, whole and without changes")]
    ParseToken(String),
    /// Signed by an algorithm other than Ed25519.
    #[error("failed to trust the license: it must be signed with EdDSA (Ed25519)")]
    CheckAlgorithm,
    /// Signed with a key that is not trusted.
    #[error("failed to trust the license: key {key:?} is unknown here; known: {}", known.join(", "))]
    FindKey {
        /// Key the license names.
        key: String,
        /// Keys that are trusted.
        known: Vec<String>,
    },
    /// The signature does not fit the text.
    #[error("failed to trust the license: its signature does not fit, so it was changed or damaged")]
    CheckSignature,
    /// The claims are incomplete, or for something else.
    #[error("failed to understand the license: {0}")]
    ReadClaims(String),
}

impl TokenError {
    /// A stable word for conditions, metrics and logs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::ReadLength(_) | Self::ParseToken(_) => "LicenseMalformed",
            Self::CheckAlgorithm | Self::CheckSignature => "LicenseSignatureInvalid",
            Self::FindKey { .. } => "LicenseKeyUnknown",
            Self::ReadClaims(_) => "LicenseClaimsInvalid",
        }
    }
}

/// Why `LICENSE_TRUSTED_KEYS` cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to read trusted key {entry:?}: write NAME=BASE64, 32 bytes of an Ed25519 public key")]
pub struct KeyError {
    entry: String,
}

impl KeyError {
    /// A stable word for logs.
    pub fn reason(&self) -> &'static str {
        "TrustedKeyInvalid"
    }
}

impl TrustedKeys {
    /// The development key and nothing else.
    ///
    /// # Panics
    /// Never: the key is part of the program, and a test reads it.
    pub fn built_in() -> Self {
        let key = DecodingKey::from_ed_pem(DEVELOPMENT_PEM.as_bytes())
            .expect("the file is part of the program and a test reads it");
        Self(vec![TrustedKey { id: DEVELOPMENT_KEY.to_owned(), key, development: true }])
    }

    /// The built-in key and those of a list `NAME=BASE64`, parted by commas or blanks.
    pub fn with(list: &str) -> Result<Self, KeyError> {
        let mut keys = Self::built_in();
        let entries = list.split([',', ' ', '\n', '\t']).filter(|entry| !entry.is_empty());
        for entry in entries {
            let parsed = parse_key(entry).filter(|key| keys.0.iter().all(|other| other.id != key.id));
            keys.0.push(parsed.ok_or_else(|| KeyError { entry: entry.to_owned() })?);
        }
        Ok(keys)
    }

    fn find(&self, id: &str) -> Result<&TrustedKey, TokenError> {
        self.0.iter().find(|key| key.id == id).ok_or_else(|| TokenError::FindKey {
            key: id.to_owned(),
            known: self.0.iter().map(|key| key.id.clone()).collect(),
        })
    }
}

fn parse_key(entry: &str) -> Option<TrustedKey> {
    let (id, text) = entry.split_once('=')?;
    let bytes = STANDARD.decode(text).or_else(|_| URL_SAFE_NO_PAD.decode(text)).ok()?;
    if id.is_empty() || bytes.len() != KEY_BYTES {
        return None;
    }
    Some(TrustedKey { id: id.to_owned(), key: DecodingKey::from_ed_der(&bytes), development: false })
}

/// Reads a license and checks its signature. Blanks and line ends around it do not matter.
pub fn verify(text: &str, keys: &TrustedKeys) -> Result<License, TokenError> {
    let text = text.trim();
    if text.is_empty() || text.len() > MAX_TOKEN_BYTES {
        return Err(TokenError::ReadLength(text.len()));
    }
    let header = jsonwebtoken::decode_header(text).map_err(|error| read_error(error.kind()))?;
    if header.alg != Algorithm::EdDSA {
        return Err(TokenError::CheckAlgorithm);
    }
    let key = keys.find(header.kid.as_deref().unwrap_or_default())?;
    let token = jsonwebtoken::decode::<Claims>(text, &key.key, &validation())
        .map_err(|error| read_error(error.kind()))?;
    let license = License { claims: token.claims, development: key.development };
    if license.starts_ms() >= license.ends_ms() {
        return Err(TokenError::ReadClaims("it ends before it begins".to_owned()));
    }
    Ok(license)
}

/// Only the signature and the audience: times are checked whenever a decision is made, not once.
fn validation() -> Validation {
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.set_audience(&[AUDIENCE]);
    validation.set_required_spec_claims(&["exp", "aud"]);
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation
}

fn read_error(kind: &ErrorKind) -> TokenError {
    match kind {
        ErrorKind::InvalidSignature => TokenError::CheckSignature,
        ErrorKind::InvalidAlgorithm | ErrorKind::UnsupportedAlgorithm | ErrorKind::InvalidAlgorithmName => {
            TokenError::CheckAlgorithm
        }
        ErrorKind::InvalidAudience => {
            TokenError::ReadClaims(format!("it is for another product, not for {AUDIENCE}"))
        }
        ErrorKind::MissingRequiredClaim(claim) => TokenError::ReadClaims(format!("claim {claim} is missing")),
        ErrorKind::InvalidClaimFormat(claim) => TokenError::ReadClaims(format!("claim {claim} is no use")),
        ErrorKind::Json(error) => TokenError::ParseToken(format!("its JSON is damaged ({error})")),
        _ => TokenError::ParseToken("it does not have the form of a signed license".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::issue::{SigningKey, generate};

    const DEVELOPMENT: &str = include_str!("../../examples/license/development.jwt");

    fn claims() -> Claims {
        Claims {
            iss: "vendor".into(),
            aud: AUDIENCE.into(),
            sub: "customer".into(),
            jti: "license-1".into(),
            iat: 1_700_000_000,
            nbf: None,
            exp: 1_900_000_000,
            features: vec!["asr".into()],
            max_streams: Some(7),
            hosts: Vec::new(),
        }
    }

    fn vendor() -> (SigningKey, TrustedKeys) {
        let key = generate("vendor-1").expect("a key");
        let keys = TrustedKeys::with(&key.trusted()).expect("its public half");
        (key, keys)
    }

    #[test]
    fn the_committed_development_license_is_good() {
        let license = verify(DEVELOPMENT, &TrustedKeys::built_in()).expect("license");
        assert!(license.development);
        assert!(license.allows_host("localhost") && !license.allows_host("speech.example.com"));
        assert!(license.allows_component("asr") && license.allows_component("gateway"));
    }

    #[test]
    fn what_is_signed_is_what_is_read() {
        let (key, keys) = vendor();
        let license = verify(&key.sign(&claims()).expect("text"), &keys).expect("license");
        assert_eq!(license, License { claims: claims(), development: false });
    }

    #[test]
    fn a_key_that_is_not_trusted_is_named() {
        let (key, _) = vendor();
        let text = key.sign(&claims()).expect("text");
        let error = verify(&text, &TrustedKeys::built_in()).expect_err("unknown key");
        assert_eq!(error.reason(), "LicenseKeyUnknown");
        assert!(error.to_string().contains("vendor-1") && error.to_string().contains("development"));
    }

    #[test]
    fn another_key_of_the_same_name_is_no_use() {
        let (_, keys) = vendor();
        let text = generate("vendor-1").expect("key").sign(&claims()).expect("text");
        assert_eq!(verify(&text, &keys), Err(TokenError::CheckSignature));
    }

    #[test]
    fn other_products_and_empty_spans_are_refused() {
        let (key, keys) = vendor();
        let other = Claims { aud: "something-else".into(), ..claims() };
        let error = verify(&key.sign(&other).expect("text"), &keys).expect_err("audience");
        assert_eq!(error.reason(), "LicenseClaimsInvalid");
        let empty = Claims { exp: claims().iat, ..claims() };
        let error = verify(&key.sign(&empty).expect("text"), &keys).expect_err("span");
        assert_eq!(error.reason(), "LicenseClaimsInvalid");
    }

    #[test]
    fn unsigned_and_symmetric_tokens_are_refused() {
        let part = |json: &str| URL_SAFE_NO_PAD.encode(json);
        let body = part(&serde_json::to_string(&claims()).expect("json"));
        for alg in ["none", "HS256", "RS256"] {
            let head = part(&format!(r#"{{"alg":"{alg}","typ":"JWT","kid":"development"}}"#));
            let error = verify(&format!("{head}.{body}.AAAA"), &TrustedKeys::built_in());
            let error = error.expect_err("not signed with EdDSA");
            assert!(
                matches!(error, TokenError::CheckAlgorithm | TokenError::ParseToken(_)),
                "{alg}: {error}"
            );
        }
    }

    #[test]
    fn lists_of_keys() {
        let key = generate("a").expect("key").trusted();
        assert!(TrustedKeys::with(&format!(" {key},\n")).is_ok());
        for bad in ["x", "=AAAA", "a=AAAA", "a=!!", &format!("{key},{key}"), "development=AAAA"] {
            assert_eq!(TrustedKeys::with(bad).err().map(|e| e.reason()), Some("TrustedKeyInvalid"), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "\\PC{0,200}") {
            prop_assert!(verify(&text, &TrustedKeys::built_in()).is_err());
        }

        #[test]
        fn any_changed_byte_is_noticed(at in 0usize..444, to in proptest::char::range('!', '~')) {
            let good = DEVELOPMENT.trim();
            let mut bytes: Vec<u8> = good.bytes().collect();
            let at = at % bytes.len();
            prop_assume!(bytes[at] != to as u8);
            bytes[at] = to as u8;
            let text = String::from_utf8(bytes).expect("ascii");
            let changed = verify(&text, &TrustedKeys::built_in());
            prop_assert!(changed.is_err(), "{text}");
        }

        #[test]
        fn any_shortened_license_is_refused(length in 0usize..440) {
            let good = DEVELOPMENT.trim();
            prop_assert!(verify(&good[..length.min(good.len() - 1)], &TrustedKeys::built_in()).is_err());
        }
    }
}
