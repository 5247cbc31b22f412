//! Signed licenses in files.

use std::fs;
use std::path::PathBuf;

use license_proxy::token::TrustedKeys;
use license_proxy::upstream::Source;
use license_proxy::{Decision, DenyReason, LicenseGate};

use crate::world::{Proxy, Vendor, committed, config, denied_for, development, granted, until};

#[tokio::test]
async fn every_bad_license_is_refused_with_its_reason() {
    let folder = tempfile::tempdir().expect("folder");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).expect("file");
        path
    };
    let good = fs::read_to_string(development()).expect("license");
    let mut parts: Vec<&str> = good.trim().split('.').collect();
    let other = fs::read_to_string(committed("no-asr.jwt")).expect("license");
    parts[1] = other.split('.').nth(1).expect("claims");
    let stranger = Vendor::new().license(3_600);
    let cases: [(PathBuf, &str, DenyReason); 9] = [
        (folder.path().join("absent"), "localhost", DenyReason::LicenseMissing),
        (write("empty", ""), "localhost", DenyReason::LicenseMalformed),
        (write("text", "no license at all"), "localhost", DenyReason::LicenseMalformed),
        (write("tampered", &parts.join(".")), "localhost", DenyReason::LicenseSignatureInvalid),
        (write("stranger", &stranger), "localhost", DenyReason::LicenseKeyUnknown),
        (committed("expired.jwt"), "localhost", DenyReason::LicenseExpired),
        (committed("not-yet-valid.jwt"), "localhost", DenyReason::LicenseNotYetValid),
        (committed("other-host.jwt"), "localhost", DenyReason::LicenseHostMismatch),
        (committed("any-host.jwt"), "speech.example.com", DenyReason::LicenseHostMismatch),
    ];
    for (file, host, reason) in cases {
        let name = file.display().to_string();
        let proxy = Proxy::with_file(file, host).await;
        let (status, health) =
            proxy.health_when(|health| health.reason.as_deref() == Some(reason.as_str())).await;
        assert_eq!((status, health.status.as_str()), (503, "unhealthy"), "{name}");
        assert!(!health.license_valid && health.valid_until.is_none(), "{name}");
        assert!(!health.message.expect("message").is_empty(), "{name}");
        let gate = LicenseGate::connect(&proxy.url, "asr").await;
        let decision = until(&gate, denied_for(reason)).await;
        assert_eq!(gate.current(), decision, "{name}");
    }
}

#[tokio::test]
async fn the_development_license_is_valid_here_and_for_quickstarts_and_nowhere_else() {
    let proxy = Proxy::with_file(development(), "localhost").await;
    let (status, health) = proxy.health_when(|health| health.license_valid).await;
    assert_eq!((status, health.status.as_str()), (200, "healthy"));
    assert_eq!(health.valid_until.as_deref(), Some("2036-01-01T00:00:00Z"));
    assert!(!health.grace_period_active);

    let proxy = Proxy::with_file(development(), "quickstart.speech.svc").await;
    proxy.health_when(|health| health.license_valid).await;
    let gate = LicenseGate::connect(&proxy.url, "asr").await;
    until(&gate, granted).await;
    let standing = gate.standing();
    assert_eq!((standing.state, standing.message), ("Valid", None));
    assert_eq!(standing.expires_at_ms, Some(2_082_758_400_000));

    let proxy = Proxy::with_file(development(), "production.default.svc").await;
    let refused = |h: &license_proxy::edge::Health| h.reason.as_deref() == Some("LicenseHostMismatch");
    let (_, health) = proxy.health_when(refused).await;
    assert!(health.message.expect("message").contains("localhost"));
}

#[tokio::test]
async fn a_component_that_is_not_covered_is_refused_and_others_serve() {
    let proxy = Proxy::with_file(committed("no-asr.jwt"), "localhost").await;
    let asr = LicenseGate::connect(&proxy.url, "asr").await;
    until(&asr, denied_for(DenyReason::LicenseFeatureMissing)).await;
    let tts = LicenseGate::connect(&proxy.url, "tts").await;
    until(&tts, granted).await;
}

#[tokio::test]
async fn the_number_of_streams_reaches_the_gate() {
    let proxy = Proxy::with_file(committed("two-streams.jwt"), "localhost").await;
    let gate = LicenseGate::connect(&proxy.url, "gateway").await;
    let decision = until(&gate, granted).await;
    assert!(matches!(decision, Decision::Granted { max_streams: Some(2), .. }), "{decision:?}");
}

#[tokio::test]
async fn a_license_that_ends_while_all_run_is_withdrawn_on_time_and_a_new_file_restores_it() {
    let vendor = Vendor::new();
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("license.jwt");
    fs::write(&file, vendor.license(2)).expect("file");
    let source = Source::new(Some(file.clone()), None, "http://unused").expect("source");
    let proxy = Proxy::start(source, vendor.keys(), config("anywhere")).await;
    let gate = LicenseGate::connect(&proxy.url, "asr").await;
    until(&gate, granted).await;
    until(&gate, denied_for(DenyReason::LicenseExpired)).await;
    assert_eq!(proxy.health().await.0, 503);

    fs::write(&file, vendor.license(3_600)).expect("renewed");
    until(&gate, granted).await;
}

#[tokio::test]
async fn no_license_at_all_is_told() {
    let source = Source::new(None, Some("  ".to_owned()), "http://unused").expect("source");
    let proxy = Proxy::start(source, TrustedKeys::built_in(), config("localhost")).await;
    let missing = |h: &license_proxy::edge::Health| h.reason.as_deref() == Some("LicenseMissing");
    let (_, health) = proxy.health_when(missing).await;
    assert!(health.message.expect("message").contains("LICENSE_FILE"));
}
