//! The external metrics are away: the autoscaler says so, and so does the resource; what serves goes on serving, as
//! many replicas as before. When they are back, it scales again.

use anyhow::Context;
use e2e::clients;
use e2e::cluster::load::{LiveStream, plain, spoken};
use e2e::cluster::resource::fake;
use e2e::cluster::{Cluster, Space, TOLD_WITHIN, in_namespace};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

const API_SERVICE: &str = "v1beta1.external.metrics.k8s.io";

pub(crate) async fn without_a_metric_everything_stays(cluster: &Cluster) -> anyhow::Result<()> {
    in_namespace(cluster, "no-metric", async |space| {
        let scaling = json!({"minReplicas": 2, "maxReplicas": 3, "targetActiveRequests": 4});
        space.deploy(&fake("demo", &json!({"asr": {"scaling": scaling}}))?).await?;
        space.ready("demo").await?;
        acts(space).await?;
        let pods = uids(space).await?;
        let service = space.service("demo").await?;
        let live = LiveStream::open(&service, &["still", "here"]);

        let services: Api<APIService> = Api::all(cluster.client.clone());
        let former = services.get(API_SERVICE).await?.spec.and_then(|spec| spec.service);
        let former = former.context("the external metrics are served by a Service")?;
        let away = json!({"spec": {"service": {"name": "not-there"}}});
        services.patch(API_SERVICE, &PatchParams::default(), &Patch::Merge(away)).await?;
        let told = told(space).await;
        // All autoscalers of the cluster need it, so it comes back whatever was found.
        let back = json!({"spec": {"service": former}});
        services.patch(API_SERVICE, &PatchParams::default(), &Patch::Merge(back)).await?;
        told?;
        acts(space).await?;

        anyhow::ensure!(uids(space).await? == pods, "the same pods serve");
        live.finish().await
    })
    .await
}

/// What a user sees while the metrics are away.
async fn told(space: &Space<'_>) -> anyhow::Result<()> {
    space
        .until("demo-asr", "the autoscaler has no metric", |autoscaler: &HorizontalPodAutoscaler| {
            let status = autoscaler.status.as_ref();
            let conditions = status.and_then(|status| status.conditions.as_ref()).into_iter().flatten();
            conditions.into_iter().any(|one| one.type_ == "ScalingActive" && one.status == "False")
        })
        .await?;
    let began = tokio::time::Instant::now();
    space
        .told("demo", "ScalingActive")
        .until("is False because of MetricUnavailable and names the metric", TOLD_WITHIN, |condition| {
            condition.status == "False"
                && condition.reason == "MetricUnavailable"
                && condition.message.contains("smallest_load")
                && condition.message.contains(API_SERVICE)
        })
        .await?;
    eprintln!(
        "a metric that is away is told {:.1} s after the autoscaler's word",
        began.elapsed().as_secs_f64()
    );
    space.told("demo", "Ready").until("is True", TOLD_WITHIN, |ready| ready.status == "True").await?;
    let sample = spoken(&["good", "evening"]);
    let service = space.service("demo").await?;
    let answer = clients::get_text(&service.url, sample.wav.clone()).await?;
    anyhow::ensure!(answer.status == 200 && plain(answer.text()) == sample.reference, "{answer:?}");
    Ok(())
}

/// Waits until the autoscalers act.
async fn acts(space: &Space<'_>) -> anyhow::Result<()> {
    let patience = e2e::cluster::PATIENCE;
    space.told("demo", "ScalingActive").until("is True", patience, |told| told.status == "True").await?;
    Ok(())
}

async fn uids(space: &Space<'_>) -> anyhow::Result<Vec<Option<String>>> {
    let mut all = Vec::new();
    for component in ["gateway", "asr", "redis"] {
        all.extend(space.pods("demo", component).await?.iter().map(ResourceExt::uid));
    }
    Ok(all)
}
