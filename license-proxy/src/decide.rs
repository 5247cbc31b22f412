//! May work be done now? (what is known of the license, when, where, for whom) → [`Verdict`]. Pure.

use serde::{Deserialize, Serialize};

use crate::license::License;

/// The answer that those who serve act upon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "decision", rename_all = "snake_case")]
pub enum Decision {
    /// New work may begin.
    Granted {
        /// From here on it may not, Unix milliseconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        valid_until_ms: Option<u64>,
        /// Live streams at a time, if limited.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max_streams: Option<u32>,
    },
    /// No new work; running streams may finish.
    Denied {
        /// Why.
        reason: DenyReason,
        /// Why, for people, and what to do.
        message: String,
    },
    /// The license proxy has not been reached yet.
    Unknown,
}

/// Why work is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DenyReason {
    /// No license was given.
    LicenseMissing,
    /// It cannot be read.
    LicenseMalformed,
    /// Its signature does not fit.
    LicenseSignatureInvalid,
    /// It was signed with a key that is not trusted.
    LicenseKeyUnknown,
    /// It is incomplete or for another product.
    LicenseClaimsInvalid,
    /// It has ended.
    LicenseExpired,
    /// It has not begun.
    LicenseNotYetValid,
    /// It is for other hosts.
    LicenseHostMismatch,
    /// It does not cover this component.
    LicenseFeatureMissing,
    /// The license server said no.
    LicenseRejected,
    /// The license server was never reached.
    LicenseServerUnreachable,
    /// The license server has been away for longer than the grace period.
    LicenseGracePeriodOver,
    /// The license proxy went away.
    LicenseProxyUnreachable,
}

impl DenyReason {
    /// A stable word for conditions, error bodies, metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LicenseMissing => "LicenseMissing",
            Self::LicenseMalformed => "LicenseMalformed",
            Self::LicenseSignatureInvalid => "LicenseSignatureInvalid",
            Self::LicenseKeyUnknown => "LicenseKeyUnknown",
            Self::LicenseClaimsInvalid => "LicenseClaimsInvalid",
            Self::LicenseExpired => "LicenseExpired",
            Self::LicenseNotYetValid => "LicenseNotYetValid",
            Self::LicenseHostMismatch => "LicenseHostMismatch",
            Self::LicenseFeatureMissing => "LicenseFeatureMissing",
            Self::LicenseRejected => "LicenseRejected",
            Self::LicenseServerUnreachable => "LicenseServerUnreachable",
            Self::LicenseGracePeriodOver => "LicenseGracePeriodOver",
            Self::LicenseProxyUnreachable => "LicenseProxyUnreachable",
        }
    }
}

impl std::fmt::Display for DenyReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is known of the license.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// There is none that could be used.
    Nothing {
        /// Why.
        reason: DenyReason,
        /// Why, for people.
        message: String,
    },
    /// A license that needs nobody else's word.
    Offline(License),
    /// A license that the server confirms again and again.
    Confirmed {
        /// The license.
        license: License,
        /// Last confirmation, Unix milliseconds.
        confirmed_ms: u64,
        /// The last attempt to confirm failed.
        unreachable: bool,
    },
}

/// Where and when the question is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts<'a> {
    /// Now, Unix milliseconds.
    pub now_ms: u64,
    /// Name of this host.
    pub host: &'a str,
    /// How long a confirmation lasts while the server is away, milliseconds.
    pub grace_period_ms: u64,
    /// Who asks: `gateway`, `asr`, `tts`; `None` for the license as such.
    pub component: Option<&'a str>,
}

/// The decision and what it rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The decision.
    pub decision: Decision,
    /// It rests on an earlier confirmation; the server is away.
    pub grace_period_active: bool,
    /// The next instant at which time alone changes the decision, Unix milliseconds.
    pub changes_ms: Option<u64>,
    /// End of the license itself, Unix milliseconds; absent while there is none.
    pub ends_ms: Option<u64>,
}

/// How a license stands, for people and dashboards. It changes only when something happens: an end that every
/// confirmation moves is no part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// `Valid`, `GracePeriod`, `Unknown`, or why new work is refused, such as `LicenseExpired`.
    pub state: &'static str,
    /// What is so, and what to do.
    pub message: Option<String>,
    /// End of the license, or of the grace period while that counts, Unix milliseconds.
    pub expires_at_ms: Option<u64>,
}

