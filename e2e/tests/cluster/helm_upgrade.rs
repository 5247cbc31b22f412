//! `helm upgrade` and `helm rollback` of the operator: what it runs stays as it is, and is still looked after.

use anyhow::Context;
use e2e::cluster::bring_up::{OPERATOR, OPERATOR_NAMESPACE};
use e2e::cluster::helm::Release;
use e2e::cluster::load::LiveStream;
use e2e::cluster::resource::fake;
use e2e::cluster::{Cluster, Space, in_namespace, wait};
use e2e::repository;
use k8s_openapi::api::apps::v1::Deployment;
use kube::{Api, ResourceExt};
use serde_json::json;

pub(crate) async fn an_upgrade_and_a_rollback_disturb_nobody(cluster: &Cluster) -> anyhow::Result<()> {
    in_namespace(cluster, "upgrade", async |space| {
        space.deploy(&fake("demo", &json!({}))?).await?;
        space.ready("demo").await?;
        let before = uids(space).await?;
        let live = LiveStream::open(&space.service("demo").await?, &["do", "not", "disturb"]);

        let chart = repository().join("charts/smallest-operator");
        let release = Release { name: OPERATOR, namespace: OPERATOR_NAMESPACE, chart: &chart };
        let mut values = cluster.operator_values();
        values.push(("logFilter", "debug".to_owned()));
        cluster.helm.upgrade(&release, &values).await?;
        cluster.operator_rolled_out().await?;
        assert_eq!(log_filter(cluster).await?, "debug");
        assert_eq!(uids(space).await?, before, "the upgrade started no pod anew");

        cluster.helm.rollback(OPERATOR, OPERATOR_NAMESPACE).await?;
        cluster.operator_rolled_out().await?;
        assert_eq!(log_filter(cluster).await?, "info");
        assert_eq!(uids(space).await?, before, "the rollback started no pod anew");

        space.change("demo", &json!({"asr": {"slots": 5}})).await?;
        space
            .until("demo-asr", "the operator that came back still works", |deployment: &Deployment| {
                deployment.metadata.generation > Some(1) && wait::rolled_out(deployment)
            })
            .await?;
        live.finish().await
    })
    .await
}

async fn uids(space: &Space<'_>) -> anyhow::Result<Vec<Option<String>>> {
    let mut all = Vec::new();
    for component in ["gateway", "asr", "redis"] {
        all.extend(space.pods("demo", component).await?.iter().map(ResourceExt::uid));
    }
    Ok(all)
}

/// What the operator's pods are told to log.
async fn log_filter(cluster: &Cluster) -> anyhow::Result<String> {
    let api: Api<Deployment> = Api::namespaced(cluster.client.clone(), OPERATOR_NAMESPACE);
    let spec = api.get(OPERATOR).await?.spec.and_then(|spec| spec.template.spec).context("a pod template")?;
    let environment = spec.containers.into_iter().flat_map(|container| container.env.unwrap_or_default());
    let filter = environment.into_iter().find(|variable| variable.name == "RUST_LOG");
    filter.and_then(|variable| variable.value).context("RUST_LOG is set")
}
