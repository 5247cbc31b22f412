//! Objects of the names that a resource needs, made by somebody else before: they are told and left as they are.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use super::apiserver::{Apiserver, Wrong};
use super::{
    GATEWAY, REDIS_SECRET, RESOURCE, WORKER, applied, condition, is_applied, leader, quickstart, settled,
};

const ACCOUNT: &str = "/api/v1/namespaces/ns/serviceaccounts/quickstart-pods";
const CONFIG: &str = "/api/v1/namespaces/ns/configmaps/quickstart-redis";
const SERVICE: &str = "/api/v1/namespaces/ns/services/quickstart-gateway";
const CLAIM: &str = "/api/v1/namespaces/ns/persistentvolumeclaims/quickstart-asr-models";
const POLICY: &str = "/apis/networking.k8s.io/v1/namespaces/ns/networkpolicies/quickstart-gateway";
const BUDGET: &str = "/apis/policy/v1/namespaces/ns/poddisruptionbudgets/quickstart-asr";
const AUTOSCALER: &str = "/apis/autoscaling/v2/namespaces/ns/horizontalpodautoscalers/quickstart-asr";

/// A resource that has an object of every kind but monitors.
fn of_all_kinds() -> Apiserver {
    let server = quickstart();
    server.edit(RESOURCE, |resource| {
        let asr = &mut resource["spec"]["asr"];
        asr["cache"] = json!({ "persistentVolumeClaim": {}, "size": "1Gi" });
        asr["scaling"] = json!({ "minReplicas": 1, "maxReplicas": 5 });
    });
    server
}

/// An object without a word of ours.
fn foreign(kind: &str, name: &str, (field, content): (&str, &Value)) -> Value {
    let api_version = match kind {
        "Deployment" => "apps/v1",
        "NetworkPolicy" => "networking.k8s.io/v1",
        "PodDisruptionBudget" => "policy/v1",
        "HorizontalPodAutoscaler" => "autoscaling/v2",
        _ => "v1",
    };
    json!({
        "apiVersion": api_version, "kind": kind, "metadata": { "name": name, "namespace": "ns" },
        (field): content,
    })
}

fn is_stalled(server: &Apiserver) -> bool {
    condition(server, "Stalled").is_some_and(|stalled| stalled["status"] == "True")
}

#[tokio::test(start_paused = true)]
async fn what_somebody_else_made_is_told_and_not_taken_over() {
    let selector = json!({ "selector": { "matchLabels": { "app": "theirs" } } });
    let target = json!({ "kind": "Deployment", "name": "theirs" });
    let autoscaled = json!({ "maxReplicas": 2, "scaleTargetRef": target });
    for (path, theirs) in [
        (ACCOUNT, foreign("ServiceAccount", "quickstart-pods", ("secrets", &json!([])))),
        (CONFIG, foreign("ConfigMap", "quickstart-redis", ("data", &json!({ "theirs": "1" })))),
        (REDIS_SECRET, foreign("Secret", "quickstart-redis", ("data", &json!({ "theirs": "MQ==" })))),
        (SERVICE, foreign("Service", "quickstart-gateway", ("spec", &json!({ "type": "ExternalName" })))),
        (WORKER, foreign("Deployment", "quickstart-asr", ("spec", &selector))),
        (CLAIM, foreign("PersistentVolumeClaim", "quickstart-asr-models", ("spec", &json!({})))),
        (POLICY, foreign("NetworkPolicy", "quickstart-gateway", ("spec", &json!({ "podSelector": {} })))),
        (BUDGET, foreign("PodDisruptionBudget", "quickstart-asr", ("spec", &json!({})))),
        (AUTOSCALER, foreign("HorizontalPodAutoscaler", "quickstart-asr", ("spec", &autoscaled))),
    ] {
        let server = of_all_kinds();
        server.put(path, theirs);
        let before = server.get(path);
        let running = leader(&server);
        server.until(&format!("told of {path}"), is_stalled).await;
        let stalled = condition(&server, "Stalled").expect("it");
        let name = path.rsplit('/').next().expect("a name");
        assert_eq!(stalled["reason"], "ApplyConflict", "{stalled}");
        assert!(stalled["message"].as_str().is_some_and(|text| text.contains(name)), "{stalled}");
        sleep(Duration::from_hours(1)).await;
        assert_eq!(server.get(path), before, "it stays as it was");
        let tries = server.log().iter().filter(|call| call.path == path && !call.is_watch).count();
        assert!(tries < 80, "{path}: {tries} tries in an hour");

        server.delete(path);
        server.until("applied", |server| is_applied(server) && !is_stalled(server)).await;
        drop(running);
    }
}

