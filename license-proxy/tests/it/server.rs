//! A license server with every answer it can give.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use axum::{Json, Router};
use license_proxy::service::ServiceConfig;
use license_proxy::upstream::Source;
use license_proxy::{DenyReason, LicenseGate};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::world::{Proxy, Vendor, config, denied_for, granted, until};

#[derive(Default)]
struct Server {
    answer: Mutex<Option<(u16, Value)>>,
    asked: AtomicUsize,
}

impl Server {
    fn say(&self, status: u16, body: Value) {
        *self.answer.lock().expect("lock") = Some((status, body));
    }
}

async fn validate(State(server): State<Arc<Server>>, headers: HeaderMap) -> (StatusCode, Json<Value>) {
    server.asked.fetch_add(1, Ordering::SeqCst);
    if headers.get("authorization").is_none_or(|value| value != "Bearer good-key") {
        return (StatusCode::UNAUTHORIZED, Json(json!({})));
    }
    let (status, body) = server.answer.lock().expect("lock").clone().unwrap_or((500, json!({})));
    (StatusCode::from_u16(status).expect("status"), Json(body))
}

async fn server() -> (Arc<Server>, String) {
    let server = Arc::new(Server::default());
    let app = Router::new().route("/base/validate", get(validate)).with_state(server.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
    let url = format!("http://{}/base/", listener.local_addr().expect("address"));
    tokio::spawn(async move { axum::serve(listener, app).await });
    (server, url)
}

fn source(key: &str, url: &str) -> Source {
    Source::new(None, Some(key.to_owned()), url).expect("source")
}

#[tokio::test]
async fn a_good_key_is_granted_and_a_later_no_counts_at_once() {
    let vendor = Vendor::new();
    let (server, url) = server().await;
    server.say(200, json!({"license": vendor.license(3_600)}));
    // White space around a key comes from editors.
    let proxy = Proxy::start(source(" good-key\n", &url), vendor.keys(), config("anywhere")).await;
    let gate = LicenseGate::connect(&proxy.url, "gateway").await;
    until(&gate, granted).await;
    server.say(403, json!({}));
    until(&gate, denied_for(DenyReason::LicenseRejected)).await;
}

#[tokio::test]
async fn a_wrong_key_is_refused() {
    let (_server, url) = server().await;
    let proxy = Proxy::start(source("bad-key", &url), Vendor::new().keys(), config("anywhere")).await;
    let (status, health) =
        proxy.health_when(|health| health.reason.as_deref() == Some("LicenseRejected")).await;
    assert_eq!(status, 503);
    assert!(health.message.expect("message").contains("LICENSE_KEY"));
}

#[tokio::test]
async fn a_server_that_goes_away_leaves_a_grace_period_and_then_none() {
    let vendor = Vendor::new();
    let (server, url) = server().await;
    server.say(200, json!({"license": vendor.license(3_600)}));
    let config = ServiceConfig { grace_period: Duration::from_secs(4), ..config("anywhere") };
    let proxy = Proxy::start(source("good-key", &url), vendor.keys(), config).await;
    let gate = LicenseGate::connect(&proxy.url, "asr").await;
    until(&gate, granted).await;

    server.say(500, json!({}));
    let (status, _) = proxy.health_when(|health| health.grace_period_active).await;
    assert_eq!(status, 200);
    assert!(granted(&gate.current()));

    until(&gate, |decision| !granted(decision)).await;
    let over = |h: &license_proxy::edge::Health| h.reason.as_deref() == Some("LicenseGracePeriodOver");
    proxy.health_when(over).await;

    server.say(200, json!({"license": vendor.license(3_600)}));
    until(&gate, granted).await;
    let (_, health) = proxy.health_when(|health| health.license_valid).await;
    assert!(!health.grace_period_active);
}

#[tokio::test]
async fn answers_that_are_no_license_count_as_away() {
    let vendor = Vendor::new();
    for body in [
        json!({}),
        json!({"license": 7}),
        json!({"license": "nonsense"}),
        json!({"license": Vendor::new().license(60)}),
        json!({"license": "x".repeat(100_000)}),
    ] {
        let (server, url) = server().await;
        server.say(200, body.clone());
        let proxy = Proxy::start(source("good-key", &url), vendor.keys(), config("anywhere")).await;
        let away = |h: &license_proxy::edge::Health| {
            h.reason.as_deref() == Some("LicenseServerUnreachable")
                && h.message.as_deref().is_some_and(|message| message.contains(&url[..16]))
        };
        proxy.health_when(away).await;
        let asked = server.asked.load(Ordering::SeqCst);
        assert!(asked >= 3, "a check tries three times, it asked {asked} times: {body}");
    }
}

#[tokio::test]
async fn nobody_there_is_told_and_a_server_that_comes_is_used() {
    let vendor = Vendor::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
    let address = listener.local_addr().expect("address");
    drop(listener);
    let url = format!("http://{address}");
    let proxy = Proxy::start(source("good-key", &url), vendor.keys(), config("anywhere")).await;
    let refused = |h: &license_proxy::edge::Health| {
        h.message.as_deref().is_some_and(|message| message.contains("connection refused"))
    };
    proxy.health_when(refused).await;

    let server = Arc::new(Server::default());
    server.say(200, json!({"license": vendor.license(3_600)}));
    let app = Router::new().route("/validate", get(validate)).with_state(server);
    let listener = TcpListener::bind(address).await.expect("the same port");
    tokio::spawn(async move { axum::serve(listener, app).await });
    proxy.health_when(|health| health.license_valid).await;
}

#[test]
fn two_licenses_and_odd_addresses_are_refused() {
    let both = Source::new(Some("a".into()), Some("b".into()), "http://x");
    assert_eq!(both.err().map(|e| e.reason()), Some("TwoLicenses"));
    for url in ["", "ftp://host", "host"] {
        let odd = Source::new(None, Some("key".into()), url);
        assert_eq!(odd.err().map(|e| e.reason()), Some("LicenseServerInvalid"), "{url}");
    }
}
