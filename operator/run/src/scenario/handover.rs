//! From the embedded Redis to an external one: what runs by the one goes on until the last pod runs by the other.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use super::apiserver::Apiserver;
use super::{GATEWAY, REDIS, REDIS_SECRET, RESOURCE, Running, WORKER, applied, condition, quickstart};

/// Nobody listens there.
const UNREACHABLE: &str = "redis://127.0.0.1:1";
/// What the embedded Redis consists of.
const OF_REDIS: [&str; 5] = [
    REDIS,
    REDIS_SECRET,
    "/api/v1/namespaces/ns/services/quickstart-redis",
    "/api/v1/namespaces/ns/configmaps/quickstart-redis",
    "/apis/networking.k8s.io/v1/namespaces/ns/networkpolicies/quickstart-redis",
];
const POLICIES: [&str; 2] = [
    "/apis/networking.k8s.io/v1/namespaces/ns/networkpolicies/quickstart-gateway",
    "/apis/networking.k8s.io/v1/namespaces/ns/networkpolicies/quickstart-asr",
];

/// What the controller of Deployments says of one, which it has seen as it is now.
fn report(server: &Apiserver, path: &str, counts: Value) {
    let mut status = counts;
    status["observedGeneration"] = server.get(path).expect("it")["metadata"]["generation"].clone();
    server.put_status(path, status);
}

/// All replicas are of the newest template.
fn roll_out(server: &Apiserver, path: &str) {
    let counts = json!({ "replicas": 1, "readyReplicas": 1, "updatedReplicas": 1, "availableReplicas": 1 });
    report(server, path, counts);
}

/// The new pod is not ready, so the old one stays.
fn get_stuck(server: &Apiserver, path: &str) {
    let counts = json!({ "replicas": 2, "readyReplicas": 1, "updatedReplicas": 1, "availableReplicas": 1 });
    report(server, path, counts);
}

/// A service that runs by the embedded Redis.
async fn running() -> (Apiserver, Running) {
    let server = quickstart();
    let running = applied(&server).await;
    roll_out(&server, GATEWAY);
    roll_out(&server, WORKER);
    rest(&server).await;
    (server, running)
}

async fn switch(server: &Apiserver) {
    server.edit(RESOURCE, |resource| {
        resource["metadata"]["generation"] = json!(2);
        resource["spec"]["redis"] = json!({ "external": { "url": UNREACHABLE } });
    });
    let moved = |path: &str| server.get(path).expect("it")["spec"].to_string().contains(UNREACHABLE);
    server.until("the new address", |_| moved(GATEWAY) && moved(WORKER)).await;
    rest(server).await;
}

/// Calls that wanted to change an object: what the operator says of a Redis that it cannot reach is not counted.
fn changes(server: &Apiserver) -> usize {
    let said = |path: &str| path.contains("/leases") || path.contains("/events") || path.ends_with("/status");
    server.log().iter().filter(|call| call.method != "GET" && !said(&call.path)).count()
}

/// Waits until nothing is changed any more.
async fn rest(server: &Apiserver) {
    loop {
        let before = changes(server);
        sleep(Duration::from_mins(10)).await;
        if changes(server) == before {
            return;
        }
    }
}

fn stands(server: &Apiserver) -> bool {
    OF_REDIS.iter().all(|path| server.get(path).is_some())
}

fn is_gone(server: &Apiserver) -> bool {
    OF_REDIS.iter().all(|path| server.get(path).is_none())
}

