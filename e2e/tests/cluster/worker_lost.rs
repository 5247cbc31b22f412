//! A worker dies under load, by SIGKILL, with its container or with its whole pod: every live stream and every
//! recording is answered, with every word, once.

use anyhow::Context;
use e2e::clients;
use e2e::cluster::load::{LiveStream, finish_all, long_recording, plain};
use e2e::cluster::resource::fake;
use e2e::cluster::{Cluster, Space, in_namespace, node};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use libtest_mimic::Completion;
use serde_json::json;

/// More than one worker holds, so that both have some.
const STREAMS: usize = 6;
/// Recordings at a time beside them.
const RECORDINGS: usize = 2;

pub(crate) async fn nothing_is_lost_with_a_pod(cluster: &Cluster) -> anyhow::Result<()> {
    in_namespace(cluster, "pod-lost", async |space| {
        under_load(space, async |workers| {
            let worker = workers.first().context("a worker")?;
            node::remove(space, &worker.name_any()).await?;
            space.pods_ready("demo", "asr", 2).await.map(drop)
        })
        .await
    })
    .await
}

pub(crate) async fn nothing_is_lost_with_a_program_or_a_container(
    cluster: &Cluster,
) -> anyhow::Result<Completion> {
    if !cluster.own {
        return Ok(Completion::ignored_with(node::ONLY_HERE));
    }
    in_namespace(cluster, "worker-lost", async |space| {
        under_load(space, async |workers| {
            let (first, second) =
                (workers.first().context("two workers")?, workers.last().context("two workers")?);
            node::kill_program(first, "smallest-worker")?;
            started_again(space, first).await?;
            node::remove_container(second, "asr").await?;
            started_again(space, second).await
        })
        .await
    })
    .await?;
    Ok(Completion::Completed)
}

/// Two workers with live streams and recordings; `lose` takes workers away and waits until others are there.
async fn under_load(
    space: &Space<'_>,
    lose: impl AsyncFnOnce(&[Pod]) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    space.deploy(&fake("demo", &json!({"asr": {"replicas": 2, "slots": 4}}))?).await?;
    space.ready("demo").await?;
    let workers = space.pods_ready("demo", "asr", 2).await?;
    let service = space.service("demo").await?;

    let streams = LiveStream::open_many(&service, STREAMS);
    let sample = long_recording(&["every", "word", "once"], 20);
    let recordings = (0..RECORDINGS).map(|_| clients::get_text(&service.url, sample.wav.clone()));
    let (answers, taken) = tokio::join!(futures::future::join_all(recordings), lose(&workers));
    taken?;
    for answer in answers {
        let answer = answer?;
        anyhow::ensure!(answer.status == 200, "{answer:?}");
        anyhow::ensure!(plain(answer.text()) == sample.reference, "{answer:?}");
    }
    anyhow::ensure!(streams.iter().all(|stream| !stream.is_over()), "no stream ends by itself");
    finish_all(streams).await
}

/// Waits until the kubelet has started a container of the same pod again, and both workers are ready.
async fn started_again(space: &Space<'_>, pod: &Pod) -> anyhow::Result<()> {
    let what = "its container was started again";
    space.until(&pod.name_any(), what, |found: &Pod| found.uid() == pod.uid() && restarts(found) > 0).await?;
    space.pods_ready("demo", "asr", 2).await.map(drop)
}

fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    statuses.into_iter().flatten().map(|status| status.restart_count).sum()
}
