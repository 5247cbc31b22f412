//! Two deployments of the same name in two namespaces, and one Redis for both: neither takes the other's work, nor
//! counts it, whether it is a recording or a live stream; also while one of them has nobody to do its own.

use anyhow::Context;
use crds::SmallestDeployment;
use e2e::clients;
use e2e::cluster::load::{LiveStream, plain, spoken};
use e2e::cluster::metric::Metric;
use e2e::cluster::resource::fake;
use e2e::cluster::{Cluster, Space, exec, in_namespace, reach};
use e2e::eventually;
use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt;
use queue::keys::Keys;
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

/// The Redis of both, in the namespace of the left one.
const SHARED: &str = "shared";
/// Where workers tell their metrics.
const METRICS_PORT: u16 = 9090;

pub(crate) async fn two_deployments_of_one_redis_never_share_work(cluster: &Cluster) -> anyhow::Result<()> {
    in_namespace(cluster, "left", async |left| {
        in_namespace(cluster, "right", async |right| Box::pin(tell(left, right)).await).await
    })
    .await
}

async fn tell(left: &Space<'_>, right: &Space<'_>) -> anyhow::Result<()> {
    left.apply::<Service>(&address()).await?;
    exec::stranger(left, SHARED).await?;
    let url = format!("redis://{SHARED}.{}.svc:6379", left.name);
    let changes = json!({"asr": {"replicas": 1}, "redis": {"embedded": null, "external": {"url": url}}});
    for space in [left, right] {
        space.deploy(&fake("demo", &changes)?).await?;
    }
    for space in [left, right] {
        space.ready("demo").await?;
    }
    let (here, there) = (left.service("demo").await?, right.service("demo").await?);
    let live = [LiveStream::open(&here, &["still", "mine"]), LiveStream::open(&there, &["still", "yours"])];
    for space in [left, right] {
        told(space, 1, 0).await?;
        counted(space, "smallest_active_streams", 1).await?;
    }

    // Left has work and nobody to do it; right has a worker with room for more.
    scale(left, 0).await?;
    left.pods_ready("demo", "asr", 0).await?;
    let (mine, yours) = (spoken(&["mine"]), spoken(&["yours"]));
    let waiting = tokio::spawn({
        let (url, wav) = (here.url.clone(), mine.wav.clone());
        async move { clients::get_text(&url, wav).await }
    });
    // The stream waits too: the worker that went has given it back.
    told(left, 0, 2).await?;
    counted(left, "smallest_queue_depth", 2).await?;
    let answer = clients::get_text(&there.url, yours.wav.clone()).await?;
    assert_eq!((answer.status, plain(answer.text()).as_str()), (200, "yours"));
    anyhow::ensure!(!waiting.is_finished(), "the worker of the right namespace took work of the left one");
    counted(left, "smallest_queue_depth", 2).await?;
    alone(right).await?;
    apart(left, right).await?;

    scale(left, 1).await?;
    let answer = waiting.await??;
    assert_eq!((answer.status, plain(answer.text()).as_str()), (200, "mine"));
    told(left, 1, 0).await?;
    for stream in live {
        stream.finish().await?;
    }
    Ok(())
}

/// As a person does it, by the scale subresource.
async fn scale(space: &Space<'_>, replicas: u32) -> anyhow::Result<()> {
    let mut command = space.cluster.tool("kubectl");
    command.args(["scale", "smallestdeployment/demo", "--namespace", &space.name]);
    let output = command.arg(format!("--replicas={replicas}")).output().await?;
    anyhow::ensure!(output.status.success(), "kubectl scale: {}", String::from_utf8_lossy(&output.stderr));
    // Whoever scales by this subresource finds the pods that it counts by its selector.
    let scale = space.api::<SmallestDeployment>().get_scale("demo").await?;
    // Zero is left out.
    let asked = scale.spec.map(|spec| spec.replicas.unwrap_or(0));
    let counted = scale.status.and_then(|status| status.selector);
    anyhow::ensure!(asked == i32::try_from(replicas).ok(), "{asked:?} replicas are asked for");
    anyhow::ensure!(counted.as_deref().is_some_and(|labels| labels.contains("component=asr")), "{counted:?}");
    Ok(())
}

