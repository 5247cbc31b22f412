//! Load that goes takes workers along, the emptiest first: the one that holds a live stream stays, and those that go
//! finish what they have begun.

use anyhow::Context;
use e2e::clients;
use e2e::cluster::load::{LiveStream, long_recording, plain};
use e2e::cluster::resource::fake;
use e2e::cluster::space::{deletion_cost, selector};
use e2e::cluster::{Cluster, PATIENCE, Space, in_namespace, reach, wait};
use e2e::eventually;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::{Value, json};

/// Where workers tell their metrics.
const METRICS_PORT: u16 = 9090;
/// Recordings that all workers are busy with when two of them are to go.
const RECORDINGS: usize = 6;

pub(crate) async fn the_emptiest_pods_go_first(cluster: &Cluster) -> anyhow::Result<()> {
    in_namespace(cluster, "scale-in", async |space| {
        let changes = json!({"asr": {"slots": 4, "scaling": bounds(3)}});
        space.deploy(&fake("demo", &changes)?).await?;
        space.ready("demo").await?;
        space.pods_ready("demo", "asr", 3).await?;
        let acts = space.told("demo", "ScalingActive");
        acts.until("is True", PATIENCE, |condition| condition.status == "True").await?;

        let service = space.service("demo").await?;
        let live = LiveStream::open(&service, &["do", "not", "move", "me"]);
        let busy = holder(space).await?;
        // The operator orders the pods as they are; the stream's is the last that may go.
        let what = format!("{busy} costs most");
        wait::until_all(&space.api::<Pod>(), &selector("demo", "asr"), &what, PATIENCE, |pods: &[&Pod]| {
            pods.iter().all(|pod| (deletion_cost(pod) > 0) == (pod.name_any() == busy))
        })
        .await?;

        let sample = long_recording(&["every", "word", "once"], 20);
        let recordings = (0..RECORDINGS).map(|_| clients::get_text(&service.url, sample.wav.clone()));
        let (answers, left) = tokio::join!(futures::future::join_all(recordings), scaled_in(space));
        let left = left?;
        anyhow::ensure!(left == [busy.clone()], "{busy} holds a stream and was to stay, not {left:?}");
        for answer in answers {
            let answer = answer?;
            anyhow::ensure!(answer.status == 200 && plain(answer.text()) == sample.reference, "{answer:?}");
        }
        anyhow::ensure!(!live.is_over(), "the stream goes on");
        anyhow::ensure!(holder(space).await? == busy, "it never moved");
        live.finish().await
    })
    .await
}

/// Scaling between so many and three, without waiting.
fn bounds(min: u32) -> Value {
    let at_once = json!({
        "stabilizationWindowSeconds": 0, "policies": [{"type": "Pods", "value": 3, "periodSeconds": 5}],
    });
    json!({
        "minReplicas": min, "maxReplicas": 3, "targetActiveRequests": 100,
        "behavior": {"scaleUp": at_once, "scaleDown": at_once},
    })
}

/// Lets the autoscaler have one worker, and waits until it has: names of those that are left.
async fn scaled_in(space: &Space<'_>) -> anyhow::Result<Vec<String>> {
    space.change("demo", &json!({"asr": {"scaling": bounds(1)}})).await?;
    space
        .until("demo-asr", "the autoscaler asks for one worker", |found: &HorizontalPodAutoscaler| {
            found.status.as_ref().is_some_and(|status| status.desired_replicas == 1)
        })
        .await?;
    let left = space.pods_ready("demo", "asr", 1).await?;
    Ok(left.iter().map(ResourceExt::name_any).collect())
}

/// The pod that holds the live stream, as its worker says itself.
async fn holder(space: &Space<'_>) -> anyhow::Result<String> {
    eventually("one worker holds the stream", || async {
        for pod in space.pods("demo", "asr").await.ok()? {
            let name = pod.name_any();
            let metrics = reach::metrics(space, &name, METRICS_PORT).await.ok()?;
            let held = metrics.lines().find_map(|line| line.strip_prefix("asr_active_streams")).unwrap_or("");
            if held.rsplit(' ').next() == Some("1") {
                return Some(name);
            }
        }
        None
    })
    .await
    .context("a worker tells asr_active_streams")
}
