//! GPUs are asked for as the device plugin advertises them; too few of them are told by name.

use crate::stories::cannot;
use anyhow::Context;
use e2e::cluster::needs::{GPU, gpus};
use e2e::cluster::resource::{FAKE_WORKER, fake};
use e2e::cluster::space::{selector, unschedulable};
use e2e::cluster::{Cluster, PATIENCE, TOLD_WITHIN, in_namespace, wait};
use k8s_openapi::api::core::v1::Pod;
use libtest_mimic::Completion;
use serde_json::json;

pub(crate) async fn pods_get_the_gpus_they_ask_for(cluster: &Cluster) -> anyhow::Result<Completion> {
    let there = gpus(cluster).await?;
    if there == 0 {
        return cannot(cluster, &format!("no node advertises {GPU}: install a device plugin"));
    }
    in_namespace(cluster, "gpu", async |space| {
        let on_gpus = |count: i64| {
            let images = json!({"workerCuda": FAKE_WORKER});
            json!({"asr": {"device": "cuda", "gpu": {"count": count}}, "images": images})
        };
        space.deploy(&fake("enough", &on_gpus(1))?).await?;
        space.deploy(&fake("too-many", &on_gpus(there + 1))?).await?;

        let nowhere = |pods: &[&Pod]| pods.iter().any(|pod| unschedulable(pod));
        let (pods, workers) = (space.api::<Pod>(), selector("too-many", "asr"));
        wait::until_all(&pods, &workers, "the scheduler finds no node", PATIENCE, nowhere).await?;
        let began = tokio::time::Instant::now();
        space
            .told("too-many", "ASRReady")
            .until("names the GPU", TOLD_WITHIN, |condition| {
                condition.status == "False"
                    && condition.reason == "Unschedulable"
                    && condition.message.contains(GPU)
            })
            .await?;
        eprintln!("too few GPUs are told {:.1} s after the scheduler's word", began.elapsed().as_secs_f64());

        space.ready("enough").await?;
        let pods = space.pods("enough", "asr").await?;
        let spec = pods.first().and_then(|pod| pod.spec.clone()).context("the worker has a pod")?;
        let worker = spec.containers.first().context("a container")?;
        let limits = worker.resources.as_ref().and_then(|all| all.limits.clone()).unwrap_or_default();
        anyhow::ensure!(limits.get(GPU).is_some_and(|quantity| quantity.0 == "1"), "{limits:?}");
        Ok(())
    })
    .await?;
    Ok(Completion::Completed)
}
