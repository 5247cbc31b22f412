//! GPUs are asked for as the device plugin advertises them; too few of them are told by name.

use anyhow::Context;
use e2e::cluster::resource::{FAKE_WORKER, fake};
use e2e::cluster::{Cluster, TOLD_WITHIN, in_namespace};
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::ListParams;
use serde_json::json;

const GPU: &str = "nvidia.com/gpu";

pub(crate) async fn pods_get_the_gpus_they_ask_for(cluster: &Cluster) -> anyhow::Result<()> {
    let there = gpus(cluster).await?;
    anyhow::ensure!(there > 0, "no node advertises {GPU}: install a device plugin");
    in_namespace(cluster, "gpu", async |space| {
        let on_gpus = |count: i64| {
            let images = json!({"workerCuda": FAKE_WORKER});
            json!({"asr": {"device": "cuda", "gpu": {"count": count}}, "images": images})
        };
        space.deploy(&fake("enough", &on_gpus(1))?).await?;
        space.deploy(&fake("too-many", &on_gpus(there + 1))?).await?;

        let told = space
            .told("too-many", "ASRReady")
            .until("names the GPU", TOLD_WITHIN * 3, |condition| {
                condition.status == "False" && condition.reason == "Unschedulable"
            })
            .await?;
        anyhow::ensure!(told.message.contains(GPU), "{}", told.message);

        space.ready("enough").await?;
        let pods = space.pods("enough", "asr").await?;
        let spec = pods.first().and_then(|pod| pod.spec.clone()).context("the worker has a pod")?;
        let worker = spec.containers.first().context("a container")?;
        let limits = worker.resources.as_ref().and_then(|all| all.limits.clone()).unwrap_or_default();
        anyhow::ensure!(limits.get(GPU).is_some_and(|quantity| quantity.0 == "1"), "{limits:?}");
        Ok(())
    })
    .await
}

/// GPUs that all nodes together can give.
async fn gpus(cluster: &Cluster) -> anyhow::Result<i64> {
    let nodes = Api::<Node>::all(cluster.client.clone()).list(&ListParams::default()).await?;
    let counts = nodes.items.into_iter().filter_map(|node| {
        let allocatable = node.status?.allocatable?;
        allocatable.get(GPU)?.0.parse::<i64>().ok()
    });
    Ok(counts.sum())
}
