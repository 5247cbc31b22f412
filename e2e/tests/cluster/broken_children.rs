//! Every child that breaks is named by a condition and in an Event, with what to do, within ten seconds.

mod faults;

use anyhow::Context;
use e2e::cluster::bring_up::OPERATOR;
use e2e::cluster::resource::fake;
use e2e::cluster::space::selector;
use e2e::cluster::{Cluster, PATIENCE, Space, TOLD_WITHIN, in_namespace, wait};
use faults::{Fault, Shows, runs};
use futures::future::join_all;
use futures::{AsyncBufReadExt, TryStreamExt};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{Pod, ResourceQuota, Secret};
use k8s_openapi::api::events::v1::Event;
use kube::ResourceExt;
use kube::api::LogParams;
use serde_json::json;

pub(crate) async fn a_condition_names_what_is_broken(cluster: &Cluster) -> anyhow::Result<()> {
    in_namespace(cluster, "broken", async |space| {
        // Not all at once: how soon they are told is measured, and so many pods start slowly on a small machine.
        let rounds = [
            [faults::of_the_resource(), faults::of_scaling(), faults::of_pods()].concat(),
            [faults::of_downloads(), faults::of_others()].concat(),
        ];
        let mut failures = Vec::new();
        for faults in rounds {
            let told = join_all(faults.iter().map(|fault| tell(space, fault))).await;
            failures.extend(told.into_iter().filter_map(Result::err).map(|error| format!("{error:#}")));
        }
        anyhow::ensure!(failures.is_empty(), "{}", failures.join("\n"));
        mended(space).await
    })
    .await?;
    // A quota concerns everything in its namespace, so this fault has one of its own.
    in_namespace(cluster, "quota", full).await
}

/// No pod may be made any more.
async fn full(space: &Space<'_>) -> anyhow::Result<()> {
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "full"}, "spec": {"hard": {"pods": "0"}},
    });
    space.apply::<ResourceQuota>(&quota).await?;
    // Before it is counted, pods are refused for another reason.
    let counted = |quota: &ResourceQuota| quota.status.as_ref().is_some_and(|status| status.used.is_some());
    space.until("full", "the quota is counted", counted).await?;
    tell(space, &faults::of_a_quota()).await
}

async fn tell(space: &Space<'_>, fault: &Fault) -> anyhow::Result<()> {
    space.deploy(&fake(fault.name, &fault.changes)?).await?;
    shown(space, fault).await?;
    let began = tokio::time::Instant::now();
    let what = format!("is False because of {} and names {:?}", fault.reason, fault.names);
    space
        .told(fault.name, fault.condition)
        .until(&what, TOLD_WITHIN, |condition| {
            condition.status == "False"
                && condition.reason == fault.reason
                && condition.message.contains(fault.names)
        })
        .await?;
    eprintln!("{} is told {:.1} s after it shows", fault.name, began.elapsed().as_secs_f64());
    space
        .told(fault.name, "Ready")
        .until("is False", TOLD_WITHIN, |condition| condition.status == "False")
        .await?;
    match fault.shows {
        // An autoscaler that has just been made has no metric yet: only when that lasts is it worth an Event.
        Shows::Autoscaler => Ok(()),
        _ => noted(space, fault).await,
    }
}

/// Waits until a warning of the operator beside the resource says the same.
async fn noted(space: &Space<'_>, fault: &Fault) -> anyhow::Result<()> {
    let says = |event: &Event| {
        let regarding = event.regarding.as_ref().and_then(|about| about.name.as_deref());
        regarding == Some(fault.name)
            && event.reporting_controller.as_deref() == Some(OPERATOR)
            && event.type_.as_deref() == Some("Warning")
            && event.reason.as_deref() == Some(fault.reason)
            && event.note.as_ref().is_some_and(|note| note.contains(fault.names))
    };
    let what =
        format!("an Event beside {} warns of {} and names {:?}", fault.name, fault.reason, fault.names);
    wait::until_all(&space.api::<Event>(), "", &what, TOLD_WITHIN, |all: &[&Event]| {
        all.iter().any(|event| says(event))
    })
    .await?;
    Ok(())
}

/// Waits until a fault shows.
async fn shown(space: &Space<'_>, fault: &Fault) -> anyhow::Result<()> {
    let (pods, workers) = (space.api::<Pod>(), selector(fault.name, "asr"));
    let what = format!("the fault of {} shows", fault.name);
    match fault.shows {
        Shows::Resource => {}
        Shows::Autoscaler => {
            let name = format!("{}-asr", fault.name);
            space
                .until(&name, &what, |autoscaler: &HorizontalPodAutoscaler| {
                    let status = autoscaler.status.as_ref();
                    let conditions =
                        status.and_then(|status| status.conditions.as_ref()).into_iter().flatten();
                    conditions.into_iter().any(|one| one.type_ == "ScalingActive" && one.status == "False")
                })
                .await?;
        }
        Shows::Refused => {
            space
                .until(&format!("{}-asr", fault.name), &what, |workers: &Deployment| {
                    let status = workers.status.as_ref();
                    let conditions =
                        status.and_then(|status| status.conditions.as_ref()).into_iter().flatten();
                    conditions.into_iter().any(|one| one.type_ == "ReplicaFailure" && one.status == "True")
                })
                .await?;
        }
        Shows::Pod(component, shows) => {
            let any = |found: &[&Pod]| found.iter().any(|pod| shows(pod));
            wait::until_all(&pods, &selector(fault.name, component), &what, PATIENCE, any).await?;
        }
        Shows::Log(line) => {
            let started = |pods: &[&Pod]| pods.iter().any(|pod| runs(pod));
            let found = wait::until_all(&pods, &workers, &what, PATIENCE, started).await?;
            let name = found.iter().find(|pod| runs(pod)).map(ResourceExt::name_any).context("a pod runs")?;
            let params =
                LogParams { container: Some("asr".to_owned()), follow: true, ..LogParams::default() };
            let mut lines = pods.log_stream(&name, &params).await?.lines();
            let heard = async {
                while let Some(heard) = lines.try_next().await? {
                    if heard.contains(line) {
                        return Ok(());
                    }
                }
                anyhow::bail!("the log ended without {line:?}")
            };
            tokio::time::timeout(PATIENCE, heard).await.context(what)??;
        }
    }
    Ok(())
}

/// What a user puts right is right at once: the Secret comes, and the deployment goes its way.
async fn mended(space: &Space<'_>) -> anyhow::Result<()> {
    let token = space.cluster.vendor.license(1.0)?;
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "not-there"}, "stringData": {"license.jwt": token},
    });
    space.apply::<Secret>(&secret).await?;
    space.ready("no-license").await?;
    Ok(())
}
