//! Two deployments of the same name in two namespaces: neither takes the other's work.

use crds::SmallestDeployment;
use e2e::clients;
use e2e::cluster::load::{plain, spoken};
use e2e::cluster::resource::fake;
use e2e::cluster::{Cluster, Space, in_namespace};
use serde_json::json;

pub(crate) async fn two_namespaces_never_share_work(cluster: &Cluster) -> anyhow::Result<()> {
    in_namespace(cluster, "left", async |left| {
        in_namespace(cluster, "right", async |right| tell(left, right).await).await
    })
    .await
}

async fn tell(left: &Space<'_>, right: &Space<'_>) -> anyhow::Result<()> {
    // Left has work and nobody to do it; right has a worker with nothing to do.
    left.deploy(&fake("demo", &json!({"asr": {"replicas": 1}}))?).await?;
    right.deploy(&fake("demo", &json!({}))?).await?;
    left.ready("demo").await?;
    right.ready("demo").await?;
    left.change("demo", &json!({"asr": {"replicas": 0}})).await?;
    left.pods_ready("demo", "asr", 0).await?;
    let (here, there) = (left.service("demo").await?, right.service("demo").await?);

    let (mine, yours) = (spoken(&["mine"]), spoken(&["yours"]));
    let waiting = tokio::spawn({
        let (url, wav) = (here.url.clone(), mine.wav.clone());
        async move { clients::get_text(&url, wav).await }
    });
    left.until("demo", "the request waits", |deployment: &SmallestDeployment| {
        deployment
            .status
            .as_ref()
            .and_then(|status| status.queue.as_ref())
            .is_some_and(|queue| queue.depth == 1)
    })
    .await?;
    let answer = clients::get_text(&there.url, yours.wav.clone()).await?;
    assert_eq!((answer.status, plain(answer.text()).as_str()), (200, "yours"));
    anyhow::ensure!(!waiting.is_finished(), "the worker of the right namespace took work of the left one");
    let beside = right.api::<SmallestDeployment>().get("demo").await?.status.and_then(|status| status.queue);
    anyhow::ensure!(
        beside.is_none_or(|queue| queue.depth == 0),
        "the right namespace shows the left one's queue"
    );

    left.change("demo", &json!({"asr": {"replicas": 1}})).await?;
    let answer = waiting.await??;
    assert_eq!((answer.status, plain(answer.text()).as_str()), (200, "mine"));
    Ok(())
}
