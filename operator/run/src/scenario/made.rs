//! Objects made by POST: one call where there is none, and from then on as if they had been applied.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use super::apiserver::{Apiserver, Wrong};
use super::{PASSING, REDIS_SECRET, RESOURCE, applied, condition, is_applied, leader, quickstart, settled};

const CONFIG: &str = "/api/v1/namespaces/ns/configmaps/quickstart-redis";
const SERVICE: &str = "/api/v1/namespaces/ns/services/quickstart-gateway";
const POLICY: &str = "/apis/networking.k8s.io/v1/namespaces/ns/networkpolicies/quickstart-gateway";
/// Collections of the kinds that the quickstart has objects of.
const COLLECTIONS: [&str; 5] = ["serviceaccounts", "secrets", "configmaps", "services", "networkpolicies"];

/// Ways of writing that the apiserver notes of the operator.
fn ways(server: &Apiserver, path: &str) -> Vec<Value> {
    let object = server.get(path).expect("it");
    let noted = object["metadata"]["managedFields"].as_array().expect("it is noted");
    noted.iter().map(|entry| entry["operation"].clone()).collect()
}

/// Methods of the calls for one object from the so-manieth call on.
fn calls(server: &Apiserver, path: &str, from: usize) -> Vec<String> {
    let log = server.log();
    let of_it = log[from..].iter().filter(|call| call.path == path && !call.is_watch);
    of_it.map(|call| call.method.clone()).collect()
}

/// Somebody takes a field away: the operator has to apply the object.
fn disturb(server: &Apiserver, path: &str) {
    server.edit(path, |object| object["metadata"]["labels"]["app.kubernetes.io/part-of"] = json!("mine"));
}

fn is_corrected(server: &Apiserver, path: &str) -> bool {
    server.get(path).expect("it")["metadata"]["labels"]["app.kubernetes.io/part-of"] == "smallest"
}

fn is_calm(server: &Apiserver) -> bool {
    let is_true = |kind| condition(server, kind).is_some_and(|told| told["status"] == "True");
    !is_true("Stalled") && !is_true("Degraded")
}

