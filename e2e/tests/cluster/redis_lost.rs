//! The pod of the embedded Redis goes away: gateways and workers find the new one by themselves.

use anyhow::Context;
use e2e::clients;
use e2e::cluster::load::{LiveStream, plain, spoken};
use e2e::cluster::resource::fake;
use e2e::cluster::space::is_ready;
use e2e::cluster::{Cluster, Space, in_namespace, node};
use e2e::eventually;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::json;

pub(crate) async fn a_new_redis_is_found(cluster: &Cluster) -> anyhow::Result<()> {
    in_namespace(cluster, "redis-lost", async |space| {
        space.deploy(&fake("demo", &json!({}))?).await?;
        space.ready("demo").await?;
        let before = restarts(space).await?;
        let redis = space.pods("demo", "redis").await?;
        let redis = redis.first().context("the Redis has a pod")?;
        let (name, uid) = (redis.name_any(), redis.uid());

        node::remove(space, &name).await?;
        space.until(&name, "a new Redis is ready", |pod: &Pod| pod.uid() != uid && is_ready(pod)).await?;
        let service = space.service("demo").await?;
        let sample = spoken(&["back", "again"]);
        // Its registry was empty at first; the workers have to come back to it.
        let answer = eventually("a recording is answered again", || async {
            let answer = clients::get_text(&service.url, sample.wav.clone()).await.ok()?;
            (answer.status == 200).then_some(answer)
        })
        .await?;
        assert_eq!(plain(answer.text()), sample.reference);
        LiveStream::open(&service, &["and", "live"]).finish().await?;
        space.ready("demo").await?;
        assert_eq!(restarts(space).await?, before, "nobody had to be started again");
        Ok(())
    })
    .await
}

/// Pods of gateway and workers, with how often their containers were started again.
async fn restarts(space: &Space<'_>) -> anyhow::Result<Vec<(Option<String>, i32)>> {
    let mut all = Vec::new();
    for component in ["gateway", "asr"] {
        for pod in space.pods("demo", component).await? {
            let statuses =
                pod.status.as_ref().and_then(|status| status.container_statuses.clone()).unwrap_or_default();
            all.push((pod.uid(), statuses.iter().map(|status| status.restart_count).sum()));
        }
    }
    Ok(all)
}
