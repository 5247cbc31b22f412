//! Synthesis has no engine in this version, but its objects, its scaling and its conditions: with the fake engine they
//! are as for recognition. Its autoscaler, which is given no target, finds its metric.

use anyhow::Context;
use e2e::cluster::metric::Metric;
use e2e::cluster::resource::{fake, little, model, quick};
use e2e::cluster::{Cluster, PATIENCE, in_namespace};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use serde_json::json;

pub(crate) async fn synthesis_is_planned_like_recognition(cluster: &Cluster) -> anyhow::Result<()> {
    in_namespace(cluster, "tts", async |space| {
        let mut voice = model()?;
        voice["name"] = json!("demo-voice");
        let tts = json!({
            "models": [voice], "device": "cpu", "slots": 2, "lifecycle": quick(), "pod": {"resources": little()},
            "scaling": {"minReplicas": 1, "maxReplicas": 2},
        });
        space.deploy(&fake("demo", &json!({"tts": tts}))?).await?;
        space.told("demo", "TTSReady").until("is True", PATIENCE, |condition| condition.status == "True").await?;
        let deployment = space.api::<Deployment>().get("demo-tts").await?;
        let pod = deployment.spec.and_then(|spec| spec.template.spec).context("a pod template")?;
        let command = pod.containers.first().and_then(|container| container.args.clone()).unwrap_or_default();
        anyhow::ensure!(command.iter().any(|word| word == "tts"), "{command:?}");
        let scaler = space.api::<HorizontalPodAutoscaler>().get("demo-tts").await?;
        anyhow::ensure!(scaler.spec.is_some_and(|spec| spec.max_replicas == 2), "it scales on its own");
        space
            .until("demo-tts", "the autoscaler reads how full the workers are", |found: &HorizontalPodAutoscaler| {
                let status = found.status.as_ref();
                let conditions =
                    status.and_then(|status| status.conditions.as_ref()).into_iter().flatten();
                conditions.into_iter().any(|one| one.type_ == "ScalingActive" && one.status == "True")
            })
            .await?;
        for (name, value) in [("smallest_utilization", "0"), ("smallest_load", "0")] {
            Metric { deployment: "demo", component: "tts", name }.reaches(space, value).await?;
        }
        let ready = space.ready("demo").await?;
        let summary = ready.status.and_then(|status| status.tts).map(|tts| tts.summary);
        anyhow::ensure!(summary.as_deref() == Some("1/1"), "{summary:?}");
        Ok(())
    })
    .await
}
