//! The license of this gateway: what the license proxy beside it decided, in the words of the error table.
//!
//! The proxy's client always has an answer and never blocks; this only translates.

use license_proxy::{Decision, DenyReason, LicenseGate, Standing, Usage};

use crate::error::Error;

/// The license as the gateway sees it.
pub trait License: Send + Sync {
    /// What is allowed now, or why nothing is.
    fn check(&self) -> Result<Allowance, Error>;
    /// How it stands, for this gateway's registration.
    fn standing(&self) -> Standing;
    /// Counts work that was done; never blocks.
    fn count(&self, usage: Usage);
}

/// What a license allows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Allowance {
    /// Live streams at once; `None` is no limit.
    pub max_streams: Option<u32>,
}

impl License for LicenseGate {
    fn check(&self) -> Result<Allowance, Error> {
        allowance(self.current())
    }

    fn standing(&self) -> Standing {
        LicenseGate::standing(self)
    }

    fn count(&self, usage: Usage) {
        LicenseGate::count(self, usage);
    }
}

fn allowance(decision: Decision) -> Result<Allowance, Error> {
    match decision {
        Decision::Granted { max_streams, .. } => Ok(Allowance { max_streams }),
        Decision::Unknown => Err(Error::LicenseUnknown("the license proxy was not reached yet".to_owned())),
        Decision::Denied { reason, message } => Err(refusal(reason, message)),
    }
}

fn refusal(reason: DenyReason, message: String) -> Error {
    use DenyReason as R;
    match reason {
        R::LicenseExpired | R::LicenseGracePeriodOver => Error::LicenseExpired(message),
        R::LicenseNotYetValid | R::LicenseHostMismatch | R::LicenseFeatureMissing => {
            Error::LicenseDenied(message)
        }
        R::LicenseServerUnreachable | R::LicenseProxyUnreachable => Error::LicenseUnknown(message),
        R::LicenseMissing
        | R::LicenseMalformed
        | R::LicenseSignatureInvalid
        | R::LicenseKeyUnknown
        | R::LicenseClaimsInvalid
        | R::LicenseRejected => Error::LicenseInvalid(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decisions_become_published_errors() {
        let denied = |reason| allowance(Decision::Denied { reason, message: "why".to_owned() });
        let status = |reason| denied(reason).unwrap_err().facts().status.as_u16();
        assert_eq!(status(DenyReason::LicenseSignatureInvalid), 401);
        assert_eq!(status(DenyReason::LicenseExpired), 403);
        assert_eq!(status(DenyReason::LicenseHostMismatch), 403);
        assert_eq!(status(DenyReason::LicenseProxyUnreachable), 503);
        assert_eq!(allowance(Decision::Unknown).unwrap_err().reason(), "LicenseUnknown");
        let granted = Decision::Granted { valid_until_ms: None, max_streams: Some(7) };
        assert_eq!(allowance(granted).unwrap(), Allowance { max_streams: Some(7) });
        assert!(denied(DenyReason::LicenseExpired).unwrap_err().to_string().contains("why"));
    }
}
