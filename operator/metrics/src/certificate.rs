//! The serving certificate: made, judged, turned into what TLS wants. Pure, but for randomness.
//!
//! An authority is made for one certificate and its key is forgotten at once: nobody can sign with it later. A renewed
//! certificate has a new authority; the former one stays in the bundle, so that replicas which still serve with the
//! former certificate are believed until they have the new one.

use std::sync::Arc;

use k8s_openapi::jiff::tz::TimeZone;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, date_time_ymd,
};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::extensions::GeneralName;
use x509_parser::pem::Pem;

/// How long a certificate lasts.
const LASTS: SignedDuration = SignedDuration::from_hours(365 * 24);
/// It is renewed this long before its end.
const RENEWED_BEFORE: SignedDuration = SignedDuration::from_hours(120 * 24);
/// Last line of a certificate.
const END: &str = "-----END CERTIFICATE-----";
/// Clocks of a cluster may differ so much.
const SKEW: SignedDuration = SignedDuration::from_hours(24);

/// A certificate, its key and the authorities to believe, as PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Serving {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
    /// The authority that signed it, and the former one.
    pub authorities: String,
}

/// A certificate that cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The library refused.
    #[error("failed to make a certificate")]
    Make(#[from] rcgen::Error),
    /// What was given is no certificate with its key.
    #[error("failed to read the serving certificate: {0}")]
    Read(String),
}

impl CertificateError {
    /// A stable word for logs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Make(_) => "CertificateNotMade",
            Self::Read(_) => "CertificateInvalid",
        }
    }
}

impl Serving {
    /// A fresh certificate for these names. `former` are the authorities of the one that it replaces.
    pub fn make(names: &[String], former: Option<&str>, now: Timestamp) -> Result<Self, CertificateError> {
        let authority_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut authority = CertificateParams::new(Vec::new())?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        authority.distinguished_name.push(DnType::CommonName, "smallest-operator-authority");
        let mut leaf = CertificateParams::new(names)?;
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.use_authority_key_identifier_extension = true;
        leaf.distinguished_name.push(DnType::CommonName, "smallest-operator");
        for params in [&mut authority, &mut leaf] {
            let ((year, month, date), (last_year, last_month, last_date)) =
                (day(now - SKEW), day(now + LASTS));
            params.not_before = date_time_ymd(year, month, date);
            params.not_after = date_time_ymd(last_year, last_month, last_date);
        }
        let root = authority.self_signed(&authority_key)?;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = leaf.signed_by(&key, &Issuer::from_params(&authority, &authority_key))?;
        // The former authority alone: those before it have replicas no longer.
        let former = former.and_then(first).map(|former| format!("{former}\n")).unwrap_or_default();
        let authorities = format!("{}\n{former}", root.pem().trim_end());
        Ok(Self { certificate: certificate.pem(), key: key.serialize_pem(), authorities })
    }

    /// It must be replaced: it ends soon, is for other names, or cannot be read.
    pub fn must_be_renewed(&self, names: &[String], now: Timestamp) -> bool {
        let Some(Ok(pem)) = Pem::iter_from_buffer(self.certificate.as_bytes()).next() else { return true };
        let Ok(certificate) = pem.parse_x509() else { return true };
        let ends = certificate.validity().not_after.timestamp();
        if ends < (now + RENEWED_BEFORE).as_second() || self.authorities.is_empty() {
            return true;
        }
        let Ok(Some(alternatives)) = certificate.subject_alternative_name() else { return true };
        let serves = |name: &String| {
            let wanted = GeneralName::DNSName(name);
            alternatives.value.general_names.contains(&wanted)
        };
        !names.iter().all(serves) || self.certified_key().is_err()
    }

    /// As TLS wants it.
    pub fn certified_key(&self) -> Result<Arc<CertifiedKey>, CertificateError> {
        let unreadable = |error: &dyn std::fmt::Debug| CertificateError::Read(format!("{error:?}"));
        let chain = CertificateDer::pem_slice_iter(self.certificate.as_bytes());
        let chain = chain.collect::<Result<Vec<_>, _>>().map_err(|error| unreadable(&error))?;
        if chain.is_empty() {
            return Err(CertificateError::Read("there is no certificate in it".to_owned()));
        }
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).map_err(|error| unreadable(&error))?;
        let key = any_supported_type(&key).map_err(|error| CertificateError::Read(error.to_string()))?;
        let certified = CertifiedKey::new(chain, key);
        // A key that is known to be another's; where that cannot be told, TLS will.
        match certified.keys_match() {
            Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch)) => {
                Err(CertificateError::Read("the key is not the certificate's".to_owned()))
            }
            _ => Ok(Arc::new(certified)),
        }
    }
}

impl std::fmt::Debug for Serving {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Serving").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// The day of an instant, UTC: a certificate begins and ends at midnight.
fn day(at: Timestamp) -> (i32, u8, u8) {
    let date = at.to_zoned(TimeZone::UTC).date();
    (i32::from(date.year()), date.month().unsigned_abs(), date.day().unsigned_abs())
}

/// The first certificate of a bundle, as it stands there.
fn first(bundle: &str) -> Option<&str> {
    let end = bundle.find(END)? + END.len();
    Some(&bundle[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    fn later(now: Timestamp, days: i64) -> Timestamp {
        now + SignedDuration::from_hours(24 * days)
    }

    #[test]
    fn a_certificate_is_renewed_before_its_end_and_for_other_names() {
        let (now, served) = (Timestamp::now(), names(&["smallest-operator.smallest.svc"]));
        let serving = Serving::make(&served, None, now).unwrap();
        assert!(!serving.must_be_renewed(&served, now));
        assert!(!serving.must_be_renewed(&served, later(now, 200)));
        assert!(serving.must_be_renewed(&served, later(now, 250)), "the end is near");
        assert!(serving.must_be_renewed(&names(&["other.smallest.svc"]), now), "another name");
        let other = Serving::make(&served, None, now).unwrap();
        for broken in [
            Serving { certificate: String::new(), ..serving.clone() },
            Serving { certificate: "no PEM".into(), ..serving.clone() },
            Serving { key: other.key, ..serving.clone() },
            Serving { key: "no key".into(), ..serving.clone() },
            Serving { authorities: String::new(), ..serving.clone() },
        ] {
            assert!(broken.must_be_renewed(&served, now));
        }
    }

    #[test]
    fn the_former_authority_is_believed_until_the_next_renewal() {
        let (now, served) = (Timestamp::now(), names(&["a.b.svc"]));
        let count = |bundle: &str| Pem::iter_from_buffer(bundle.as_bytes()).map(Result::unwrap).count();
        let first = Serving::make(&served, None, now).unwrap();
        let second = Serving::make(&served, Some(&first.authorities), now).unwrap();
        let third = Serving::make(&served, Some(&second.authorities), now).unwrap();
        assert_eq!([&first, &second, &third].map(|serving| count(&serving.authorities)), [1, 2, 2]);
        let der = |bundle: &str| {
            Pem::iter_from_buffer(bundle.as_bytes()).map(|pem| pem.unwrap().contents).collect::<Vec<_>>()
        };
        assert_eq!(der(&third.authorities)[1], der(&second.authorities)[0]);
        assert!(!format!("{first:?}").contains("PRIVATE"));
    }
}
