//! A changed spec, and a changed value of a Secret it names, roll the pods they concern, one after another, and no
//! others; clients notice nothing.

use e2e::cluster::load::{LiveStream, plain, spoken};
use e2e::cluster::resource::fake;
use e2e::cluster::{Cluster, Space, in_namespace};
use e2e::{clients, cluster, eventually};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::ResourceExt;
use serde_json::{Value, json};

pub(crate) async fn a_changed_spec_rolls(cluster: &Cluster) -> anyhow::Result<()> {
    in_namespace(cluster, "rolls", async |space| {
        space.apply::<Secret>(&keys("first")).await?;
        let auth = json!({"auth": {"allowAnonymous": null, "secretRef": {"name": "keys"}}});
        space.deploy(&fake("demo", &json!({"gateway": auth}))?).await?;
        space.ready("demo").await?;
        let mut service = space.service("demo").await?;
        service.api_key = Some("first".to_owned());
        let (gateway, worker) = (only(space, "gateway").await?, only(space, "asr").await?);
        let live = LiveStream::open(&service, &["rolling", "on"]);

        // The worker's slots concern the worker alone.
        space.change("demo", &json!({"asr": {"slots": 6}})).await?;
        rolled(space, "demo-asr").await?;
        assert_ne!(only(space, "asr").await?, worker);
        assert_eq!(only(space, "gateway").await?, gateway);
        // The stream began on the worker that went; it goes on with the new one.
        live.finish().await?;

        // A value that only a Secret holds concerns those who read it.
        space.apply::<Secret>(&keys("second")).await?;
        let worker = only(space, "asr").await?;
        space
            .until("demo-gateway", "the new keys reach the gateway", |deployment: &Deployment| {
                deployment.metadata.generation > Some(1) && cluster::wait::rolled_out(deployment)
            })
            .await?;
        // The old one takes requests, with the old keys, until it is gone.
        space.pods_ready("demo", "gateway", 1).await?;
        assert_ne!(only(space, "gateway").await?, gateway);
        assert_eq!(only(space, "asr").await?, worker);
        service.api_key = Some("second".to_owned());
        let sample = spoken(&["with", "the", "new", "key"]);
        // The pod that goes takes work with its old keys until every node has heard that it goes.
        let answer = eventually("the new key is taken", || async {
            clients::recognize(&service, sample.wav.clone()).await.ok()
        })
        .await?;
        assert_eq!(plain(&answer.text), sample.reference);
        Ok(())
    })
    .await
}

fn keys(key: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "stringData": {"api-keys": key},
    })
}

/// Waits until a Deployment that has been changed is rolled out.
async fn rolled(space: &Space<'_>, name: &str) -> anyhow::Result<()> {
    space
        .until(name, "the change is rolled out", |deployment: &Deployment| {
            deployment.metadata.generation > Some(1) && cluster::wait::rolled_out(deployment)
        })
        .await?;
    Ok(())
}

/// Uid of the only pod of a component.
async fn only(space: &Space<'_>, component: &str) -> anyhow::Result<String> {
    let pods: Vec<Pod> = space.pods("demo", component).await?;
    anyhow::ensure!(pods.len() == 1, "one pod of {component}, not {}", pods.len());
    Ok(pods[0].uid().unwrap_or_default())
}