/// Does the policy let its pods reach the embedded Redis, and the external one?
fn leads_to(server: &Apiserver, path: &str) -> (bool, bool) {
    let egress = server.get(path).expect("it")["spec"]["egress"].clone();
    let rules = egress.as_array().expect("rules");
    let embedded = json!("redis");
    let to_embedded =
        |rule: &Value| rule["to"][0]["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == embedded;
    let to_external = |rule: &Value| rule["to"].is_null() && rule["ports"][0]["port"] == 1;
    (rules.iter().any(to_embedded), rules.iter().any(to_external))
}

#[tokio::test(start_paused = true)]
async fn the_redis_of_before_stays_as_long_as_a_pod_of_before_does() {
    let (server, _running) = running().await;
    assert!(stands(&server));
    switch(&server).await;
    assert!(stands(&server), "the controller has not even seen the new templates");
    get_stuck(&server, GATEWAY);
    get_stuck(&server, WORKER);
    rest(&server).await;
    assert!(stands(&server), "the old pods serve by it");
    let says = |server: &Apiserver, kind: &str| {
        let condition = condition(server, kind).unwrap_or_default();
        format!("{} {}", condition["status"], condition["reason"]).replace('"', "")
    };
    server.until("told", |server| says(server, "Degraded") == "True RedisUnreachable").await;
    assert_eq!(says(&server, "Ready"), "True ServingPreviousSpec");
    for policy in POLICIES {
        assert_eq!(leads_to(&server, policy), (true, true), "{policy}");
    }
    let before = changes(&server);
    sleep(Duration::from_hours(1)).await;
    assert_eq!(changes(&server), before, "waiting writes nothing");
    roll_out(&server, GATEWAY);
    rest(&server).await;
    assert!(stands(&server), "a worker of before is left");

    // The Redis can be reached after all.
    roll_out(&server, WORKER);
    server.until("pruned", is_gone).await;
    rest(&server).await;
    for policy in POLICIES {
        assert_eq!(leads_to(&server, policy), (false, true), "{policy}");
    }
    let before = changes(&server);
    sleep(Duration::from_hours(1)).await;
    assert_eq!(changes(&server), before, "at rest nothing is written");
}

#[tokio::test(start_paused = true)]
async fn the_redis_of_before_stays_while_a_pod_of_before_drains() {
    let (server, _running) = running().await;
    let pod = "/api/v1/namespaces/ns/pods/quickstart-asr-old";
    let labels = json!({
        "app.kubernetes.io/managed-by": "smallest-operator",
        "app.kubernetes.io/instance": "quickstart",
        "app.kubernetes.io/component": "asr",
    });
    let metadata = json!({
        "name": "quickstart-asr-old", "namespace": "ns", "labels": labels, "deletionTimestamp": "2026-11-23T06:00:00Z",
    });
    server.put(
        pod,
        json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": { "containers": [] } }),
    );
    switch(&server).await;
    roll_out(&server, GATEWAY);
    roll_out(&server, WORKER);
    rest(&server).await;
    assert!(stands(&server), "a worker still finishes its streams");
    server.delete(pod);
    server.until("pruned", is_gone).await;
}

#[tokio::test(start_paused = true)]
async fn who_goes_back_finds_the_redis_of_before_with_its_password() {
    let (server, _running) = running().await;
    let password = server.get(REDIS_SECRET).expect("it")["data"].clone();
    let uid = |path: &str| server.get(path).expect("it")["metadata"]["uid"].clone();
    let before = (uid(REDIS), server.get(GATEWAY).expect("it")["spec"].clone());
    switch(&server).await;
    get_stuck(&server, GATEWAY);
    get_stuck(&server, WORKER);
    rest(&server).await;
    server.edit(RESOURCE, |resource| {
        resource["metadata"]["generation"] = json!(3);
        resource["spec"].as_object_mut().expect("it").remove("redis");
    });
    server.until("the pods of before", |server| server.get(GATEWAY).expect("it")["spec"] == before.1).await;
    rest(&server).await;
    roll_out(&server, GATEWAY);
    roll_out(&server, WORKER);
    rest(&server).await;
    assert_eq!(uid(REDIS), before.0, "it never went");
    assert_eq!(server.get(REDIS_SECRET).expect("it")["data"], password);
    for policy in POLICIES {
        assert_eq!(leads_to(&server, policy), (true, false), "{policy}");
    }
}
