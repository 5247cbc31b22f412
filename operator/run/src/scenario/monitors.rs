//! `ServiceMonitor`s: the cluster learns the kind, loses it, or keeps to itself whether it has it.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};

use super::apiserver::{Apiserver, Wrong};
use super::{RESOURCE, applied, quickstart, settled};

#[tokio::test(start_paused = true)]
async fn monitors_are_made_once_the_cluster_knows_them() {
    let server = quickstart();
    server.edit(RESOURCE, |resource| resource["spec"]["monitoring"] = json!({ "serviceMonitor": true }));
    let _running = applied(&server).await;
    let monitors = |server: &Apiserver| server.paths("/servicemonitors/").len();
    assert_eq!(monitors(&server), 0);
    let definition =
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/servicemonitors.monitoring.coreos.com";
    let metadata = json!({ "name": "servicemonitors.monitoring.coreos.com" });
    let head = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": metadata,
        // As an apiserver writes it at first.
        "status": { "conditions": null },
    });
    server.put(definition, head.clone());
    settled(&server).await;
    assert_eq!(monitors(&server), 0, "it is not served yet");
    server.delete(definition);
    let start = Instant::now();
    server.put(definition, head);
    server.put_status(definition, json!({ "conditions": [{ "type": "Established", "status": "True" }] }));
    server.until("a monitor", |server| monitors(server) == 1).await;
    assert!(start.elapsed() < Duration::from_millis(700), "{:?}: the watch broke", start.elapsed());
    settled(&server).await;
    // What somebody takes away is made again: its watch runs.
    server.delete(&server.paths("/servicemonitors/")[0]);
    server.until("made again", |server| monitors(server) == 1).await;
    // The kind goes, and its objects with it; nothing is asked for any more.
    server.delete(definition);
    server.delete(&server.paths("/servicemonitors/")[0]);
    settled(&server).await;
    let asked = server.log().len();
    sleep(Duration::from_mins(1)).await;
    let of_monitors =
        server.log()[asked..].iter().filter(|call| call.path.contains("servicemonitors")).count();
    assert_eq!((monitors(&server), of_monitors), (0, 0), "{:#?}", &server.log()[asked..]);
}

#[tokio::test(start_paused = true)]
async fn an_operator_that_may_not_see_definitions_goes_on_without() {
    let server = quickstart();
    server.fail("GET", "/customresourcedefinitions", usize::MAX, Wrong::Code(403));
    let _running = applied(&server).await;
    sleep(Duration::from_hours(1)).await;
    let asked = server.log().iter().filter(|call| call.path.contains("customresourcedefinitions")).count();
    assert!((1..=2).contains(&asked), "{asked} times");
}
