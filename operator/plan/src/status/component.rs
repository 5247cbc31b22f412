//! One component of the resource: its workload and its pods → its condition, its numbers, what keeps it back.

use crds::{ComponentStatus, Fault, Scaling, SmallestDeployment};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::fault;
use super::found::Found;
use super::pod::{self, Around};
use super::reason;
use super::text::{MAX_MESSAGE, count, cut};
use super::trouble::{Class, Trouble, Truth, Verdict};
use super::workload::Workload;
use crate::component::ComponentKind;
use crate::names;
use crate::reading::{QueueView, WorkerReading};
use crate::scale::Bounds;

/// A component as it was found.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) kind: ComponentKind,
    pub(super) workload: Option<Workload>,
    /// What its condition says.
    pub(super) verdict: Verdict,
    /// The worst of what keeps replicas back, also when others serve.
    pub(super) trouble: Option<Trouble>,
}

/// What to look for.
#[derive(Clone, Copy)]
pub(super) struct Scene<'a> {
    pub(super) deployment: &'a SmallestDeployment,
    pub(super) found: &'a Found<'a>,
    pub(super) now: &'a Time,
}

impl Scene<'_> {
    pub(super) fn name(&self) -> &str {
        self.deployment.metadata.name.as_deref().unwrap_or_default()
    }

    /// Name of a component's objects.
    pub(super) fn object(&self, kind: ComponentKind) -> String {
        names::object(self.name(), kind)
    }

    /// How a component scales.
    pub(super) fn scaling(&self, kind: ComponentKind) -> Option<&Scaling> {
        let spec = &self.deployment.spec;
        match kind {
            ComponentKind::Gateway => spec.gateway.scaling.as_ref(),
            ComponentKind::Asr => spec.asr.as_ref()?.scaling.as_ref(),
            ComponentKind::Tts => spec.tts.as_ref()?.scaling.as_ref(),
            ComponentKind::Redis | ComponentKind::LicenseProxy => None,
        }
    }

    /// Between how many replicas a component scales now; `None` also when there is no plan.
    pub(super) fn bounds(&self, kind: ComponentKind) -> Option<&Bounds> {
        self.found.outcome.ok()?.bounds(kind)
    }

    /// It may have no replicas now. A gateway never: nobody would wake it, whatever an older schema let pass.
    pub(super) fn may_sleep(&self, kind: ComponentKind) -> bool {
        if kind == ComponentKind::Gateway {
            return false;
        }
        let fewest = self.bounds(kind).map(|bounds| bounds.min_replicas);
        fewest.or(self.scaling(kind).map(|scaling| scaling.min_replicas)) == Some(0)
    }

    /// It may have no replicas at times.
    pub(super) fn sleeps_at_times(&self, kind: ComponentKind) -> bool {
        let scaling = self.scaling(kind).filter(|_| kind != ComponentKind::Gateway);
        scaling.is_some_and(|scaling| {
            scaling.min_replicas == 0 || scaling.schedules.iter().any(|schedule| schedule.min_replicas == 0)
        })
    }

    /// Workers of a component, as they registered themselves.
    pub(super) fn workers(&self, kind: ComponentKind) -> &[WorkerReading] {
        let QueueView::Read(reading) = self.found.queue else { return &[] };
        reading.component(kind).map_or(&[], |component| &component.workers)
    }

    /// What the former status shows of a component.
    pub(super) fn former(&self, kind: ComponentKind) -> Option<&ComponentStatus> {
        let status = self.deployment.status.as_ref()?;
        match kind {
            ComponentKind::Gateway => status.gateway.as_ref(),
            ComponentKind::Asr => status.asr.as_ref(),
            ComponentKind::Tts => status.tts.as_ref(),
            ComponentKind::Redis | ComponentKind::LicenseProxy => None,
        }
    }

    /// Reason of a condition in the former status.
    pub(super) fn former_reason(&self, type_: &str) -> Option<&str> {
        let status = self.deployment.status.as_ref()?;
        let condition = status.conditions.iter().find(|condition| condition.type_ == type_)?;
        Some(&condition.reason)
    }
}

/// Looks at one component.
pub(super) fn part(kind: ComponentKind, scene: Scene<'_>) -> Part {
    let name = scene.object(kind);
    let children = scene.found.children;
    let workload = if kind == ComponentKind::Redis {
        let mut sets = children.stateful_sets.iter();
        sets.find(|set| set.metadata.name.as_ref() == Some(&name)).map(Workload::from)
    } else {
        let mut deployments = children.deployments.iter();
        deployments.find(|found| found.metadata.name.as_ref() == Some(&name)).map(Workload::from)
    };
    let Some(workload) = workload else {
        let what = if kind == ComponentKind::Redis { "StatefulSet" } else { "Deployment" };
        let verdict = Verdict::no(reason::NOT_CREATED, format!("{what} {name} does not exist yet"));
        return Part { kind, workload: None, verdict, trouble: None };
    };
    let trouble = if workload.complete() { None } else { trouble(kind, &workload, scene) };
    let trouble = trouble.map(|new| fault::remembered(kind, &new, scene).unwrap_or(new));
    let verdict = verdict(kind, &workload, trouble.as_ref(), scene);
    Part { kind, workload: Some(workload), verdict, trouble }
}

