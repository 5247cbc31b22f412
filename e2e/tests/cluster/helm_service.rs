//! A service by Helm: installed from values, it serves; a changed value rolls what it concerns, a rollback brings the
//! former one back, and after the uninstall nothing is left.

use crate::deletion::{claims, everything_gone};
use anyhow::Context;
use crds::SmallestDeployment;
use e2e::cluster::helm::Release;
use e2e::cluster::load::{LiveStream, plain, spoken};
use e2e::cluster::resource::{fake, model, quick};
use e2e::cluster::{Cluster, Space, in_namespace, wait};
use e2e::{clients, repository};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use serde_json::{Value, json};

/// An annotation of the workers' pods: the value that changes.
const NOTE: &str = "example.com/note";

pub(crate) async fn a_release_is_a_service_from_install_to_uninstall(
    cluster: &Cluster,
) -> anyhow::Result<()> {
    in_namespace(cluster, "helm", async |space| {
        let chart = repository().join("charts/smallest");
        let release = Release { name: "demo", namespace: &space.name, chart: &chart };
        cluster.helm.upgrade_with(&release, &values("first")?).await?;
        space.ready("demo").await?;
        space.api::<Secret>().get("demo-registry").await.context("the chart's own Secret")?;
        let service = space.service("demo").await?;
        let sample = spoken(&["by", "helm"]);
        let answer = clients::get_text(&service.url, sample.wav.clone()).await?;
        anyhow::ensure!(answer.status == 200 && plain(answer.text()) == sample.reference, "{answer:?}");
        let gateways = uids(space).await?;
        let live = LiveStream::open(&service, &["rolling", "on"]);

        cluster.helm.upgrade_with(&release, &values("second")?).await?;
        noted(space, "second").await?;
        cluster.helm.rollback("demo", &space.name).await?;
        noted(space, "first").await?;
        live.finish().await?;
        anyhow::ensure!(uids(space).await? == gateways, "an annotation of the workers concerns no gateway");

        cluster.helm.uninstall("demo", &space.name).await?;
        space.gone::<SmallestDeployment>("demo").await?;
        everything_gone(space).await?;
        let claims = claims(space).await?;
        anyhow::ensure!(claims.is_empty(), "nothing was to be kept: {claims:?}");
        Ok(())
    })
    .await
}

/// Values as a user of the chart writes them: its own keys where it has one, `spec` for the rest.
fn values(note: &str) -> anyhow::Result<Value> {
    let mut spec = fake("demo", &json!({"asr": {"models": null}}))?["spec"].take();
    // The chart says itself how long work gets to finish.
    for component in ["gateway", "asr"] {
        spec[component]["lifecycle"] = json!({"preStopSeconds": quick()["preStopSeconds"]});
    }
    let model = model()?;
    Ok(json!({
        "global": {
            "outstandingRequestGracePeriod": 5,
            "imageCredentials": {"registry": "registry.invalid", "username": "e2e", "password": "secret"},
        },
        "models": {"asrModelUrl": model["url"], "asrModelSha256": model["sha256"]},
        "lightningAsr": {"modelName": model["name"], "podAnnotations": {NOTE: note}},
        "spec": spec,
    }))
}

/// Waits until the workers that serve carry the note.
async fn noted(space: &Space<'_>, note: &str) -> anyhow::Result<()> {
    let carries = |deployment: &Deployment| {
        let template = deployment.spec.as_ref().and_then(|spec| spec.template.metadata.as_ref());
        template.and_then(|meta| meta.annotations.as_ref()?.get(NOTE)).is_some_and(|found| found == note)
    };
    space
        .until("demo-asr", &format!("workers with the note {note:?} serve"), |deployment: &Deployment| {
            carries(deployment) && wait::rolled_out(deployment)
        })
        .await?;
    space.ready("demo").await?;
    Ok(())
}

async fn uids(space: &Space<'_>) -> anyhow::Result<Vec<Option<String>>> {
    Ok(space.pods("demo", "gateway").await?.iter().map(ResourceExt::uid).collect())
}
