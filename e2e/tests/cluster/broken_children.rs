//! Every child that breaks is named by a condition, with what to do, within ten seconds.

use anyhow::Context;
use e2e::cluster::resource::{FAKE_WORKER, fake};
use e2e::cluster::space::selector;
use e2e::cluster::{Cluster, PATIENCE, Space, TOLD_WITHIN, in_namespace, wait};
use futures::future::join_all;
use futures::{AsyncBufReadExt, TryStreamExt};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, Secret};
use kube::ResourceExt;
use kube::api::LogParams;
use serde_json::{Value, json};

/// A fault, and the condition that must tell of it.
#[derive(Clone)]
struct Fault {
    name: &'static str,
    changes: Value,
    /// What shows it first; from then on the time counts.
    shows: Shows,
    condition: &'static str,
    reason: &'static str,
    /// What the message must name.
    names: &'static str,
}

/// What shows a fault first.
#[derive(Clone, Copy)]
enum Shows {
    /// The resource itself.
    Resource,
    /// A pod of a component.
    Pod(&'static str, fn(&Pod) -> bool),
    /// A line in the log of the worker.
    Log(&'static str),
    /// The workers' autoscaler: it does not act.
    Autoscaler,
}

/// What the resource itself shows, before any pod.
fn faults_of_the_resource() -> Vec<Fault> {
    vec![
        Fault {
            name: "no-license",
            changes: json!({"license": {"offline": {"secretRef": {"name": "not-there"}}}}),
            shows: Shows::Resource,
            condition: "LicenseValid",
            reason: "SecretMissing",
            names: "not-there",
        },
        Fault {
            name: "wrong-key",
            changes: json!({"license": {"offline": {"secretRef": {"name": "license", "key": "no-such-key"}}}}),
            shows: Shows::Resource,
            condition: "LicenseValid",
            reason: "SecretKeyMissing",
            names: "no-such-key",
        },
        Fault {
            name: "no-redis",
            changes: json!({
                "gateway": {"replicas": 1}, "redis": {"embedded": null, "external": {"url": "redis://not-there:6379"}},
            }),
            shows: Shows::Resource,
            condition: "RedisReady",
            reason: "RedisUnreachable",
            names: "not-there",
        },
    ]
}

/// What the autoscaler shows.
fn faults_of_scaling() -> Vec<Fault> {
    let scaling = json!({"minReplicas": 1, "maxReplicas": 2, "targetActiveRequests": 4});
    vec![Fault {
        name: "no-metric",
        changes: json!({
            "gateway": {"replicas": 0}, "asr": {"scaling": scaling},
            "redis": {"embedded": null, "external": {"url": "redis://nowhere:6379"}},
        }),
        shows: Shows::Autoscaler,
        condition: "ScalingActive",
        reason: "MetricUnavailable",
        names: "redis at nowhere:6379",
    }]
}

/// What pods of the workers show.
fn faults_of_pods() -> Vec<Fault> {
    // Nothing but the workers and Redis, to be quick.
    let of = |asr: Value| json!({"gateway": {"replicas": 0}, "asr": asr});
    let mut wrong_digest = of(json!({}));
    wrong_digest["images"] = json!({"worker": null});
    wrong_digest["asr"]["models"] = json!([{
        "name": "demo-asr", "url": "file:///usr/share/smallest/models/demo-asr", "sha256": "0".repeat(64),
    }]);
    let mut no_image = of(json!({}));
    no_image["images"] = json!({"worker": "registry.invalid/smallestinc/no-such-image:0.0.1"});
    // Without a Redis a worker runs and never gets ready, and here it is given no time for it. It may end by itself or
    // be killed for that: both are the probe's doing.
    let mut never_ready = of(json!({"lifecycle": {"startupSeconds": 10}}));
    never_ready["redis"] = json!({"embedded": null, "external": {"url": "redis://nowhere:6379"}});
    let mut unreadable = of(json!({}));
    unreadable["monitoring"] = json!({"logFilter": "gateway=loud"});
    let little = json!({"resources": {"limits": {"memory": "12Mi"}, "requests": {"memory": "12Mi"}}});
    vec![
        Fault {
            name: "no-image",
            changes: no_image,
            shows: Shows::Pod("asr", |pod| waits_for(pod, &["ErrImagePull", "ImagePullBackOff"])),
            condition: "ASRReady",
            reason: "ImagePullFailed",
            names: "no-such-image",
        },
        Fault {
            name: "no-node",
            changes: of(json!({"pod": {"nodeSelector": {"disk": "of-gold"}}})),
            shows: Shows::Pod("asr", unschedulable),
            condition: "ASRReady",
            reason: "Unschedulable",
            names: "node",
        },
        Fault {
            name: "wrong-digest",
            changes: wrong_digest,
            shows: Shows::Log("no model yet"),
            condition: "ModelsReady",
            reason: "ModelDigestMismatch",
            names: "demo-asr",
        },
        Fault {
            name: "never-ready",
            changes: never_ready,
            shows: Shows::Pod("asr", restarted),
            condition: "ASRReady",
            reason: "ProbeFailing",
            names: "startup",
        },
        Fault {
            name: "crashes",
            changes: unreadable,
            shows: Shows::Pod("asr", |pod| waits_for(pod, &["CrashLoopBackOff"])),
            condition: "ASRReady",
            reason: "CrashLoop",
            names: "RUST_LOG",
        },
        Fault {
            name: "no-memory",
            changes: of(json!({"pod": little})),
            shows: Shows::Pod("asr", |pod| ended_by(pod, "OOMKilled")),
            condition: "ASRReady",
            reason: "OOMKilled",
            names: "memory",
        },
    ]
}

/// What keeps a worker from having its model: both addresses are in its own pod, where nothing answers for it.
fn faults_of_downloads() -> Vec<Fault> {
    let from = |url: &str| {
        let model = json!({"name": "demo-asr", "url": url, "sha256": "0".repeat(64)});
        json!({"gateway": {"replicas": 0}, "images": {"worker": null}, "asr": {"models": [model]}})
    };
    let fault = |name, url: &str, names| Fault {
        name,
        changes: from(url),
        shows: Shows::Log("no model yet"),
        condition: "ModelsReady",
        reason: "ModelDownloadFailed",
        names,
    };
    vec![
        // The worker's own metrics are served there, and no models.
        fault("not-found", "http://127.0.0.1:9090/no-such-model", "404"),
        fault("refused", "http://127.0.0.1:9/no-such-server", "no-such-server"),
    ]
}

/// What pods of the gateway and of Redis show.
fn faults_of_others() -> Vec<Fault> {
    let no_image = |name| format!("registry.invalid/smallestinc/{name}:0.0.1");
    vec![
        Fault {
            name: "no-gateway",
            changes: json!({"images": {"gateway": no_image("no-such-gateway")}}),
            shows: Shows::Pod("gateway", |pod| waits_for(pod, &["ErrImagePull", "ImagePullBackOff"])),
            condition: "GatewayReady",
            reason: "ImagePullFailed",
            names: "no-such-gateway",
        },
        Fault {
            name: "no-queue",
            changes: json!({"gateway": {"replicas": 0}, "images": {"redis": no_image("no-such-redis")}}),
            shows: Shows::Pod("redis", |pod| waits_for(pod, &["ErrImagePull", "ImagePullBackOff"])),
            condition: "RedisReady",
            reason: "ImagePullFailed",
            names: "no-such-redis",
        },
        // There is an image, but nothing in it that could be started.
        Fault {
            name: "other-queue",
            changes: json!({"gateway": {"replicas": 0}, "images": {"redis": FAKE_WORKER}}),
            shows: Shows::Pod("redis", |pod| waits_for(pod, &["RunContainerError", "CrashLoopBackOff"])),
            condition: "RedisReady",
            reason: "ContainerStartFailed",
            names: "redis",
        },
    ]
}

pub(crate) async fn a_condition_names_what_is_broken(cluster: &Cluster) -> anyhow::Result<()> {
    in_namespace(cluster, "broken", async |space| {
        // Not all at once: how soon they are told is measured, and so many pods start slowly on a small machine.
        let rounds = [
            [faults_of_the_resource(), faults_of_scaling(), faults_of_pods()].concat(),
            [faults_of_downloads(), faults_of_others()].concat(),
        ];
        let mut failures = Vec::new();
        for faults in rounds {
            let told = join_all(faults.iter().map(|fault| tell(space, fault))).await;
            failures.extend(told.into_iter().filter_map(Result::err).map(|error| format!("{error:#}")));
        }
        anyhow::ensure!(failures.is_empty(), "{}", failures.join("\n"));
        mended(space).await
    })
    .await
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

fn containers(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.as_ref();
    let init = status.and_then(|status| status.init_container_statuses.as_ref()).into_iter().flatten();
    init.chain(status.and_then(|status| status.container_statuses.as_ref()).into_iter().flatten())
}

fn waits_for(pod: &Pod, reasons: &[&str]) -> bool {
    let waiting =
        containers(pod).filter_map(|container| container.state.as_ref()?.waiting.as_ref()?.reason.as_deref());
    waiting.into_iter().any(|reason| reasons.contains(&reason))
}

fn ended_by(pod: &Pod, reason: &str) -> bool {
    containers(pod).any(|container| {
        let states = [container.state.as_ref(), container.last_state.as_ref()];
        states
            .into_iter()
            .flatten()
            .filter_map(|state| state.terminated.as_ref()?.reason.as_deref())
            .any(|r| r == reason)
    })
}

fn runs(pod: &Pod) -> bool {
    let statuses =
        pod.status.as_ref().and_then(|status| status.container_statuses.as_ref()).into_iter().flatten();
    statuses
        .into_iter()
        .any(|container| container.state.as_ref().is_some_and(|state| state.running.is_some()))
}

fn restarted(pod: &Pod) -> bool {
    containers(pod).any(|container| container.restart_count > 0)
}

fn unschedulable(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref()).into_iter().flatten();
    conditions.into_iter().any(|one| one.type_ == "PodScheduled" && one.status == "False")
}
