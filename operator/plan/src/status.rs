//! Plan, children and queue reading → what `status` says, and the Events that a change of it is worth. Pure.
//!
//! ```text
//! pods ─▶ pod, container, schedule ─▶ trouble ─┐
//! Deployments, StatefulSet ─▶ workload ────────┴▶ component ─┐
//! queue reading ─▶ model, license, queue ────────────────────┼▶ overall ─▶ settle ─▶ status ─▶ notes
//! autoscalers, scaler ─▶ scaling ────────────────────────────┘
//! ```
//!
//! The same input gives the same status, and a status that was written and read again gives itself: nothing is
//! written at rest. Figures that move all the time are rounded (waiting times, percentages, what is left of a grace
//! period) or stand in fields of their own, never in messages.

mod component;
mod container;
mod fault;
mod found;
mod license;
mod model;
mod notes;
mod overall;
mod pod;
mod probed;
mod queue;
mod reason;
mod scaling;
mod schedule;
mod service;
mod settle;
mod text;
mod trouble;
mod workload;

use std::time::Duration;

use crds::{LicenseStatus, SmallestDeployment, SmallestDeploymentStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

pub use found::{ApplyFailure, ApplyFailureKind, Children, Found, Note};
pub use notes::notes;
pub use reason::REASONS;
pub(crate) use workload::Workload;

use crate::component::ComponentKind;
use component::{Part, Scene, condition};
use model::Served;
use overall::Whole;
use settle::{Draft, settle};
use trouble::{Truth, Verdict};

/// The status of a deployment. Its former one is taken from `deployment` itself.
pub fn status(deployment: &SmallestDeployment, found: &Found<'_>, now: &Time) -> SmallestDeploymentStatus {
    let now = license::seconds(Some(now)).unwrap_or_else(|| now.clone());
    let scene = Scene { deployment, found, now: &now };
    let parts = parts(scene);
    let served = served(&parts, scene);
    let (license, license_status) = license::verdict(scene);
    let findings = Findings::new(&parts, &served, license, scene);
    let whole = findings.whole(&parts, scene);
    let served_generation = served_generation(&whole, deployment);
    let former = deployment.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let drafts = drafts(&findings, &whole, deployment, served_generation);
    SmallestDeploymentStatus {
        observed_generation: deployment.metadata.generation,
        served_generation,
        conditions: settle(drafts, former, &now),
        ..observed(&parts, served, license_status, scene)
    }
}

/// Longest wait until time alone may have changed a status; timers need not be made for years.
const LONGEST: Duration = Duration::from_hours(24);

/// How long until time alone may change the status: whoever writes it looks again then, at most a day later. `None`:
/// only an event changes it.
pub fn look_again(deployment: &SmallestDeployment, found: &Found<'_>, now: &Time) -> Option<Duration> {
    let scene = Scene { deployment, found, now };
    let parts = parts(scene);
    let unready = parts.iter().filter(|part| !part.complete()).map(|part| part.kind);
    let pods = unready.flat_map(|kind| found.children.pods.iter().filter(move |pod| pod::belongs(pod, kind)));
    let patience = pods.filter_map(|pod| pod::patience(pod, now));
    let blind = scaling::blind_since(&parts, scene).and_then(|since| {
        let left = scaling::PATIENCE_SECONDS - now.0.duration_since(since.0).as_secs();
        u64::try_from(left).ok().filter(|left| *left > 0).map(Duration::from_secs)
    });
    let schedule = found.outcome.ok().and_then(|plan| plan.holds_for(now));
    let steps = patience.chain(license::next_step(found, now)).chain(blind).chain(schedule);
    steps.min().map(|wait| wait.min(LONGEST))
}

/// What all conditions are made from.
struct Findings {
    redis: Verdict,
    license: Verdict,
    models: Option<Verdict>,
    scaling: Option<Verdict>,
    blind: bool,
    not_served: Option<Verdict>,
    service: Option<trouble::Trouble>,
}

impl Findings {
    fn new(parts: &[Part], served: &[Served], license: Verdict, scene: Scene<'_>) -> Self {
        let redis = parts.iter().find(|part| part.kind == ComponentKind::Redis);
        let scaling = scaling::verdict(parts, scene);
        // The first metric comes with the first worker: until then an autoscaler without one is no defect.
        let since = scaling::blind_since(parts, scene);
        let blind = since
            .is_some_and(|since| scene.now.0.duration_since(since.0).as_secs() >= scaling::PATIENCE_SECONDS);
        Self {
            redis: queue::verdict(redis, scene),
            license,
            models: model::verdict(served),
            scaling,
            blind,
            not_served: not_served(scene),
            service: service::trouble(scene),
        }
    }

    fn whole<'a>(&'a self, parts: &'a [Part], scene: Scene<'a>) -> Whole<'a> {
        let served = scene.deployment.status.as_ref().and_then(|status| status.served_generation);
        Whole {
            found: scene.found,
            served_before: served.is_some() && served == scene.deployment.metadata.generation,
            parts,
            redis: &self.redis,
            license: &self.license,
            models: self.models.as_ref(),
            blind: self.scaling.as_ref().filter(|_| self.blind),
            not_served: self.not_served.as_ref(),
            service: self.service.as_ref(),
        }
    }
}

