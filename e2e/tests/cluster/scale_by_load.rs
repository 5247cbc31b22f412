//! Work that waits brings workers through the cluster's own autoscaler, and goes when the work is done.

use e2e::cluster::load::{LiveStream, finish_all};
use e2e::cluster::resource::fake;
use e2e::cluster::{Cluster, PATIENCE, in_namespace};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use serde_json::json;

pub(crate) async fn queued_work_brings_workers_and_idleness_takes_them(
    cluster: &Cluster,
) -> anyhow::Result<()> {
    in_namespace(cluster, "scale", async |space| {
        let scaling = json!({
            "minReplicas": 1, "maxReplicas": 3, "targetActiveRequests": 2,
            "behavior": {
                "scaleUp": {"stabilizationWindowSeconds": 0, "policies": [{"type": "Pods", "value": 3, "periodSeconds": 5}]},
                "scaleDown": {"stabilizationWindowSeconds": 0, "policies": [{"type": "Pods", "value": 3, "periodSeconds": 5}]},
            },
        });
        let changes = json!({
            "asr": {"slots": 2, "scaling": scaling},
            "gateway": {"limits": {"queueTimeoutSeconds": 120}},
        });
        space.deploy(&fake("demo", &changes)?).await?;
        space.ready("demo").await?;
        space.told("demo", "ScalingActive").until("is True", PATIENCE, |condition| condition.status == "True").await?;

        // One worker holds two of them; four wait in Redis.
        let service = space.service("demo").await?;
        let streams = LiveStream::open_many(&service, 6);
        space
            .until("demo-asr", "the autoscaler asks for three workers", |found: &HorizontalPodAutoscaler| {
                found.status.as_ref().is_some_and(|status| status.desired_replicas == 3)
            })
            .await?;
        space.pods_ready("demo", "asr", 3).await?;
        finish_all(streams).await?;

        space.pods_ready("demo", "asr", 1).await?;
        let deployment = space
            .until("demo", "both decisions are told", |deployment: &crds::SmallestDeployment| {
                let decisions = deployment.status.as_ref().map(|status| status.scale_decisions.clone());
                let decisions = decisions.unwrap_or_default();
                decisions.iter().any(|one| one.to > one.from) && decisions.iter().any(|one| one.to < one.from)
            })
            .await?;
        let decisions = deployment.status.map(|status| status.scale_decisions).unwrap_or_default();
        anyhow::ensure!(decisions.iter().all(|one| one.component == "asr" && !one.inputs.is_empty()), "{decisions:?}");
        Ok(())
    })
    .await
}