#[tokio::test(start_paused = true)]
async fn without_the_secret_no_pods_are_made_for_a_password_that_does_not_last() {
    let server = quickstart();
    server.put(REDIS_SECRET, foreign("Secret", "quickstart-redis", ("data", &json!({ "theirs": "MQ==" }))));
    let _running = leader(&server);
    server.until("told", is_stalled).await;
    sleep(Duration::from_hours(1)).await;
    assert!(server.get(GATEWAY).is_none() && server.get(WORKER).is_none());
}

#[tokio::test(start_paused = true)]
async fn an_object_that_is_handed_over_is_taken() {
    let server = quickstart();
    server.put(CONFIG, foreign("ConfigMap", "quickstart-redis", ("data", &json!({ "theirs": "1" }))));
    let _running = leader(&server);
    server.until("told", is_stalled).await;
    server.edit(CONFIG, |config| {
        config["metadata"]["labels"] = json!({
            "app.kubernetes.io/managed-by": "smallest-operator", "app.kubernetes.io/instance": "quickstart",
        });
    });
    server.until("taken", |server| is_applied(server) && !is_stalled(server)).await;
    let owner = &server.get(CONFIG).expect("it")["metadata"]["ownerReferences"][0];
    assert_eq!(owner["uid"], server.get(RESOURCE).expect("the resource")["metadata"]["uid"]);
}

#[tokio::test(start_paused = true)]
async fn what_lost_its_labels_is_still_the_resources() {
    let server = of_all_kinds();
    let _running = applied(&server).await;
    for path in [GATEWAY, ACCOUNT, CONFIG, SERVICE, CLAIM, POLICY, BUDGET, AUTOSCALER] {
        server.edit(path, |object| object["metadata"]["labels"] = json!({}));
        let labelled = |server: &Apiserver| {
            server.get(path).expect("it")["metadata"]["labels"]["app.kubernetes.io/managed-by"]
                == "smallest-operator"
        };
        server.until("labelled", labelled).await;
        settled(&server).await;
        assert!(!is_stalled(&server));
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_quota_keeps_nothing_from_being_taken_back() {
    let server = quickstart();
    let _running = applied(&server).await;
    server.fail("POST", "/configmaps", usize::MAX, Wrong::Quota);
    server.edit(CONFIG, |object| object["metadata"]["labels"] = json!({}));
    let labelled = |server: &Apiserver| {
        assert!(!is_stalled(server));
        !server.get(CONFIG).expect("it")["metadata"]["labels"]["app.kubernetes.io/managed-by"].is_null()
    };
    server.until("labelled", labelled).await;
    server.delete(CONFIG);
    let told = |server: &Apiserver| {
        condition(server, "Stalled").is_some_and(|stalled| stalled["reason"] == "QuotaExceeded")
    };
    server.until("told", told).await;
    server.heal();
    server.until("made", |server| server.get(CONFIG).is_some() && !is_stalled(server)).await;
}

#[tokio::test(start_paused = true)]
async fn somebody_who_writes_at_the_same_moment_is_no_fault() {
    let server = quickstart();
    server.fail("PATCH", "/deployments/quickstart-asr", 3, Wrong::Code(409));
    let _running = leader(&server);
    let calm = |server: &Apiserver| {
        let degraded = condition(server, "Degraded").is_some_and(|degraded| degraded["status"] == "True");
        assert!(!is_stalled(server) && !degraded, "{:?}", server.get(RESOURCE));
        is_applied(server)
    };
    server.until("applied", calm).await;
}
