//! A resource from created to deleted, and everything that can go wrong on the way.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::apiserver::{Apiserver, Wrong};
use super::{
    GATEWAY, PASSING, REDIS, REDIS_SECRET, RESOURCE, WORKER, applied, is_applied, leader, quickstart,
    resource, settled, standby,
};

#[tokio::test(start_paused = true)]
async fn a_resource_is_applied_and_then_nothing_is_written() {
    let server = quickstart();
    let _running = applied(&server).await;
    let (before, versions) = (server.writes(), server.paths("").len());
    sleep(Duration::from_hours(1)).await;
    assert_eq!((server.writes(), server.paths("").len()), (before, versions), "{:#?}", server.log());
    let owner = &server.get(GATEWAY).expect("the gateway")["metadata"]["ownerReferences"][0];
    assert_eq!(owner["uid"], server.get(RESOURCE).expect("the resource")["metadata"]["uid"]);
}

#[tokio::test(start_paused = true)]
async fn its_own_writes_are_no_reason_to_look_again() {
    let server = quickstart();
    let _running = applied(&server).await;
    let log = server.log();
    let looks = log.iter().filter(|call| call.method == "GET" && call.path == REDIS_SECRET).count();
    assert_eq!(looks, 1, "a second turn would read the password that the first one made: {log:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_standby_watches_and_writes_nothing_until_it_leads() {
    let server = quickstart();
    let running = standby(&server);
    sleep(Duration::from_mins(1)).await;
    assert_eq!(server.writes(), 0);
    assert!(server.log().iter().any(|call| call.is_watch));
    running.granted.forever();
    server.until("applied", is_applied).await;
    settled(&server).await;
    running.granted.revoke();
    let before = server.writes();
    server.edit(GATEWAY, |gateway| gateway["spec"]["replicas"] = json!(7));
    sleep(Duration::from_mins(1)).await;
    assert_eq!(server.writes(), before, "who does not lead any more writes no more");
    running.granted.forever();
    server.until("corrected", |server| server.get(GATEWAY).expect("it")["spec"]["replicas"] != 7).await;
}

#[tokio::test(start_paused = true)]
async fn what_somebody_changes_is_taken_back() {
    let server = quickstart();
    let _running = applied(&server).await;
    for path in [GATEWAY, REDIS, "/api/v1/namespaces/ns/services/quickstart-redis"] {
        server.edit(path, |object| object["metadata"]["labels"]["app.kubernetes.io/part-of"] = json!("mine"));
        let corrected = |server: &Apiserver| {
            server.get(path).expect("it")["metadata"]["labels"]["app.kubernetes.io/part-of"] == "smallest"
        };
        server.until("corrected", corrected).await;
    }
    server.delete(REDIS);
    server.until("made again", |server| server.get(REDIS).is_some()).await;
}

#[tokio::test(start_paused = true)]
async fn what_the_plan_no_longer_has_is_deleted_but_never_a_claim() {
    let server = quickstart();
    let _running = applied(&server).await;
    let claim = "/api/v1/namespaces/ns/persistentvolumeclaims/old-models";
    let config = "/api/v1/namespaces/ns/configmaps/old";
    let foreign = "/api/v1/namespaces/ns/configmaps/foreign";
    let mut not_owned = owned(&server, "ConfigMap", "foreign");
    not_owned["metadata"]["ownerReferences"] = json!([]);
    server.put(claim, owned(&server, "PersistentVolumeClaim", "old-models"));
    server.put(foreign, not_owned);
    server.put(config, owned(&server, "ConfigMap", "old"));
    server.until("pruned", |server| server.get(config).is_none()).await;
    settled(&server).await;
    assert!(server.get(claim).is_some() && server.get(foreign).is_some());
}

/// An object of the quickstart that no plan has.
fn owned(server: &Apiserver, kind: &str, name: &str) -> Value {
    let uid = server.get(RESOURCE).expect("it")["metadata"]["uid"].clone();
    json!({ "apiVersion": "v1", "kind": kind, "metadata": {
        "name": name, "namespace": "ns",
        "labels": {
            "app.kubernetes.io/managed-by": "smallest-operator",
            "app.kubernetes.io/instance": "quickstart",
        },
        "ownerReferences": [{
            "apiVersion": "smallest.ai/v1", "kind": "SmallestDeployment", "name": "quickstart",
            "uid": uid, "controller": true,
        }],
    }})
}

#[tokio::test(start_paused = true)]
async fn a_delete_that_goes_wrong_is_tried_again() {
    let config = "/api/v1/namespaces/ns/configmaps/old";
    for wrong in [Wrong::Code(500), Wrong::Code(503), Wrong::TooMany(7), Wrong::Silence] {
        let server = quickstart();
        let running = applied(&server).await;
        server.fail("DELETE", "/configmaps/old", 3, wrong);
        server.put(config, owned(&server, "ConfigMap", "old"));
        server.until("deleted in the end", |server| server.get(config).is_none()).await;
        settled(&server).await;
        let tries = server.log().iter().filter(|call| call.method == "DELETE").count();
        assert_eq!(tries, 4, "{wrong:?}");
        drop(running);
    }
}

#[tokio::test(start_paused = true)]
async fn errors_of_the_apiserver_are_survived_without_a_hot_loop() {
    for wrong in PASSING {
        let server = quickstart();
        server.fail("PATCH", "/deployments", 6, wrong);
        let running = leader(&server);
        server.until("applied", is_applied).await;
        let patches = server.log().iter().filter(|call| call.method == "PATCH").count();
        assert!(patches < 80, "{wrong:?}: {patches} patches");
        drop(running);
    }
}

#[tokio::test(start_paused = true)]
async fn an_apiserver_that_refuses_everything_is_asked_less_and_less() {
    let server = quickstart();
    for method in ["POST", "PATCH"] {
        server.fail(method, "", usize::MAX, Wrong::Code(500));
    }
    let _running = leader(&server);
    sleep(Duration::from_hours(1)).await;
    let tries = server.log().iter().filter(|call| call.path.ends_with("/ns/serviceaccounts")).count();
    assert!((10..120).contains(&tries), "{tries} tries in an hour");
    server.heal();
    let start = Instant::now();
    server.until("applied", is_applied).await;
    assert!(start.elapsed() <= Duration::from_mins(5), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_the_apiserver_asks_for_is_kept() {
    let server = quickstart();
    server.fail("POST", "/serviceaccounts", 1, Wrong::TooMany(60));
    let _running = leader(&server);
    let start = Instant::now();
    server.until("applied", is_applied).await;
    assert!(start.elapsed() >= Duration::from_mins(1), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_status_that_cannot_be_written_is_written_later() {
    let server = quickstart();
    server.fail("PATCH", "/status", 3, Wrong::Code(500));
    let _running = leader(&server);
    server.until("applied", is_applied).await;
}

#[tokio::test(start_paused = true)]
async fn events_that_nobody_takes_keep_nothing_from_being_done() {
    let server = quickstart();
    server.fail("PATCH", "/deployments/quickstart-asr", 1, Wrong::Code(403));
    server.fail("POST", "/events", usize::MAX, Wrong::Code(403));
    let _running = applied(&server).await;
    let tries = server.log().iter().filter(|call| call.path.contains("/events")).count();
    assert!(tries > 0 && server.paths("/events/").is_empty(), "{tries} tries");
}

#[tokio::test(start_paused = true)]
async fn watches_that_end_break_or_expire_start_again_and_miss_nothing() {
    let server = quickstart();
    let _running = applied(&server).await;
    server.fail("GET", "", 40, Wrong::Code(500));
    server.cut_watches();
    server.edit(GATEWAY, |gateway| gateway["spec"]["replicas"] = json!(7));
    server.until("corrected", |server| server.get(GATEWAY).expect("it")["spec"]["replicas"] != 7).await;
    settled(&server).await;
    server.heal();

    // While nobody watches, an object goes and a resource is deleted: only a new list can tell.
    server.expire_watches(|server| server.delete(REDIS));
    server.until("made again", |server| server.get(REDIS).is_some()).await;
    settled(&server).await;
    let calls = server.log().len();
    sleep(Duration::from_hours(1)).await;
    let renewals = server.log().len() - calls;
    assert!(renewals < 12 * 20, "{renewals} calls in an hour at rest");
}

#[tokio::test(start_paused = true)]
async fn a_start_before_the_apiserver_answers_only_takes_longer() {
    let server = quickstart();
    server.fail("GET", "", 60, Wrong::Code(503));
    let _running = leader(&server);
    server.until("applied", is_applied).await;
}

#[tokio::test(start_paused = true)]
async fn a_resource_that_cannot_be_read_is_told_so_and_harms_no_other() {
    let server = quickstart();
    let odd = "/apis/smallest.ai/v1/namespaces/ns/smallestdeployments/odd";
    let mut other = resource();
    other["metadata"]["name"] = json!("odd");
    other["spec"] = json!({ "license": 7, "asr": "all of it" });
    server.put(odd, other);
    let _running = leader(&server);
    server.until("applied", is_applied).await;
    let told = |server: &Apiserver| {
        server.get(odd).expect("it")["status"]["conditions"][0]["reason"] == "Unreadable"
    };
    server.until("told", told).await;
    settled(&server).await;

    // Somebody writes it for this version.
    server.edit(odd, |odd| odd["spec"] = resource()["spec"].clone());
    server.until("applied", |server| !server.paths("deployments/odd-gateway").is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn a_deleted_resource_is_left_to_the_garbage_collector() {
    let server = quickstart();
    let _running = applied(&server).await;
    let before = server.writes();
    server.delete(RESOURCE);
    settled(&server).await;
    assert_eq!(server.writes(), before);
    server.put(RESOURCE, resource());
    server
        .until("applied for the new one", |server| {
            let uid = &server.get(RESOURCE).expect("it")["metadata"]["uid"];
            server.get(GATEWAY).expect("it")["metadata"]["ownerReferences"][0]["uid"] == *uid
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn pods_that_become_ready_are_seen_without_asking() {
    let server = quickstart();
    let _running = applied(&server).await;
    let reads = |server: &Apiserver| {
        server.log().iter().filter(|call| call.method == "GET" && !call.is_watch).count()
    };
    let becomes_ready = async |path: &str| {
        server.put_status(
            path,
            json!({ "replicas": 1, "readyReplicas": 1, "updatedReplicas": 1, "availableReplicas": 1 }),
        );
        settled(&server).await;
    };
    // The Secret that was made with it is read with the first news, and that once.
    becomes_ready(GATEWAY).await;
    let before = reads(&server);
    becomes_ready(WORKER).await;
    assert_eq!(reads(&server), before);
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_is_going_away_is_left_alone() {
    let server = quickstart();
    server.fail("POST", "/serviceaccounts", usize::MAX, Wrong::Terminating);
    let _running = leader(&server);
    sleep(Duration::from_hours(1)).await;
    let tries = server.log().iter().filter(|call| call.path.ends_with("/ns/serviceaccounts")).count();
    assert!((1..=3).contains(&tries), "{tries} tries");
}

#[tokio::test(start_paused = true)]
async fn the_number_of_replicas_stays_when_scaling_takes_over() {
    let server = quickstart();
    let _running = applied(&server).await;
    let replicas = |server: &Apiserver| server.get(GATEWAY).expect("it")["spec"]["replicas"].clone();
    server.edit(RESOURCE, |resource| {
        resource["metadata"]["generation"] = json!(2);
        resource["spec"]["gateway"]["replicas"] = json!(3);
    });
    server.until("three", |server| replicas(server) == 3).await;
    settled(&server).await;
    server.edit(RESOURCE, |resource| {
        resource["metadata"]["generation"] = json!(3);
        let gateway = resource["spec"]["gateway"].as_object_mut().expect("it");
        gateway.remove("replicas");
        gateway.insert("scaling".to_owned(), json!({ "minReplicas": 1, "maxReplicas": 5 }));
    });
    let autoscaler = "/apis/autoscaling/v2/namespaces/ns/horizontalpodautoscalers/quickstart-gateway";
    server.until("an autoscaler", |server| server.get(autoscaler).is_some()).await;
    settled(&server).await;
    assert!(server.get(GATEWAY).expect("it")["applied"]["spec"]["replicas"].is_null(), "the operator let go");
    assert_eq!(replicas(&server), 3);
}

#[tokio::test(start_paused = true)]
async fn a_schedule_moves_the_bounds_at_its_minute() {
    let server = quickstart();
    server.edit(RESOURCE, |resource| {
        let day = json!({ "name": "day", "start": "0 7 * * 1-5", "end": "0 20 * * 1-5", "minReplicas": 3, "maxReplicas": 9 });
        resource["spec"]["gateway"]["scaling"] =
            json!({ "minReplicas": 1, "maxReplicas": 5, "schedules": [day] });
    });
    // It is six o'clock.
    let start = Instant::now();
    let _running = applied(&server).await;
    let autoscaler = "/apis/autoscaling/v2/namespaces/ns/horizontalpodautoscalers/quickstart-gateway";
    let bounds = |server: &Apiserver| {
        let spec = &server.get(autoscaler).expect("it")["spec"];
        (spec["minReplicas"].as_u64(), spec["maxReplicas"].as_u64())
    };
    assert_eq!(bounds(&server), (Some(1), Some(5)));
    for (hour, expected) in [(7, (3, 9)), (20, (1, 5)), (24 + 7, (3, 9))] {
        let due = Duration::from_hours(hour - 6);
        sleep(due.saturating_sub(start.elapsed() + Duration::from_secs(1))).await;
        let before = server.writes();
        assert_ne!(bounds(&server), (Some(expected.0), Some(expected.1)), "too early for {hour}:00");
        let moved = move |server: &Apiserver| bounds(server) == (Some(expected.0), Some(expected.1));
        server.until("other bounds", moved).await;
        let late = start.elapsed().saturating_sub(due);
        assert!(start.elapsed() >= due && late < Duration::from_secs(1), "{late:?} after {hour}:00");
        settled(&server).await;
        assert!(server.writes() - before <= 3, "the autoscaler, once what it was made with, and the status");
    }
}
