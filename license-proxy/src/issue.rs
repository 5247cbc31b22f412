//! The vendor's side: make a key, sign a license. Also how tests get licenses of every kind.

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};

use crate::license::Claims;

const PEM_HEAD: &str = "-----BEGIN PRIVATE KEY-----";
const PEM_TAIL: &str = "-----END PRIVATE KEY-----";

/// A secret key that signs licenses.
pub struct SigningKey {
    id: String,
    pair: Ed25519KeyPair,
}

/// Why a license cannot be issued.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// No randomness, or no name.
    #[error("failed to generate a key: {0}")]
    GenerateKey(&'static str),
    /// The key file is no use.
    #[error("failed to read the signing key: it must be an Ed25519 key in PKCS#8 PEM, as `keygen` writes")]
    ReadKey,
    /// Signing failed.
    #[error("failed to sign the license")]
    SignLicense(#[source] jsonwebtoken::errors::Error),
}

impl IssueError {
    /// A stable word for logs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::GenerateKey(_) => "KeyNotGenerated",
            Self::ReadKey => "KeyUnreadable",
            Self::SignLicense(_) => "LicenseNotSigned",
        }
    }
}

/// Makes a new key. Its name goes into every license as `kid`.
pub fn generate(id: &str) -> Result<SigningKey, IssueError> {
    check(id)?;
    let pair = Ed25519KeyPair::generate().map_err(|_| IssueError::GenerateKey("no randomness"))?;
    Ok(SigningKey { id: id.to_owned(), pair })
}

fn check(id: &str) -> Result<(), IssueError> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if id.is_empty() || id.len() > 64 || !id.chars().all(good) {
        return Err(IssueError::GenerateKey("its name takes 1 to 64 letters, digits, '-', '_' and '.'"));
    }
    Ok(())
}

impl SigningKey {
    /// Reads the PEM text that [`SigningKey::to_pem`] made.
    pub fn from_pem(id: &str, pem: &str) -> Result<Self, IssueError> {
        check(id)?;
        let body = pem.trim().strip_prefix(PEM_HEAD).and_then(|rest| rest.strip_suffix(PEM_TAIL));
        let body: String = body.ok_or(IssueError::ReadKey)?.split_whitespace().collect();
        let der = STANDARD.decode(body).map_err(|_| IssueError::ReadKey)?;
        let pair = Ed25519KeyPair::from_pkcs8(&der).map_err(|_| IssueError::ReadKey)?;
        Ok(Self { id: id.to_owned(), pair })
    }

    /// The secret key as PEM. Whoever has it can issue licenses.
    pub fn to_pem(&self) -> Result<String, IssueError> {
        let der = self.pair.to_pkcs8v1().map_err(|_| IssueError::ReadKey)?;
        Ok(format!("{PEM_HEAD}\n{}\n{PEM_TAIL}\n", STANDARD.encode(der.as_ref())))
    }

    /// The public half as an entry of `LICENSE_TRUSTED_KEYS`.
    pub fn trusted(&self) -> String {
        format!("{}={}", self.id, STANDARD.encode(self.pair.public_key().as_ref()))
    }

    /// Signs a license.
    pub fn sign(&self, claims: &Claims) -> Result<String, IssueError> {
        let header = Header { kid: Some(self.id.clone()), ..Header::new(Algorithm::EdDSA) };
        let der = self.pair.to_pkcs8v1().map_err(|_| IssueError::ReadKey)?;
        let key = EncodingKey::from_ed_der(der.as_ref());
        jsonwebtoken::encode(&header, claims, &key).map_err(IssueError::SignLicense)
    }

    /// The public half as DER, for other tools.
    pub fn public_der(&self) -> Result<Vec<u8>, IssueError> {
        let der = self.pair.public_key().as_der().map_err(|_| IssueError::ReadKey)?;
        Ok(der.as_ref().to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_its_file() {
        let key = generate("vendor-1").expect("key");
        let again = SigningKey::from_pem("vendor-1", &key.to_pem().expect("pem")).expect("same key");
        assert_eq!(key.trusted(), again.trusted());
    }

    #[test]
    fn nonsense_is_no_key() {
        for pem in ["", PEM_HEAD, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"] {
            assert!(matches!(SigningKey::from_pem("a", pem), Err(IssueError::ReadKey)), "{pem}");
        }
        assert!(generate("").is_err() && generate("a=b").is_err());
    }
}
