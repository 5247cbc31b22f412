//! What a namespace looked like when its story failed: conditions, pods, events, the ends of logs.

use super::{Cluster, OPERATOR_NAMESPACE};
use crds::SmallestDeployment;
use k8s_openapi::api::core::v1::{ContainerStatus, Event, Pod};
use kube::api::{ListParams, LogParams};
use kube::{Api, ResourceExt};
use std::fmt::Write as _;

/// Lines of each log.
const LOG_LINES: i64 = 25;

/// Everything that may say why, as text.
pub async fn of(cluster: &Cluster, namespace: &str) -> String {
    let mut text = format!("\n---- namespace {namespace} when the story failed ----\n");
    deployments(cluster, namespace, &mut text).await;
    pods(cluster, namespace, &mut text).await;
    events(cluster, namespace, &mut text).await;
    let _ = writeln!(text, "---- the operator ----");
    pods(cluster, OPERATOR_NAMESPACE, &mut text).await;
    text
}

async fn deployments(cluster: &Cluster, namespace: &str, text: &mut String) {
    let api: Api<SmallestDeployment> = Api::namespaced(cluster.client.clone(), namespace);
    for deployment in api.list(&ListParams::default()).await.map(|list| list.items).unwrap_or_default() {
        let generation = deployment.metadata.generation.unwrap_or(0);
        let _ = writeln!(text, "SmallestDeployment {} generation {generation}", deployment.name_any());
        let Some(status) = deployment.status else { continue };
        for condition in &status.conditions {
            let _ = writeln!(
                text,
                "  {} = {} {}: {} (generation {})",
                condition.type_,
                condition.status,
                condition.reason,
                condition.message,
                condition.observed_generation.unwrap_or(0)
            );
        }
        for decision in &status.scale_decisions {
            let _ = writeln!(text, "  {decision:?}");
        }
    }
}

async fn pods(cluster: &Cluster, namespace: &str, text: &mut String) {
    let api: Api<Pod> = Api::namespaced(cluster.client.clone(), namespace);
    for pod in api.list(&ListParams::default()).await.map(|list| list.items).unwrap_or_default() {
        let name = pod.name_any();
        let status = pod.status.unwrap_or_default();
        let _ = writeln!(text, "Pod {name} {}", status.phase.unwrap_or_default());
        for condition in status.conditions.iter().flatten().filter(|condition| condition.status != "True") {
            let _ =
                writeln!(text, "  {}: {}", condition.type_, condition.message.clone().unwrap_or_default());
        }
        let init = status.init_container_statuses.unwrap_or_default();
        for container in init.iter().chain(status.container_statuses.iter().flatten()) {
            let _ = writeln!(text, "  {}", state(container));
            log(&api, &name, &container.name, text).await;
        }
    }
}

/// A container in one line.
fn state(container: &ContainerStatus) -> String {
    let state = container.state.clone().unwrap_or_default();
    let now = if let Some(waiting) = state.waiting {
        format!("waits: {} {}", waiting.reason.unwrap_or_default(), waiting.message.unwrap_or_default())
    } else if let Some(ended) = state.terminated {
        format!("ended with {}: {}", ended.exit_code, ended.reason.unwrap_or_default())
    } else {
        "runs".to_owned()
    };
    format!("{} ready={} restarts={} {now}", container.name, container.ready, container.restart_count)
}

async fn log(api: &Api<Pod>, pod: &str, container: &str, text: &mut String) {
    for previous in [true, false] {
        let params = LogParams {
            container: Some(container.to_owned()),
            tail_lines: Some(LOG_LINES),
            previous,
            ..LogParams::default()
        };
        for line in api.logs(pod, &params).await.unwrap_or_default().lines() {
            let _ = writeln!(text, "    {}{line}", if previous { "(before) " } else { "" });
        }
    }
}

async fn events(cluster: &Cluster, namespace: &str, text: &mut String) {
    let api: Api<Event> = Api::namespaced(cluster.client.clone(), namespace);
    let mut events = api.list(&ListParams::default()).await.map(|list| list.items).unwrap_or_default();
    events.sort_by_key(|event| event.metadata.creation_timestamp.clone());
    for event in events {
        let object = event.involved_object;
        let _ = writeln!(
            text,
            "Event {} {}/{}: {}",
            event.reason.unwrap_or_default(),
            object.kind.unwrap_or_default(),
            object.name.unwrap_or_default(),
            event.message.unwrap_or_default()
        );
    }
}