#[tokio::test(start_paused = true)]
async fn what_nobody_has_is_made_by_one_call() {
    let server = quickstart();
    let _running = applied(&server).await;
    for collection in COLLECTIONS {
        let made: Vec<String> = server
            .paths(&format!("/ns/{collection}/quickstart-"))
            .into_iter()
            .inspect(|path| assert_eq!(ways(&server, path), ["Update"], "{path}"))
            .collect();
        let ends = format!("/ns/{collection}");
        let log = server.log();
        let posts = log.iter().filter(|call| call.method == "POST" && call.path.ends_with(&ends)).count();
        assert!(!made.is_empty() && posts == made.len(), "{posts} for {made:?}");
    }
    for path in [CONFIG, SERVICE, POLICY] {
        assert_eq!(calls(&server, path, 0), [""; 0], "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_somebody_changes_of_it_is_taken_back_and_once_it_is_converted() {
    let server = quickstart();
    let _running = applied(&server).await;
    for path in [CONFIG, SERVICE, POLICY] {
        for expected in [&["GET", "PATCH", "PATCH"] as &[&str], &["PATCH"]] {
            let from = server.log().len();
            disturb(&server, path);
            server.until("corrected", |server| is_corrected(server, path)).await;
            settled(&server).await;
            assert_eq!(calls(&server, path, from), expected, "{path}");
            assert_eq!(ways(&server, path), ["Apply"], "{path}");
        }
    }
}

/// Versions of all objects but the Lease.
fn versions(server: &Apiserver) -> Vec<(String, Value)> {
    let paths = server.paths("").into_iter().filter(|path| !path.contains("/leases/"));
    let version = |path: &str| server.get(path).expect("it")["metadata"]["resourceVersion"].clone();
    paths.map(|path| (path.clone(), version(&path))).collect()
}

#[tokio::test(start_paused = true)]
async fn who_begins_to_lead_writes_nothing_where_all_is_as_it_was_made() {
    let server = quickstart();
    drop(applied(&server).await);
    let (before, from) = (versions(&server), server.log().len());
    let _running = applied(&server).await;
    assert_eq!(versions(&server), before);
    for path in [CONFIG, SERVICE, POLICY] {
        assert_eq!(calls(&server, path, from), ["GET"], "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_begins_to_lead_mends_what_was_changed_while_nobody_led() {
    let server = quickstart();
    drop(applied(&server).await);
    disturb(&server, SERVICE);
    server.edit(POLICY, |policy| drop(policy["spec"].as_object_mut().expect("it").remove("podSelector")));
    server.edit(REDIS_SECRET, |secret| secret["data"]["password"] = json!("b3RoZXI="));
    let _running = applied(&server).await;
    server.until("corrected", |server| is_corrected(server, SERVICE)).await;
    assert!(server.get(POLICY).expect("it")["spec"]["podSelector"].is_object());
    for path in [SERVICE, POLICY, REDIS_SECRET] {
        assert_eq!(ways(&server, path), ["Apply"], "{path}");
    }
    assert_eq!(ways(&server, CONFIG), ["Update"], "nobody has changed it");
}

#[tokio::test(start_paused = true)]
async fn a_field_that_it_was_made_with_goes_when_it_is_wanted_no_more() {
    let server = quickstart();
    server.edit(RESOURCE, |resource| {
        resource["spec"]["gateway"]["service"] = json!({ "annotations": { "example.com/kept": "no" } });
    });
    let _running = applied(&server).await;
    let annotations =
        |server: &Apiserver| server.get(SERVICE).expect("it")["metadata"]["annotations"].clone();
    assert_eq!(annotations(&server)["example.com/kept"], "no");
    server.edit(RESOURCE, |resource| {
        resource["metadata"]["generation"] = json!(2);
        resource["spec"]["gateway"].as_object_mut().expect("it").remove("service");
    });
    server.until("gone", |server| annotations(server)["example.com/kept"].is_null()).await;
    settled(&server).await;
    assert_eq!(ways(&server, SERVICE), ["Apply"]);
}

#[tokio::test(start_paused = true)]
async fn who_writes_while_it_is_converted_is_no_fault() {
    let server = quickstart();
    let _running = applied(&server).await;
    let from = server.log().len();
    server.fail("PATCH", "/services/quickstart-gateway", 2, Wrong::Overtaken);
    disturb(&server, SERVICE);
    let calm = |server: &Apiserver| {
        assert!(is_calm(server), "{:?}", server.get(RESOURCE));
        is_corrected(server, SERVICE)
    };
    server.until("corrected", calm).await;
    settled(&server).await;
    let expected = ["GET", "PATCH", "GET", "PATCH", "GET", "PATCH", "PATCH"];
    assert_eq!(calls(&server, SERVICE, from), expected);
    assert_eq!(ways(&server, SERVICE), ["Apply"]);
}

#[tokio::test(start_paused = true)]
async fn what_goes_wrong_while_it_is_made_or_converted_is_survived() {
    for wrong in PASSING {
        let server = quickstart();
        server.fail("POST", "/services", 4, wrong);
        let running = leader(&server);
        server.until("applied", |server| is_applied(server) && server.get(SERVICE).is_some()).await;
        settled(&server).await;
        let posts = server.log().iter().filter(|call| call.method == "POST").count();
        assert!(posts < 80, "{wrong:?}: {posts} posts");

        server.fail("", "/services/quickstart-gateway", 4, wrong);
        disturb(&server, SERVICE);
        server.until("corrected", |server| is_corrected(server, SERVICE)).await;
        settled(&server).await;
        assert_eq!(ways(&server, SERVICE), ["Apply"], "{wrong:?}");
        drop(running);
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_made_though_no_answer_came_is_the_resources() {
    for collection in COLLECTIONS {
        let server = quickstart();
        server.fail("POST", collection, 1, Wrong::Unheard);
        let running = applied(&server).await;
        server.until("calm", is_calm).await;
        let before = server.writes();
        sleep(Duration::from_hours(1)).await;
        assert_eq!(server.writes(), before, "{collection}: at rest nothing is written");
        drop(running);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_gone_when_it_is_to_be_converted_is_made_again() {
    let server = quickstart();
    let _running = applied(&server).await;
    let uid = |server: &Apiserver| server.get(SERVICE).map(|service| service["metadata"]["uid"].clone());
    let before = uid(&server);
    server.fail("GET", "/services/quickstart-gateway", 1, Wrong::Code(404));
    disturb(&server, SERVICE);
    server.until("corrected", |server| is_corrected(server, SERVICE)).await;
    server.delete(SERVICE);
    server.until("made again", |server| uid(server).is_some_and(|now| Some(now) != before)).await;
    assert_eq!(ways(&server, SERVICE), ["Update"]);
}
