//! What can break, child by child: how to break it, what shows it first, and what must then be told.

use e2e::cluster::resource::{FAKE_WORKER, little, quick};
use e2e::cluster::space::unschedulable;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use serde_json::{Value, json};

/// A fault, and the condition that must tell of it.
#[derive(Clone)]
pub(super) struct Fault {
    pub(super) name: &'static str,
    pub(super) changes: Value,
    /// What shows it first; from then on the time counts.
    pub(super) shows: Shows,
    pub(super) condition: &'static str,
    pub(super) reason: &'static str,
    /// What the message must name.
    pub(super) names: &'static str,
}

/// What shows a fault first.
#[derive(Clone, Copy)]
pub(super) enum Shows {
    /// The resource itself.
    Resource,
    /// A pod of a component.
    Pod(&'static str, fn(&Pod) -> bool),
    /// A line in the log of the worker.
    Log(&'static str),
    /// The workers' autoscaler: it does not act.
    Autoscaler,
    /// The workers' `Deployment`: its pods are refused.
    Refused,
}

/// What the resource itself shows, before any pod.
pub(super) fn of_the_resource() -> Vec<Fault> {
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
pub(super) fn of_scaling() -> Vec<Fault> {
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
pub(super) fn of_pods() -> Vec<Fault> {
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
pub(super) fn of_downloads() -> Vec<Fault> {
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

/// What the apiserver shows that lets no pod in: of a namespace with a quota.
pub(super) fn of_a_quota() -> Fault {
    Fault {
        name: "no-room",
        changes: json!({"gateway": {"replicas": 0}}),
        shows: Shows::Refused,
        condition: "ASRReady",
        reason: "QuotaExceeded",
        names: "ResourceQuota",
    }
}

/// What pods of the gateway, of Redis and of the workers for synthesis show, and the license proxy beside a worker.
pub(super) fn of_others() -> Vec<Fault> {
    let no_image = |name| format!("registry.invalid/smallestinc/{name}:0.0.1");
    let voice = json!({
        "models": [{"name": "demo-voice", "url": "file:///no-such-folder", "sha256": "0".repeat(64)}],
        "device": "cpu", "slots": 2, "lifecycle": quick(), "pod": {"resources": little()},
    });
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
        Fault {
            name: "no-proxy",
            changes: json!({"gateway": {"replicas": 0}, "images": {"licenseProxy": no_image("no-such-proxy")}}),
            shows: Shows::Pod("asr", |pod| waits_for(pod, &["ErrImagePull", "ImagePullBackOff"])),
            condition: "ASRReady",
            reason: "ImagePullFailed",
            names: "no-such-proxy",
        },
        Fault {
            name: "no-voice",
            changes: json!({
                "gateway": {"replicas": 0}, "asr": {"replicas": 0}, "tts": voice,
                "images": {"tts": no_image("no-such-voice")},
            }),
            shows: Shows::Pod("tts", |pod| waits_for(pod, &["ErrImagePull", "ImagePullBackOff"])),
            condition: "TTSReady",
            reason: "ImagePullFailed",
            names: "no-such-voice",
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

pub(super) fn runs(pod: &Pod) -> bool {
    let statuses =
        pod.status.as_ref().and_then(|status| status.container_statuses.as_ref()).into_iter().flatten();
    statuses
        .into_iter()
        .any(|container| container.state.as_ref().is_some_and(|state| state.running.is_some()))
}

fn restarted(pod: &Pod) -> bool {
    containers(pod).any(|container| container.restart_count > 0)
}
