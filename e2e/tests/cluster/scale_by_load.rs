//! Work brings workers and gateways through the cluster's own autoscaler, and they go when it is done: by a target that
//! the resource names, and by how full they are where it names none.

use crds::{ScaleDecision, SmallestDeployment};
use e2e::cluster::load::{LiveStream, finish_all};
use e2e::cluster::metric::Metric;
use e2e::cluster::resource::fake;
use e2e::cluster::{Cluster, PATIENCE, Space, in_namespace};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use serde_json::{Value, json};

pub(crate) async fn queued_work_brings_workers_and_idleness_takes_them(
    cluster: &Cluster,
) -> anyhow::Result<()> {
    in_namespace(cluster, "scale", async |space| {
        let mut scaling = soon(3);
        scaling["targetActiveRequests"] = json!(2);
        let changes = json!({
            "asr": {"slots": 2, "scaling": scaling},
            "gateway": {"limits": {"queueTimeoutSeconds": 120}},
        });
        space.deploy(&fake("demo", &changes)?).await?;
        space.ready("demo").await?;
        space
            .told("demo", "ScalingActive")
            .until("is True", PATIENCE, |condition| condition.status == "True")
            .await?;

        // One worker holds two of them; four wait in Redis.
        let service = space.service("demo").await?;
        let streams = LiveStream::open_many(&service, 6);
        asks(space, "demo-asr", 3).await?;
        space.pods_ready("demo", "asr", 3).await?;
        finish_all(streams).await?;

        space.pods_ready("demo", "asr", 1).await?;
        let deployment = space
            .until("demo", "both decisions are told", |deployment: &SmallestDeployment| {
                let decisions = decisions(deployment);
                decisions.iter().any(|one| one.to > one.from) && decisions.iter().any(|one| one.to < one.from)
            })
            .await?;
        let decisions = decisions(&deployment);
        anyhow::ensure!(
            decisions.iter().all(|one| one.component == "asr" && !one.inputs.is_empty()),
            "{decisions:?}"
        );
        Ok(())
    })
    .await
}

pub(crate) async fn full_gateways_and_full_workers_bring_more(cluster: &Cluster) -> anyhow::Result<()> {
    in_namespace(cluster, "full", async |space| {
        let changes = json!({
            "asr": {"slots": 2, "scaling": soon(3)},
            "gateway": {"limits": {"maxStreams": 4, "queueTimeoutSeconds": 120}, "scaling": soon(2)},
        });
        space.deploy(&fake("demo", &changes)?).await?;
        space.ready("demo").await?;
        let acts = space.told("demo", "ScalingActive");
        acts.until("is True", PATIENCE, |condition| condition.status == "True").await?;

        // All that one gateway takes, and twice what one worker holds.
        let streams = LiveStream::open_many(&space.service("demo").await?, 4);
        tokio::try_join!(asks(space, "demo-gateway", 2), asks(space, "demo-asr", 3))?;
        space.pods_ready("demo", "gateway", 2).await?;
        space.pods_ready("demo", "asr", 3).await?;
        // What each of them counts is neither lost nor counted twice.
        for component in ["gateway", "asr"] {
            Metric { deployment: "demo", component, name: "smallest_active_streams" }
                .reaches(space, "4")
                .await?;
        }
        anyhow::ensure!(streams.iter().all(|stream| !stream.is_over()), "they are still open");
        finish_all(streams).await?;

        tokio::try_join!(asks(space, "demo-gateway", 1), asks(space, "demo-asr", 1))?;
        space.pods_ready("demo", "gateway", 1).await?;
        space.pods_ready("demo", "asr", 1).await?;
        Ok(())
    })
    .await
}

fn decisions(deployment: &SmallestDeployment) -> Vec<ScaleDecision> {
    deployment.status.as_ref().map(|status| status.scale_decisions.clone()).unwrap_or_default()
}

/// Scaling from one to so many: up at once, down soon. Not at once: between a worker's claim and the next sign of life
/// that tells of it, what was claimed is counted nowhere.
fn soon(max: u32) -> Value {
    let rules = |seconds: u32| {
        let policy = json!({"type": "Pods", "value": 3, "periodSeconds": 5});
        json!({"stabilizationWindowSeconds": seconds, "policies": [policy]})
    };
    json!({"minReplicas": 1, "maxReplicas": max, "behavior": {"scaleUp": rules(0), "scaleDown": rules(15)}})
}

/// Waits until an autoscaler asks for so many replicas.
async fn asks(space: &Space<'_>, name: &str, replicas: i32) -> anyhow::Result<()> {
    let what = format!("{name} asks for {replicas} replicas");
    let desired = |found: &HorizontalPodAutoscaler| {
        found.status.as_ref().is_some_and(|status| status.desired_replicas == replicas)
    };
    space.until(name, &what, desired).await?;
    Ok(())
}
