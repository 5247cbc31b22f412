//! From the embedded Redis to an external one that is not there yet, while pods run: the service goes on by the Redis of
//! before, all of which stays until no pod needs it any more; then it goes, its volume too.

use crate::stories::{NO_STORAGE, cannot};
use anyhow::Context;
use e2e::clients;
use e2e::cluster::load::{LiveStream, plain, spoken};
use e2e::cluster::resource::fake;
use e2e::cluster::{Cluster, PATIENCE, Space, exec, in_namespace, needs, wait};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Secret, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::ResourceExt;
use libtest_mimic::Completion;
use serde_json::{Value, json};

/// Every object of the embedded Redis.
const BEFORE: &str = "demo-redis";
/// The other one.
const ELSEWHERE: &str = "elsewhere";

pub(crate) async fn the_redis_of_before_stays_until_nobody_needs_it(
    cluster: &Cluster,
) -> anyhow::Result<Completion> {
    if !needs::default_storage(cluster).await? {
        return cannot(cluster, NO_STORAGE);
    }
    in_namespace(cluster, "redis-moves", async |space| {
        let persistent = json!({"redis": {"embedded": {"persistence": {"size": "64Mi"}}}});
        space.deploy(&fake("demo", &persistent)?).await?;
        space.ready("demo").await?;
        let service = space.service("demo").await?;
        let pods = uids(space).await?;

        // It has an address, and nobody listens there.
        space.apply::<Service>(&address()).await?;
        let url = format!("redis://{ELSEWHERE}.{}.svc:6379", space.name);
        space.change("demo", &json!({"redis": {"embedded": null, "external": {"url": url}}})).await?;
        let redis = space.told("demo", "RedisReady");
        redis.until("names what is not reached", PATIENCE, |told| told.message.contains(ELSEWHERE)).await?;
        stands(space).await?;
        let sample = spoken(&["as", "before"]);
        let answer = clients::get_text(&service.url, sample.wav.clone()).await?;
        assert_eq!((answer.status, plain(answer.text())), (200, sample.reference));

        exec::stranger(space, ELSEWHERE).await?;
        space.gone::<StatefulSet>(BEFORE).await?;
        let left = uids(space).await?;
        anyhow::ensure!(left.iter().all(|uid| !pods.contains(uid)), "pods of before outlive their Redis");
        is_gone(space).await?;
        space.ready("demo").await?;
        LiveStream::open(&service, &["by", "another"]).finish().await
    })
    .await?;
    Ok(Completion::Completed)
}

fn address() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": ELSEWHERE},
        "spec": {"selector": {"app": ELSEWHERE}, "ports": [{"port": 6379}]},
    })
}

/// Uids of the pods of gateway and workers, those on their way out too.
async fn uids(space: &Space<'_>) -> anyhow::Result<Vec<String>> {
    let mut all = Vec::new();
    for component in ["gateway", "asr"] {
        let params =
            kube::api::ListParams::default().labels(&e2e::cluster::space::selector("demo", component));
        let pods = space.api::<k8s_openapi::api::core::v1::Pod>().list(&params).await?;
        all.extend(pods.iter().filter_map(ResourceExt::uid));
    }
    Ok(all)
}

/// Everything of the Redis of before is there.
async fn stands(space: &Space<'_>) -> anyhow::Result<()> {
    let lost = || format!("{BEFORE} is still needed");
    space.api::<StatefulSet>().get(BEFORE).await.with_context(lost)?;
    space.api::<Service>().get(BEFORE).await.with_context(lost)?;
    space.api::<Secret>().get(BEFORE).await.with_context(lost)?;
    space.api::<ConfigMap>().get(BEFORE).await.with_context(lost)?;
    space.api::<NetworkPolicy>().get(BEFORE).await.with_context(lost)?;
    Ok(())
}

/// Waits until nothing is left of it.
async fn is_gone(space: &Space<'_>) -> anyhow::Result<()> {
    space.gone::<Service>(BEFORE).await?;
    space.gone::<Secret>(BEFORE).await?;
    space.gone::<ConfigMap>(BEFORE).await?;
    space.gone::<NetworkPolicy>(BEFORE).await?;
    let claims = space.api::<PersistentVolumeClaim>();
    wait::until_all(&claims, "", "its volume goes with it", PATIENCE, |all: &[&PersistentVolumeClaim]| {
        all.is_empty()
    })
    .await?;
    Ok(())
}