/// Nothing of the left one is the right one's: not in its status, its metrics, nor what its worker says itself.
async fn alone(right: &Space<'_>) -> anyhow::Result<()> {
    told(right, 1, 0).await?;
    for (metric, value) in [("smallest_load", 1), ("smallest_queue_depth", 0), ("smallest_active_streams", 1)]
    {
        counted(right, metric, value).await?;
    }
    let worker = right.pods_ready("demo", "asr", 1).await?;
    let worker = worker.first().context("right has a worker")?.name_any();
    let text = reach::metrics(right, &worker, METRICS_PORT).await?;
    for expected in ["asr_active_streams 1", "asr_batch_queue_depth 0", "asr_stream_queue_depth 0"] {
        anyhow::ensure!(
            text.lines().any(|line| line == expected),
            "{worker} does not say {expected}: {text}"
        );
    }
    Ok(())
}

/// Every key is of one of the two; left has work and no worker, right a worker and no work.
async fn apart(left: &Space<'_>, right: &Space<'_>) -> anyhow::Result<()> {
    let of = |space: &Space<'_>| Keys::new(&format!("{}/demo", space.name), "asr");
    let (mine, yours) = (of(left)?, of(right)?);
    let all = redis(left, &["--scan"]).await?;
    let count = |keys: &Keys| all.lines().filter(|key| key.starts_with(keys.prefix())).count();
    let (here, there) = (count(&mine), count(&yours));
    anyhow::ensure!(here > 0 && there > 0 && here + there == all.lines().count(), "keys of others: {all}");
    for (keys, jobs, workers) in [(&mine, "1", "0"), (&yours, "0", "1")] {
        let found = redis(left, &["xlen", &keys.jobs()]).await?;
        anyhow::ensure!(found.trim() == jobs, "{} holds {found} jobs, not {jobs}", keys.jobs());
        // A worker that had no time to say that it goes is known until its registration ends.
        eventually(&format!("{} are {workers}", keys.workers()), || async {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_millis().to_string();
            let found = redis(left, &["zcount", &keys.workers(), &now, "+inf"]).await.ok()?;
            (found.trim() == workers).then_some(())
        })
        .await?;
    }
    Ok(())
}

async fn redis(left: &Space<'_>, arguments: &[&str]) -> anyhow::Result<String> {
    let command = [&["redis-cli"], arguments].concat();
    let ended = exec::run(left, SHARED, "main", &command).await?;
    anyhow::ensure!(ended.success, "redis-cli {arguments:?}: {}", ended.output);
    Ok(ended.output)
}

/// Waits until the status counts so many streams, and so much that waits.
async fn told(space: &Space<'_>, streams: u32, waiting: u64) -> anyhow::Result<()> {
    let what = format!("{streams} streams and {waiting} waiting are told");
    space
        .until("demo", &what, |deployment: &SmallestDeployment| {
            let status = deployment.status.as_ref();
            let used = status.and_then(|status| status.streams.as_ref()).map(|streams| streams.used);
            let depth = status.and_then(|status| status.queue.as_ref()).map(|queue| queue.depth);
            used == Some(streams) && depth == Some(waiting)
        })
        .await?;
    Ok(())
}

/// Waits until a metric of the workers is so many, as the autoscaler reads it.
async fn counted(space: &Space<'_>, name: &str, value: u32) -> anyhow::Result<()> {
    Metric { deployment: "demo", component: "asr", name }.reaches(space, &value.to_string()).await
}

fn address() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": SHARED},
        "spec": {"selector": {"app": SHARED}, "ports": [{"port": 6379}]},
    })
}
