//! `helm upgrade`, `helm rollback` and `helm uninstall` of the operator: what it runs stays as it is, and is looked
//! after as long as there is an operator.

use anyhow::Context;
use crds::SmallestDeployment;
use e2e::cluster::bring_up::{OPERATOR, OPERATOR_NAMESPACE};
use e2e::cluster::helm::Release;
use e2e::cluster::load::{LiveStream, plain, spoken};
use e2e::cluster::resource::fake;
use e2e::cluster::{Cluster, PATIENCE, Space, in_namespace, wait};
use e2e::{clients, repository};
use k8s_openapi::ClusterResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::api::ListParams;
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::json;
use std::fmt::Debug;

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

pub(crate) async fn without_its_operator_a_service_serves_on(cluster: &Cluster) -> anyhow::Result<()> {
    in_namespace(cluster, "uninstall", async |space| {
        space.deploy(&fake("demo", &json!({}))?).await?;
        space.ready("demo").await?;
        let before = uids(space).await?;
        let live = LiveStream::open(&space.service("demo").await?, &["still", "here"]);

        cluster.helm.uninstall(OPERATOR, OPERATOR_NAMESPACE).await?;
        let alone = served_alone(space).await;
        // All stories need it, so it comes back whatever was found.
        cluster.install_operator().await?;
        alone?;
        assert_eq!(uids(space).await?, before, "no pod was started anew");
        live.finish().await?;

        space.change("demo", &json!({"asr": {"slots": 5}})).await?;
        space
            .until("demo-asr", "the operator that came back works", |deployment: &Deployment| {
                deployment.metadata.generation > Some(1) && wait::rolled_out(deployment)
            })
            .await?;
        space.ready("demo").await?;
        Ok(())
    })
    .await
}

/// What is so while no operator is installed: nothing of it is left but the definition, and with that the deployments.
async fn served_alone(space: &Space<'_>) -> anyhow::Result<()> {
    let client = &space.cluster.client;
    let pods: Api<Pod> = Api::namespaced(client.clone(), OPERATOR_NAMESPACE);
    let labels = format!("app.kubernetes.io/name={OPERATOR}");
    wait::until_all(&pods, &labels, "the operator's pods are gone", PATIENCE, |pods| pods.is_empty()).await?;
    let mut left = rest::<ClusterRole>(client, OPERATOR).await?;
    left.extend(rest::<ClusterRoleBinding>(client, OPERATOR).await?);
    left.extend(rest::<APIService>(client, "external.metrics").await?);
    anyhow::ensure!(left.is_empty(), "the release has left {left:?}");
    space.api::<SmallestDeployment>().get("demo").await?;

    let sample = spoken(&["nobody", "looks", "after", "me"]);
    let answer = clients::get_text(&space.service("demo").await?.url, sample.wav.clone()).await?;
    anyhow::ensure!(answer.status == 200 && plain(answer.text()) == sample.reference, "{answer:?}");
    Ok(())
}

/// Objects of the whole cluster whose name contains a word.
async fn rest<K>(client: &Client, word: &str) -> anyhow::Result<Vec<String>>
where
    K: Resource<DynamicType = (), Scope = ClusterResourceScope> + Clone + Debug + DeserializeOwned,
{
    let all = Api::<K>::all(client.clone()).list(&ListParams::default()).await?;
    Ok(all.items.iter().map(ResourceExt::name_any).filter(|name| name.contains(word)).collect())
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
