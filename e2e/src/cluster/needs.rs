//! What some stories need of a cluster beyond Kubernetes itself: GPUs, a default `StorageClass`, somebody who enforces
//! `NetworkPolicies`. Found out by asking the cluster, so that a story can say what is missing instead of failing.

use super::exec::{connects, stranger};
use super::{Cluster, Space};
use crate::eventually;
use anyhow::Context;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use std::time::Duration;
use tokio::time::timeout;

/// As the device plugin advertises them.
pub const GPU: &str = "nvidia.com/gpu";
/// What makes a class the one of claims that name none.
const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";
/// Policies take effect a moment after they are written; nobody who enforces them needs longer.
const ENFORCED_WITHIN: Duration = Duration::from_secs(20);

/// GPUs that all nodes together can give.
pub async fn gpus(cluster: &Cluster) -> anyhow::Result<i64> {
    let nodes = Api::<Node>::all(cluster.client.clone()).list(&ListParams::default()).await?;
    let counts = nodes.items.into_iter().filter_map(|node| {
        let allocatable = node.status?.allocatable?;
        allocatable.get(GPU)?.0.parse::<i64>().ok()
    });
    Ok(counts.sum())
}

/// Does a claim that names no class get a volume?
pub async fn default_storage(cluster: &Cluster) -> anyhow::Result<bool> {
    let classes = Api::<StorageClass>::all(cluster.client.clone()).list(&ListParams::default()).await?;
    Ok(classes.iter().any(|class| class.annotations().get(DEFAULT_CLASS).is_some_and(|is| is == "true")))
}

/// Are `NetworkPolicies` more than words here? Tried out, since there are many who may enforce them and as many ways to
/// leave them unenforced: the way from a pod to another one is closed, and must then be closed.
pub async fn policies_hold(space: &Space<'_>, from: (&str, &str)) -> anyhow::Result<bool> {
    let name = "closed";
    let to = stranger(space, name).await?.status.and_then(|status| status.pod_ip);
    let to = to.context("the pod has an address")?;
    let policy = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": name},
        "spec": {"podSelector": {"matchLabels": {"app": name}}, "policyTypes": ["Ingress"]},
    });
    anyhow::ensure!(connects(space, from, &to, 6379).await?, "pods reach each other without policies");
    space.apply::<NetworkPolicy>(&policy).await?;
    let closed = eventually("the way is closed", || async {
        connects(space, from, &to, 6379).await.ok().filter(|connected| !connected)
    });
    let hold = timeout(ENFORCED_WITHIN, closed).await.is_ok();
    space.api::<NetworkPolicy>().delete(name, &DeleteParams::default()).await?;
    Ok(hold)
}