/// The parts that the resource asks for, in the order in which they are told.
fn parts(scene: Scene<'_>) -> Vec<Part> {
    let spec = &scene.deployment.spec;
    let asked = [
        (ComponentKind::Redis, spec.redis.external.is_none()),
        (ComponentKind::Asr, spec.asr.is_some()),
        (ComponentKind::Tts, spec.tts.is_some() && not_served(scene).is_none()),
        (ComponentKind::Gateway, true),
    ];
    asked.into_iter().filter(|(_, asked)| *asked).map(|(kind, _)| component::part(kind, scene)).collect()
}

/// TTS is asked for, and this version has no engine for it: so says the plan, or said the last one.
fn not_served(scene: Scene<'_>) -> Option<Verdict> {
    let type_ = condition(ComponentKind::Tts);
    let (reason, message) = if let Ok(plan) = scene.found.outcome {
        let said = plan.conditions.iter().find(|said| said.type_ == type_ && said.status == "False")?;
        (said.reason, &said.message)
    } else {
        let former = &scene.deployment.status.as_ref()?.conditions;
        let said = former.iter().find(|said| said.type_ == type_ && said.reason == reason::NOT_YET_SERVED)?;
        (reason::NOT_YET_SERVED, &said.message)
    };
    scene.deployment.spec.tts.as_ref().map(|_| Verdict::no(reason, message.as_str()))
}

/// The models of all workers that are there to serve them.
fn served(parts: &[Part], scene: Scene<'_>) -> Vec<Served> {
    let spec = &scene.deployment.spec;
    let workers = [(ComponentKind::Asr, spec.asr.as_ref()), (ComponentKind::Tts, spec.tts.as_ref())];
    let asked = workers.into_iter().filter_map(|(kind, worker)| {
        let part = parts.iter().find(|part| part.kind == kind)?;
        Some(model::served(part, &worker?.models, scene))
    });
    asked.flatten().collect()
}

/// The generation that the pods were made from, as far as is known.
fn served_generation(whole: &Whole<'_>, deployment: &SmallestDeployment) -> Option<i64> {
    if whole.current() && whole.ready().is(Truth::True) {
        return deployment.metadata.generation;
    }
    deployment.status.as_ref().and_then(|status| status.served_generation)
}

fn drafts(
    findings: &Findings,
    whole: &Whole<'_>,
    deployment: &SmallestDeployment,
    served_generation: Option<i64>,
) -> Vec<Draft> {
    let generation = deployment.metadata.generation;
    let ready = whole.ready();
    // `Ready` speaks of the spec that answers: who waits for it after a change waits until the change is carried out.
    let of_ready = match served_generation {
        _ if !ready.is(Truth::True) => generation,
        Some(served) => Some(served),
        None => generation.map(|generation| generation - 1),
    };
    let progressing = whole.progressing();
    let stalled = whole.stalled();
    let reconciling = Some(progressing.clone()).filter(|progressing| progressing.is(Truth::True));
    let of_parts = whole.parts.iter().filter(|part| part.kind != ComponentKind::Redis);
    let mut verdicts: Vec<(&'static str, Option<Verdict>)> = vec![
        ("Progressing", Some(progressing)),
        ("Degraded", Some(whole.degraded())),
        ("Reconciling", reconciling),
        ("Stalled", stalled),
    ];
    verdicts.extend(of_parts.map(|part| (condition(part.kind), Some(part.verdict.clone()))));
    verdicts.extend([
        (condition(ComponentKind::Tts), findings.not_served.clone()),
        (condition(ComponentKind::Redis), Some(findings.redis.clone())),
        (condition(ComponentKind::LicenseProxy), Some(findings.license.clone())),
        ("ModelsReady", findings.models.clone()),
        ("ScalingActive", findings.scaling.clone()),
    ]);
    let ready = Draft { type_: "Ready", verdict: ready, generation: of_ready };
    let rest = verdicts
        .into_iter()
        .filter_map(|(type_, verdict)| Some(Draft { type_, verdict: verdict?, generation }));
    std::iter::once(ready).chain(rest).collect()
}

/// Everything but the conditions.
fn observed(
    parts: &[Part],
    served: Vec<Served>,
    license: Option<LicenseStatus>,
    scene: Scene<'_>,
) -> SmallestDeploymentStatus {
    let numbers = |kind| parts.iter().find(|part| part.kind == kind).and_then(Part::numbers);
    SmallestDeploymentStatus {
        endpoints: service::endpoints(scene),
        gateway: numbers(ComponentKind::Gateway),
        asr: numbers(ComponentKind::Asr),
        tts: numbers(ComponentKind::Tts),
        streams: queue::streams(scene.found.queue),
        queue: queue::waiting(scene.found.queue),
        license,
        models: served.into_iter().map(|served| served.status).collect(),
        scale_decisions: scaling::decisions(parts, scene),
        ..SmallestDeploymentStatus::default()
    }
}
