//! A component that nobody uses goes to sleep; the first request wakes it, waits for it and is answered.

use e2e::clients;
use e2e::cluster::load::{LiveStream, plain, spoken};
use e2e::cluster::resource::fake;
use e2e::cluster::{Cluster, Space, in_namespace};
use k8s_openapi::api::apps::v1::Deployment;
use serde_json::json;

/// The shortest that the schema allows.
const IDLE_SECONDS: u32 = 10;

pub(crate) async fn the_first_request_wakes_a_sleeping_component(cluster: &Cluster) -> anyhow::Result<()> {
    in_namespace(cluster, "zero", async |space| {
        let scaling = json!({
            "minReplicas": 0, "maxReplicas": 2, "targetActiveRequests": 4, "idleSeconds": IDLE_SECONDS,
        });
        let changes = json!({
            "asr": {"scaling": scaling}, "gateway": {"limits": {"queueTimeoutSeconds": 120}},
        });
        space.deploy(&fake("demo", &changes)?).await?;
        asleep(space).await?;
        let service = space.service("demo").await?;

        // A recording.
        let sample = spoken(&["good", "morning"]);
        let answer = clients::get_text(&service.url, sample.wav.clone()).await?;
        anyhow::ensure!(answer.status == 200, "{answer:?}");
        assert_eq!(plain(answer.text()), sample.reference);
        asleep(space).await?;

        // A live stream, whose words wait with it.
        let live = LiveStream::open(&service, &["who", "is", "there"]);
        space.pods_ready("demo", "asr", 1).await?;
        live.finish().await?;
        Ok(())
    })
    .await
}

/// Waits until no worker is wanted, and none is left.
async fn asleep(space: &Space<'_>) -> anyhow::Result<()> {
    space
        .until("demo-asr", "the workers sleep", |deployment: &Deployment| {
            deployment.spec.as_ref().and_then(|spec| spec.replicas) == Some(0)
        })
        .await?;
    space.pods_ready("demo", "asr", 0).await?;
    Ok(())
}
