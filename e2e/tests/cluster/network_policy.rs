//! Default-deny: the ways that a request takes are open, all others are closed.

use crate::stories::cannot;
use anyhow::Context;
use e2e::cluster::exec::{connects, stranger};
use e2e::cluster::resource::fake;
use e2e::cluster::{Cluster, Space, in_namespace, needs};
use e2e::eventually;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use libtest_mimic::Completion;
use serde_json::json;

/// A container to look from.
type From<'a> = (&'a str, &'a str);

pub(crate) async fn only_the_ways_of_the_service_are_open(cluster: &Cluster) -> anyhow::Result<Completion> {
    // Boxed: nothing is optimized here, and the story has much to remember.
    Box::pin(in_namespace(cluster, "policy", async |space| {
        let outsider = stranger(space, "stranger").await?;
        let outsider_ip = ip(&outsider)?;
        let from_stranger = ("stranger", "main");
        // The throw-away cluster has an enforcer: there, open ways are a fault and not a reason to be skipped.
        if !cluster.own && !needs::policies_hold(space, from_stranger).await? {
            return cannot(
                cluster,
                "nobody enforces NetworkPolicies here: install a network plugin that does",
            );
        }
        space.deploy(&fake("demo", &json!({}))?).await?;
        space.ready("demo").await?;
        let (gateway, worker, redis) =
            (pod(space, "gateway").await?, pod(space, "asr").await?, pod(space, "redis").await?);
        let (gateway_name, worker_name, redis_name) =
            (gateway.name_any(), worker.name_any(), redis.name_any());
        let from_gateway = (gateway_name.as_str(), container(&gateway)?);
        let from_worker = (worker_name.as_str(), container(&worker)?);
        let from_redis = (redis_name.as_str(), container(&redis)?);

        // What must be open, so that the rest says something.
        open(space, from_stranger, &ip(&gateway)?, 7100).await?;
        open(space, from_gateway, &ip(&redis)?, 6379).await?;
        open(space, from_worker, &ip(&redis)?, 6379).await?;

        let closed: [(From<'_>, String, u16, &str); 8] = [
            (from_stranger, ip(&redis)?, 6379, "a stranger and Redis"),
            (from_stranger, ip(&worker)?, 2233, "a stranger and a worker"),
            (from_stranger, ip(&worker)?, 6699, "a stranger and a license proxy"),
            (from_stranger, ip(&gateway)?, 6699, "a stranger and a license proxy"),
            (from_gateway, ip(&worker)?, 2233, "a gateway and a worker, which meet in Redis only"),
            (from_gateway, outsider_ip.clone(), 6379, "a gateway and a stranger"),
            (from_worker, outsider_ip.clone(), 6379, "a worker and a stranger"),
            (from_redis, outsider_ip, 6379, "Redis and a stranger"),
        ];
        for (from, to, port, between) in closed {
            let connected = connects(space, from, &to, port).await?;
            anyhow::ensure!(!connected, "the way between {between} is open: {} to {to}:{port}", from.0);
        }

        // Without policies the same ways are open: it was they that closed them.
        space.change("demo", &json!({"networkPolicy": {"enabled": false}})).await?;
        open(space, from_stranger, &ip(&redis)?, 6379).await?;
        Ok(Completion::Completed)
    }))
    .await
}

/// Waits until a way is open; policies take effect a moment after they are written.
async fn open(space: &Space<'_>, from: From<'_>, to: &str, port: u16) -> anyhow::Result<()> {
    eventually(&format!("{} reaches {to}:{port}", from.0), || async {
        connects(space, from, to, port).await.ok().filter(|connected| *connected)
    })
    .await?;
    Ok(())
}

async fn pod(space: &Space<'_>, component: &str) -> anyhow::Result<Pod> {
    let pods = space.pods("demo", component).await?;
    pods.into_iter().next().with_context(|| format!("{component} has a pod"))
}

fn ip(pod: &Pod) -> anyhow::Result<String> {
    pod.status.as_ref().and_then(|status| status.pod_ip.clone()).context("the pod has an address")
}

/// Name of the main container.
fn container(pod: &Pod) -> anyhow::Result<&str> {
    let containers = pod.spec.as_ref().map(|spec| spec.containers.as_slice()).unwrap_or_default();
    containers.first().map(|container| container.name.as_str()).context("the pod has a container")
}
