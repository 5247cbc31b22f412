//! The operator that leads is killed: service goes on, and its standby does what comes next.

use anyhow::Context;
use e2e::cluster::bring_up::{OPERATOR, OPERATOR_NAMESPACE};
use e2e::cluster::load::LiveStream;
use e2e::cluster::resource::fake;
use e2e::cluster::{Cluster, PATIENCE, in_namespace, wait};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use serde_json::json;

pub(crate) async fn the_standby_takes_over(cluster: &Cluster) -> anyhow::Result<()> {
    in_namespace(cluster, "operator-lost", async |space| {
        space.deploy(&fake("before", &json!({}))?).await?;
        space.ready("before").await?;
        let live = LiveStream::open(&space.service("before").await?, &["still", "here"]);

        let leases: Api<Lease> = Api::namespaced(cluster.client.clone(), OPERATOR_NAMESPACE);
        let leader = leases.get(OPERATOR).await?.spec.and_then(|spec| spec.holder_identity);
        let leader = leader.context("somebody leads")?;
        let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), OPERATOR_NAMESPACE);
        let all = pods.list(&ListParams::default()).await?.items;
        let pod = all.iter().map(ResourceExt::name_any).find(|name| leader.contains(name.as_str()));
        let pod = pod.with_context(|| format!("{leader} is one of the operator's pods"))?;
        let params = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
        pods.delete(&pod, &params).await?;

        space.deploy(&fake("after", &json!({}))?).await?;
        wait::until(&leases, OPERATOR, "the standby leads", PATIENCE, |lease| {
            let holder = lease.and_then(|lease| lease.spec.as_ref()?.holder_identity.clone());
            holder.is_some_and(|holder| holder != leader)
        })
        .await?;
        space.ready("after").await?;
        live.finish().await?;
        cluster.operator_rolled_out().await
    })
    .await
}
