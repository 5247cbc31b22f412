//! Secrets that a resource names, and the one that the operator makes: missing, changed, kept back.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::apiserver::{Apiserver, Wrong};
use super::{
    GATEWAY, LICENSE, REDIS_SECRET, RESOURCE, applied, condition, is_applied, leader, license, quickstart,
    settled,
};

#[tokio::test(start_paused = true)]
async fn the_password_of_redis_stays_whatever_happens() {
    let server = quickstart();
    let running = applied(&server).await;
    let password = server.get(REDIS_SECRET).expect("it")["data"].clone();
    drop(running);
    let _other = leader(&server);
    server.edit(RESOURCE, |resource| resource["metadata"]["generation"] = json!(2));
    server.until("looked at", is_applied).await;
    settled(&server).await;
    assert_eq!(server.get(REDIS_SECRET).expect("it")["data"], password);
}

#[tokio::test(start_paused = true)]
async fn a_missing_secret_is_told_and_a_corrected_one_seen_at_once() {
    let server = quickstart();
    server.delete(LICENSE);
    let _running = leader(&server);
    server.until("status", |server| condition(server, "Ready").is_some()).await;
    let text = server.get(RESOURCE).expect("it")["status"].to_string();
    assert!(text.contains("license"), "{text}");
    settled(&server).await;
    assert!(server.get(GATEWAY).is_none(), "nothing is made of what cannot work");
    let start = Instant::now();
    server.put(LICENSE, license());
    server.until("applied", is_applied).await;
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_goes_away_leaves_running_what_runs() {
    let server = quickstart();
    let _running = applied(&server).await;
    server.delete(LICENSE);
    let told = |server: &Apiserver| {
        server.get(RESOURCE).expect("it")["status"].to_string().contains("failed to find Secret")
    };
    server.until("told", told).await;
    settled(&server).await;
    assert!(is_applied(&server));
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_may_not_be_read_is_told_in_status_and_event() {
    let server = quickstart();
    server.fail("GET", "/secrets/license", usize::MAX, Wrong::Code(403));
    let _running = leader(&server);
    server.until("an Event", |server| !server.paths("/events/").is_empty()).await;
    let event = server.get(&server.paths("/events/")[0]).expect("it");
    assert_eq!(event["reason"], "SecretForbidden", "{event}");
    assert!(event["note"].as_str().is_some_and(|note| note.contains("license")), "{event}");
    for kind in ["Ready", "Stalled", "Degraded"] {
        let told = condition(&server, kind).unwrap_or_else(|| panic!("{kind} is not there"));
        assert_eq!(told["reason"], "SecretForbidden", "{told}");
    }
    server.heal();
    server.until("applied", is_applied).await;
    settled(&server).await;
    assert!(condition(&server, "Stalled").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_cannot_be_read_is_told_when_it_lasts() {
    let server = quickstart();
    server.fail("GET", "/secrets/license", 3, Wrong::Code(500));
    let _running = applied(&server).await;
    let events: Vec<String> = server.paths("/events/");
    let told = |path: &String| server.get(path).is_some_and(|event| event["reason"] == "SecretUnreadable");
    assert!(!events.iter().any(told), "it passed by itself");
    server.fail("GET", "/secrets/license", usize::MAX, Wrong::Code(500));
    server.put(LICENSE, license());
    let degraded = |server: &Apiserver| {
        condition(server, "Degraded").is_some_and(|told| told["reason"] == "SecretUnreadable")
    };
    server.until("told", degraded).await;
    assert!(server.get(GATEWAY).is_some(), "what runs goes on");
}
