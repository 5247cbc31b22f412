//! The gate that gateway and workers hold.

use license_proxy::token::TrustedKeys;
use license_proxy::upstream::Source;
use license_proxy::{Decision, DenyReason, LicenseGate, Usage};
use tokio::net::TcpListener;

use crate::world::{Proxy, config, denied_for, development, granted, until};

#[tokio::test]
async fn without_a_proxy_nothing_is_known_and_a_proxy_that_comes_is_heard() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
    let address = listener.local_addr().expect("address");
    drop(listener);
    let gate = LicenseGate::connect(&format!("http://{address}/"), "asr").await;
    assert_eq!(gate.current(), Decision::Unknown);

    let listener = TcpListener::bind(address).await.expect("the same port");
    let source = Source::new(Some(development()), None, "http://unused").expect("source");
    let _proxy = Proxy::start_on(listener, source, TrustedKeys::built_in(), config("localhost"));
    until(&gate, granted).await;
}

#[tokio::test]
async fn usage_arrives_and_counts_once() {
    let proxy = Proxy::with_file(development(), "localhost").await;
    let gate = LicenseGate::connect(&proxy.url, "asr").await;
    for _ in 0..3 {
        gate.count(Usage { audio_ms: 1_500, requests: 1 });
    }
    gate.flush().await;
    gate.flush().await;
    assert_eq!(proxy.service.totals()["asr"], Usage { audio_ms: 4_500, requests: 3 });
    let totals: serde_json::Value =
        reqwest::get(format!("{}/v1/usage", proxy.url)).await.expect("answer").json().await.expect("json");
    assert_eq!(totals["asr"]["audio_ms"], 4_500);
}

#[tokio::test]
async fn usage_waits_for_a_proxy_that_is_away() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
    let address = listener.local_addr().expect("address");
    drop(listener);
    let gate = LicenseGate::connect(&format!("http://{address}"), "asr").await;
    gate.count(Usage { audio_ms: 1_000, requests: 1 });
    gate.flush().await;
    gate.count(Usage { audio_ms: 500, requests: 1 });

    let listener = TcpListener::bind(address).await.expect("the same port");
    let source = Source::new(Some(development()), None, "http://unused").expect("source");
    let proxy = Proxy::start_on(listener, source, TrustedKeys::built_in(), config("localhost"));
    gate.flush().await;
    gate.flush().await;
    assert_eq!(proxy.service.totals()["asr"], Usage { audio_ms: 1_500, requests: 2 });
}

#[tokio::test]
async fn a_scripted_gate_obeys_and_ends_on_time() {
    let (gate, say) = LicenseGate::scripted(Decision::Unknown);
    say(Decision::Granted { valid_until_ms: Some(1), max_streams: None });
    assert!(denied_for(DenyReason::LicenseExpired)(&gate.current()));
    say(Decision::Granted { valid_until_ms: None, max_streams: None });
    assert!(granted(&gate.current()));
    assert!(granted(&LicenseGate::always_granted().current()));
}