/// The worst that keeps the component's replicas back.
fn trouble(kind: ComponentKind, workload: &Workload, scene: Scene<'_>) -> Option<Trouble> {
    let children = scene.found.children;
    let claims = &children.persistent_volume_claims;
    let around = Around { kind, claims, workers: scene.workers(kind), now: scene.now };
    let pods = children.pods.iter().filter(|pod| pod::belongs(pod, kind));
    let (failed, live): (Vec<_>, Vec<_>) = pods.partition(|pod| pod::failed(pod));
    // A pod that has failed for good lies about until it is cleaned up; it counts only until it is replaced.
    let replaced = live.len() >= workload.wanted as usize;
    let pods = live.into_iter().chain(failed.into_iter().filter(|_| !replaced));
    // The least of the worst class, so that the order of the cache says nothing.
    let worst = pods.filter_map(|pod| pod::trouble(pod, around)).chain(workload.failure.clone()).min();
    worst.or_else(|| {
        let none = workload.wanted > 0 && workload.exist == 0;
        let text = format!("{} has no pods yet", workload.name);
        none.then(|| Trouble::waiting(reason::PODS_MISSING, text))
    })
}

fn verdict(kind: ComponentKind, workload: &Workload, trouble: Option<&Trouble>, scene: Scene<'_>) -> Verdict {
    let Workload { wanted, ready, .. } = *workload;
    if wanted == 0 {
        return at_zero(kind, workload, scene);
    }
    let ready_of = format!("{ready} of {} ready", count(wanted, "replica"));
    if workload.complete() {
        return Verdict::yes(reason::SERVING, ready_of);
    }
    let why = trouble.map_or_else(String::new, |trouble| format!(": {}", trouble.message));
    if ready > 0 {
        if workload.current() {
            return Verdict::yes(reason::PARTLY_SERVING, format!("{ready_of}{why}"));
        }
        let rest = match workload.previous() {
            0 => "the change has not reached them yet".to_owned(),
            old => format!("{} of the previous spec", count(old, "replica")),
        };
        let text = format!("{ready_of}, {rest}{why}");
        return Verdict::yes(reason::ROLLING_OUT, text);
    }
    let failing = trouble.is_some_and(Trouble::fails);
    let woken =
        [Some(reason::SCALED_TO_ZERO), Some(reason::WAKING)].contains(&scene.former_reason(condition(kind)));
    if woken && !failing && scene.sleeps_at_times(kind) {
        let text = format!("the first replica starts; requests and sessions wait for it{why}");
        return Verdict::yes(reason::WAKING, text);
    }
    match trouble {
        Some(trouble) => Verdict::no(trouble.reason, format!("{ready_of}: {}", trouble.message)),
        None => Verdict::no(reason::POD_STARTING, ready_of),
    }
}

/// No replicas are wanted: sleep, if the spec allows it, or a stop.
fn at_zero(kind: ComponentKind, workload: &Workload, scene: Scene<'_>) -> Verdict {
    if scene.may_sleep(kind) {
        let text = "no replica runs while nothing is to be done; the first request or session starts one";
        return Verdict::yes(reason::SCALED_TO_ZERO, text);
    }
    if scene.sleeps_at_times(kind) {
        // Its time is over, and the operator is about to wake it.
        return Verdict::yes(
            reason::WAKING,
            "a schedule asks for replicas; requests and sessions wait for them",
        );
    }
    let text = format!("{} has 0 replicas, so nothing serves; raise the number", workload.name);
    Verdict::no(reason::REPLICAS_ZERO, text)
}

/// Type of a component's condition.
pub(super) fn condition(kind: ComponentKind) -> &'static str {
    match kind {
        ComponentKind::Redis => "RedisReady",
        ComponentKind::LicenseProxy => "LicenseValid",
        ComponentKind::Asr => "ASRReady",
        ComponentKind::Tts => "TTSReady",
        ComponentKind::Gateway => "GatewayReady",
    }
}

impl Part {
    /// What `status` shows of it.
    pub(super) fn numbers(&self) -> Option<ComponentStatus> {
        let workload = self.workload.as_ref()?;
        Some(ComponentStatus {
            replicas: workload.exist,
            ready_replicas: workload.ready,
            updated_replicas: workload.updated,
            wanted_replicas: workload.wanted,
            selector: workload.selector.clone(),
            fault: self.failing().map(|trouble| Fault {
                reason: trouble.reason.to_owned(),
                message: cut(&trouble.message, MAX_MESSAGE),
            }),
            summary: format!("{}/{}", workload.ready, workload.wanted),
        })
    }

    /// It serves, or would if it were asked.
    pub(super) fn serves(&self) -> bool {
        self.verdict.is(Truth::True)
    }

    /// Nothing of it is wanted, by the spec or by hand.
    pub(super) fn stopped(&self) -> bool {
        self.verdict.reason == reason::REPLICAS_ZERO
    }

    /// Its replicas are all of the newest spec.
    pub(super) fn current(&self) -> bool {
        self.workload.as_ref().is_some_and(Workload::current)
    }

    /// Nothing is left to do.
    pub(super) fn complete(&self) -> bool {
        self.workload.as_ref().is_some_and(Workload::complete)
    }

    /// Something is wrong with it.
    pub(super) fn failing(&self) -> Option<&Trouble> {
        self.trouble.as_ref().filter(|trouble| trouble.class == Class::Failing)
    }
}