/// How a license stands, by the decision and what came with it.
pub fn standing(decision: &Decision, grace_period_active: bool, ends_ms: Option<u64>) -> Standing {
    match decision {
        Decision::Granted { valid_until_ms, .. } if grace_period_active => Standing {
            state: "GracePeriod",
            message: Some(
                "the license server is away: restore the way to it before the grace period ends".to_owned(),
            ),
            expires_at_ms: *valid_until_ms,
        },
        Decision::Granted { .. } => Standing { state: "Valid", message: None, expires_at_ms: ends_ms },
        Decision::Denied { reason, message } => {
            Standing { state: reason.as_str(), message: Some(message.clone()), expires_at_ms: ends_ms }
        }
        Decision::Unknown => Standing {
            state: "Unknown",
            message: Some("the license proxy has not answered yet".to_owned()),
            expires_at_ms: None,
        },
    }
}

/// Decides.
pub fn decide(known: &Known, facts: &Facts<'_>) -> Verdict {
    let ends_ms = match known {
        Known::Nothing { .. } => None,
        Known::Offline(license) | Known::Confirmed { license, .. } => Some(license.ends_ms()),
    };
    Verdict { ends_ms, ..judge(known, facts) }
}

fn judge(known: &Known, facts: &Facts<'_>) -> Verdict {
    let (license, confirmed) = match known {
        Known::Nothing { reason, message } => return deny(*reason, message.clone(), None),
        Known::Offline(license) => (license, None),
        Known::Confirmed { license, confirmed_ms, unreachable } => {
            (license, Some((confirmed_ms.saturating_add(facts.grace_period_ms), *unreachable)))
        }
    };
    if let Some(refused) = refuse(license, facts) {
        return refused;
    }
    let grace_end = confirmed.map(|(end, _)| end);
    if grace_end.is_some_and(|end| facts.now_ms >= end) {
        let message =
            "the license server has been away for longer than the grace period: restore the way to it";
        return deny(DenyReason::LicenseGracePeriodOver, message.to_owned(), None);
    }
    let until = grace_end.map_or(license.ends_ms(), |end| end.min(license.ends_ms()));
    Verdict {
        decision: Decision::Granted { valid_until_ms: Some(until), max_streams: license.claims.max_streams },
        grace_period_active: confirmed.is_some_and(|(_, unreachable)| unreachable),
        changes_ms: Some(until),
        ends_ms: None,
    }
}

/// What speaks against a license that is authentic.
fn refuse(license: &License, facts: &Facts<'_>) -> Option<Verdict> {
    let claims = &license.claims;
    if facts.now_ms < license.starts_ms() {
        let message = format!("license {} begins at {}", claims.jti, instant(license.starts_ms()));
        return Some(deny(DenyReason::LicenseNotYetValid, message, Some(license.starts_ms())));
    }
    if facts.now_ms >= license.ends_ms() {
        let ended = instant(license.ends_ms());
        let message = format!("license {} ended at {ended}: ask {} for a new one", claims.jti, claims.iss);
        return Some(deny(DenyReason::LicenseExpired, message, None));
    }
    if !license.allows_host(facts.host) {
        let hosts = if license.development {
            "localhost and deployments named quickstart".to_owned()
        } else {
            claims.hosts.join(", ")
        };
        let message = format!("license {} is for {hosts}, and this host is {}", claims.jti, facts.host);
        return Some(deny(DenyReason::LicenseHostMismatch, message, Some(license.ends_ms())));
    }
    let component = facts.component.filter(|component| !license.allows_component(component))?;
    let message = format!("license {} covers {}, not {component}", claims.jti, claims.features.join(", "));
    Some(deny(DenyReason::LicenseFeatureMissing, message, Some(license.ends_ms())))
}

fn deny(reason: DenyReason, message: String, changes_ms: Option<u64>) -> Verdict {
    let decision = Decision::Denied { reason, message };
    Verdict { decision, grace_period_active: false, changes_ms, ends_ms: None }
}

