//! A worker that hangs is told of as soon as the kubelet says that its probe fails, and is serving again once the
//! kubelet has started it anew.

use anyhow::Context;
use e2e::cluster::resource::fake;
use e2e::cluster::space::is_ready;
use e2e::cluster::{Cluster, TOLD_WITHIN, in_namespace, node};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use libtest_mimic::Completion;
use serde_json::json;

pub(crate) async fn a_failing_probe_is_told_and_mended(cluster: &Cluster) -> anyhow::Result<Completion> {
    if !cluster.own {
        // Nobody but the node can stop a container's first program.
        return Ok(Completion::ignored_with(node::ONLY_HERE));
    }
    in_namespace(cluster, "hung", async |space| {
        space.deploy(&fake("demo", &json!({}))?).await?;
        space.ready("demo").await?;
        let workers = space.pods_ready("demo", "asr", 1).await?;
        let worker = workers.first().context("a worker")?;
        let name = worker.name_any();

        node::freeze_program(worker, "smallest-worker")?;
        space.until(&name, "the kubelet says that it is not ready", |pod: &Pod| !is_ready(pod)).await?;
        let began = tokio::time::Instant::now();
        let what = format!("is False because of ProbeFailing and names {name}");
        space
            .told("demo", "ASRReady")
            .until(&what, TOLD_WITHIN, |condition| {
                condition.status == "False"
                    && condition.reason == "ProbeFailing"
                    && condition.message.contains(&name)
                    && condition.message.contains("readiness probe")
            })
            .await?;
        eprintln!("a hung worker is told {:.1} s after the kubelet's word", began.elapsed().as_secs_f64());
        space.told("demo", "Ready").until("is False", TOLD_WITHIN, |ready| ready.status == "False").await?;

        // Its liveness probe fails as well: it is killed, started again, and serves.
        space.ready("demo").await?;
        let restarted = space.until(&name, "it was started again", |pod: &Pod| restarts(pod) == 1).await?;
        anyhow::ensure!(restarted.uid() == worker.uid(), "the same pod");
        space.told("demo", "Degraded").until("is False", TOLD_WITHIN, |told| told.status == "False").await?;
        Ok(())
    })
    .await?;
    Ok(Completion::Completed)
}

fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    statuses.into_iter().flatten().map(|status| status.restart_count).sum()
}
