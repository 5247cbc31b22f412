//! A worker dies under load, by SIGKILL or with its whole pod: every live stream and every recording is answered, with
//! every word, once.

use anyhow::Context;
use e2e::clients;
use e2e::cluster::load::{LiveStream, finish_all, long_recording, plain};
use e2e::cluster::resource::fake;
use e2e::cluster::{Cluster, in_namespace, node};
use kube::ResourceExt;
use serde_json::json;

/// More than one worker holds, so that both have some.
const STREAMS: usize = 6;
/// Recordings at a time beside them.
const RECORDINGS: usize = 2;

pub(crate) async fn nothing_is_lost_with_a_worker(cluster: &Cluster) -> anyhow::Result<()> {
    in_namespace(cluster, "worker-lost", async |space| {
        space.deploy(&fake("demo", &json!({"asr": {"replicas": 2, "slots": 4}}))?).await?;
        space.ready("demo").await?;
        let workers = space.pods_ready("demo", "asr", 2).await?;
        let (first, second) =
            (workers.first().context("two workers")?, workers.last().context("two workers")?);
        let service = space.service("demo").await?;

        let streams = LiveStream::open_many(&service, STREAMS);
        let sample = long_recording(&["every", "word", "once"], 20);
        let recordings = (0..RECORDINGS).map(|_| clients::get_text(&service.url, sample.wav.clone()));
        let killing = async {
            // In a cluster of others only the pod can be taken away.
            if cluster.own {
                node::kill_program(first, "smallest-worker")?;
                space.pods_ready("demo", "asr", 2).await?;
            }
            node::remove(space, &second.name_any()).await?;
            space.pods_ready("demo", "asr", 2).await
        };
        let (answers, killed) = tokio::join!(futures::future::join_all(recordings), killing);
        killed?;
        for answer in answers {
            let answer = answer?;
            anyhow::ensure!(answer.status == 200, "{answer:?}");
            anyhow::ensure!(plain(answer.text()) == sample.reference, "{answer:?}");
        }
        anyhow::ensure!(streams.iter().all(|stream| !stream.is_over()), "no stream ends by itself");
        finish_all(streams).await
    })
    .await
}