/// An instant for people, RFC 3339.
pub fn instant(unix_ms: u64) -> String {
    i64::try_from(unix_ms)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
        .map_or_else(|| format!("{unix_ms} ms"), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::license::{AUDIENCE, Claims};

    const START: u64 = 1_000_000;
    const END: u64 = 2_000_000;

    fn license() -> License {
        License {
            claims: Claims {
                iss: "vendor".into(),
                aud: AUDIENCE.into(),
                sub: "customer".into(),
                jti: "L1".into(),
                iat: START / 1000,
                nbf: None,
                exp: END / 1000,
                features: vec!["asr".into()],
                max_streams: Some(3),
                hosts: vec!["speech.example.com".into()],
            },
            development: false,
        }
    }

    fn facts(now_ms: u64) -> Facts<'static> {
        Facts { now_ms, host: "speech.example.com", grace_period_ms: 100_000, component: None }
    }

    fn reason(verdict: &Verdict) -> &'static str {
        match &verdict.decision {
            Decision::Denied { reason, message } => {
                assert!(!message.is_empty());
                reason.as_str()
            }
            Decision::Granted { .. } => "Granted",
            Decision::Unknown => "Unknown",
        }
    }

    #[test]
    fn time_and_place() {
        let known = Known::Offline(license());
        let at = |now_ms| decide(&known, &facts(now_ms));
        assert_eq!(reason(&at(START - 1)), "LicenseNotYetValid");
        assert_eq!(at(START - 1).changes_ms, Some(START));
        assert_eq!(reason(&at(START)), "Granted");
        assert_eq!(at(START).changes_ms, Some(END));
        assert_eq!(reason(&at(END - 1)), "Granted");
        assert_eq!(reason(&at(END)), "LicenseExpired");
        let elsewhere = Facts { host: "localhost", ..facts(START) };
        assert_eq!(reason(&decide(&known, &elsewhere)), "LicenseHostMismatch");
    }

    #[test]
    fn components() {
        let known = Known::Offline(license());
        for (component, expected) in
            [("asr", "Granted"), ("gateway", "Granted"), ("tts", "LicenseFeatureMissing")]
        {
            let facts = Facts { component: Some(component), ..facts(START) };
            assert_eq!(reason(&decide(&known, &facts)), expected, "{component}");
        }
    }

    #[test]
    fn development_licenses_stay_at_home() {
        let claims = Claims { hosts: Vec::new(), ..license().claims };
        let known = Known::Offline(License { claims, development: true });
        assert_eq!(reason(&decide(&known, &facts(START))), "LicenseHostMismatch");
        for host in ["localhost", "quickstart.default.svc"] {
            assert_eq!(reason(&decide(&known, &Facts { host, ..facts(START) })), "Granted", "{host}");
        }
    }

    #[test]
    fn grace_ends() {
        let known = |unreachable| Known::Confirmed { license: license(), confirmed_ms: START, unreachable };
        let verdict = decide(&known(true), &facts(START + 99_999));
        assert_eq!(reason(&verdict), "Granted");
        assert!(verdict.grace_period_active);
        assert_eq!(verdict.changes_ms, Some(START + 100_000));
        assert!(!decide(&known(false), &facts(START + 1)).grace_period_active);
        assert_eq!(reason(&decide(&known(true), &facts(START + 100_000))), "LicenseGracePeriodOver");
    }

    #[test]
    fn a_standing_moves_only_when_something_happens() {
        let known =
            |confirmed_ms, unreachable| Known::Confirmed { license: license(), confirmed_ms, unreachable };
        let stands = |known: &Known, now| {
            let verdict = decide(known, &facts(now));
            standing(&verdict.decision, verdict.grace_period_active, verdict.ends_ms)
        };
        let valid = stands(&known(START, false), START);
        assert_eq!((valid.state, valid.message.as_deref(), valid.expires_at_ms), ("Valid", None, Some(END)));
        assert_eq!(stands(&known(START + 300, false), START + 300), valid, "a confirmation is no news");
        let grace = stands(&known(START, true), START + 1);
        assert_eq!((grace.state, grace.expires_at_ms), ("GracePeriod", Some(START + 100_000)));
        let ended = stands(&Known::Offline(license()), END);
        assert_eq!((ended.state, ended.expires_at_ms), ("LicenseExpired", Some(END)));
        assert_eq!(standing(&Decision::Unknown, false, None).state, "Unknown");
    }

    #[test]
    fn words_are_those_of_the_wire() {
        for reason in [DenyReason::LicenseExpired, DenyReason::LicenseProxyUnreachable] {
            let json = serde_json::to_string(&reason).expect("json");
            assert_eq!(json, format!("\"{}\"", reason.as_str()));
        }
    }

    proptest! {
        #[test]
        fn never_granted_outside_the_license(now in 0u64..4_000_000, confirmed in 0u64..4_000_000) {
            for known in [
                Known::Offline(license()),
                Known::Confirmed { license: license(), confirmed_ms: confirmed, unreachable: true },
            ] {
                let verdict = decide(&known, &facts(now));
                if let Decision::Granted { valid_until_ms, .. } = verdict.decision {
                    prop_assert!((START..END).contains(&now));
                    prop_assert!(valid_until_ms.is_some_and(|until| until > now && until <= END));
                }
                prop_assert!(verdict.changes_ms.is_none_or(|at| at > now));
            }
        }
    }
}
