//! The operator that leads is killed: service goes on, and its standby does what comes next. What stands as it was made it
//! leaves as it is.

use anyhow::{Context, ensure};
use e2e::cluster::bring_up::{OPERATOR, OPERATOR_NAMESPACE};
use e2e::cluster::load::LiveStream;
use e2e::cluster::resource::fake;
use e2e::cluster::{Cluster, PATIENCE, in_namespace, wait};
use futures::StreamExt;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use serde_json::json;
use std::time::Duration;
use tokio::time::{Instant, timeout};

use crate::watches::{self, News, Watches};

/// After this long without a write it is at rest.
const SETTLED: Duration = Duration::from_secs(5);

pub(crate) async fn the_standby_takes_over(cluster: &Cluster) -> anyhow::Result<()> {
    in_namespace(cluster, "operator-lost", async |space| {
        space.deploy(&fake("before", &json!({}))?).await?;
        space.ready("before").await?;
        let live = LiveStream::open(&space.service("before").await?, &["still", "here"]);

        let mut watches = watches::all(space);
        until_rest(&mut watches).await?;

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
        // Whoever begins to lead looks at everything at once: long before new pods are ready.
        space.ready("after").await?;
        let news = until_rest(&mut watches).await?;
        let written: Vec<String> = news.into_iter().filter_map(write_to_before).collect();
        ensure!(written.is_empty(), "written by the standby, though nothing had changed: {written:#?}");
        live.finish().await?;
        cluster.operator_rolled_out().await
    })
    .await
}

/// What happens until nothing has been written for a while.
async fn until_rest(watches: &mut Watches) -> anyhow::Result<Vec<News>> {
    let (by, mut all) = (Instant::now() + PATIENCE, Vec::new());
    while let Ok(Some(news)) = timeout(SETTLED, watches.next()).await {
        ensure!(Instant::now() < by, "it did not come to rest in {PATIENCE:?}; at last: {news:?}");
        all.push(news);
    }
    Ok(all)
}

/// What was written to an object of the deployment that was there before. Its pods bear what they hold just then.
fn write_to_before(news: News) -> Option<String> {
    let News::Write(what) = news else { return None };
    (what.contains(" before") && !what.starts_with("Pod ")).then_some(what)
}
