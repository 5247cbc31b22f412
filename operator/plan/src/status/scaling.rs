//! The autoscalers: do they act, and what did they and the operator decide of late.

use crds::{ScaleDecision, SmallestDeploymentStatus};
use k8s_openapi::api::autoscaling::v2::{
    HorizontalPodAutoscaler, HorizontalPodAutoscalerCondition, MetricSpec, MetricStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::component::{Part, Scene};
use super::license::seconds;
use super::reason;
use super::text::piece;
use super::trouble::{Truth, Verdict};
use crate::component::ComponentKind;
use crate::names;
use crate::scale::Bounds;

/// Decisions that are kept.
const KEPT: usize = 5;

/// An autoscaler that finds no metric this long is worth more than its own condition, seconds. Before, the
/// first workers have not told anything yet.
pub(super) const PATIENCE_SECONDS: i64 = 60;

/// What stands before the cause when an autoscaler found no metric.
const ASKED: &str = "unable to fetch metrics from external metrics API: ";

/// Begin of what the operator answers when it has no value.
const MEASURED: &str = "failed to measure";

/// Where to look when the operator was not asked.
const SEE_API: &str = "; see kubectl get apiservice v1beta1.external.metrics.k8s.io";

/// Who decides between one and the most replicas.
const AUTOSCALER: &str = "HorizontalPodAutoscaler";

/// `ScalingActive`; `None` when nothing scales.
pub(super) fn verdict(parts: &[Part], scene: Scene<'_>) -> Option<Verdict> {
    let scaled = parts.iter().filter(|part| scene.scaling(part.kind).is_some());
    let all: Vec<Verdict> = scaled.map(|part| one(part, scene)).collect();
    let worst = all.iter().min_by_key(|verdict| match (verdict.truth, verdict.reason.as_str()) {
        (Truth::False, _) => 0,
        (Truth::Unknown, _) => 1,
        (Truth::True, reason::SCALING_ACTIVE) => 3,
        (Truth::True, _) => 2,
    })?;
    let said: Vec<&str> = all.iter().map(|verdict| verdict.message.as_str()).collect();
    Some(Verdict { truth: worst.truth, reason: worst.reason.clone(), message: said.join("; ") })
}

/// Since when an autoscaler has been without a metric or target; the earliest of all.
pub(super) fn blind_since(parts: &[Part], scene: Scene<'_>) -> Option<Time> {
    let scaled = parts.iter().filter(|part| scene.scaling(part.kind).is_some());
    let blind = scaled.filter(|part| one(part, scene).is(Truth::False));
    let conditions = blind.filter_map(|part| autoscaler(part.kind, scene)).flat_map(conditions);
    let bad = conditions.filter(|condition| condition.status == "False");
    bad.filter_map(|condition| condition.last_transition_time.clone()).min()
}

fn one(part: &Part, scene: Scene<'_>) -> Verdict {
    let component = names::component(part.kind);
    if part.verdict.reason == reason::SCALED_TO_ZERO {
        return Verdict::yes(reason::SCALED_TO_ZERO, format!("{component} sleeps until work comes"));
    }
    let Some(autoscaler) = autoscaler(part.kind, scene) else {
        let name = scene.object(part.kind);
        return Verdict::no(reason::NOT_CREATED, format!("{AUTOSCALER} {name} does not exist yet"));
    };
    let find = |type_: &str| conditions(autoscaler).find(|condition| condition.type_ == type_);
    let name = autoscaler.metadata.name.as_deref().unwrap_or_default();
    if let Some(able) = find("AbleToScale").filter(|able| able.status == "False") {
        let text = format!("{AUTOSCALER} {name} cannot scale: {}", said(able));
        return Verdict::no(reason::SCALE_TARGET_UNREACHABLE, text);
    }
    match find("ScalingActive") {
        None => {
            Verdict::unknown(reason::AUTOSCALER_STARTING, format!("{AUTOSCALER} {name} has not looked yet"))
        }
        Some(active) if active.status == "True" => {
            limited(component, scene.bounds(part.kind), find("ScalingLimited"))
        }
        Some(active) if active.reason.as_deref() == Some("ScalingDisabled") => Verdict::no(
            reason::REPLICAS_ZERO,
            format!("{AUTOSCALER} {name} rests: its target has 0 replicas"),
        ),
        Some(active) => {
            let said = said(active);
            // What the operator answered says itself what is wrong; else it was not asked.
            let see = if said.contains(MEASURED) { "" } else { SEE_API };
            let text = format!("{AUTOSCALER} {name} has no metric to go by: {said}{see}");
            Verdict::no(reason::METRIC_UNAVAILABLE, text)
        }
    }
}

/// It acts; at its bounds it says so.
fn limited(
    component: &str,
    bounds: Option<&Bounds>,
    limited: Option<&HorizontalPodAutoscalerCondition>,
) -> Verdict {
    let window = bounds.map(held).unwrap_or_default();
    let most = limited
        .filter(|limited| limited.status == "True" && limited.reason.as_deref() == Some("TooManyReplicas"));
    match most {
        Some(_) => {
            let field = if window.is_empty() { "scaling.maxReplicas" } else { "maxReplicas of the schedule" };
            let text =
                format!("{component} has its most replicas and would take more{window}; raise {field}");
            Verdict::yes(reason::SCALING_LIMITED, text)
        }
        None => Verdict::yes(reason::SCALING_ACTIVE, format!("{component} scales by load{window}")),
    }
}

/// `, between 5 and 20 replicas by schedule mornings until 2026-11-23T19:00:00Z`; nothing outside of windows.
fn held(bounds: &Bounds) -> String {
    let Bounds { min_replicas, max_replicas, window: Some(window), .. } = bounds else {
        return String::new();
    };
    let until = window.until.as_ref().map(|until| format!(" until {}", until.0)).unwrap_or_default();
    format!(", between {min_replicas} and {max_replicas} replicas by schedule {}{until}", window.schedule)
}

/// What an autoscaler says, without how it tried: that names every label of the metric before it comes to the cause.
fn said(condition: &HorizontalPodAutoscalerCondition) -> String {
    let reason = condition.reason.as_deref().unwrap_or("no reason given");
    let message = condition.message.as_deref().unwrap_or_default();
    let cause = message.rsplit_once(ASKED).map_or(message, |(_, cause)| cause);
    format!("{reason}: {}", piece(cause))
}

fn autoscaler(kind: ComponentKind, scene: Scene<'_>) -> Option<&HorizontalPodAutoscaler> {
    let name = scene.object(kind);
    let mut all = scene.found.children.horizontal_pod_autoscalers.iter();
    all.find(|autoscaler| autoscaler.metadata.name.as_ref() == Some(&name))
}

fn conditions(
    autoscaler: &HorizontalPodAutoscaler,
) -> impl Iterator<Item = &HorizontalPodAutoscalerCondition> {
    autoscaler.status.iter().flat_map(|status| status.conditions.iter().flatten())
}

/// The last decisions, newest first: those known before, those of the operator's scaler, and what the autoscalers
/// have done since.
pub(super) fn decisions(parts: &[Part], scene: Scene<'_>) -> Vec<ScaleDecision> {
    let former = scene.deployment.status.clone().unwrap_or_default();
    let seen = parts.iter().filter_map(|part| decided(part, &former, scene));
    let scaler = scene.found.decisions.iter().cloned();
    let all = former.scale_decisions.iter().cloned().chain(scaler).chain(seen);
    let mut all: Vec<ScaleDecision> = all.filter_map(whole).collect();
    // Newest first; the rest of the key only makes the order one and the same.
    all.sort_by(|a, b| {
        let key = |decision: &ScaleDecision| (decision.component.clone(), decision.to, decision.from);
        b.time.cmp(&a.time).then_with(|| key(a).cmp(&key(b)))
    });
    all.dedup_by(|a, b| a.time == b.time && a.component == b.component && a.to == b.to);
    all.truncate(KEPT);
    all
}

fn whole(decision: ScaleDecision) -> Option<ScaleDecision> {
    let inputs = piece(&decision.inputs);
    Some(ScaleDecision { time: seconds(Some(&decision.time))?, inputs, ..decision })
}

/// What an autoscaler has done since the status was last written.
fn decided(part: &Part, former: &SmallestDeploymentStatus, scene: Scene<'_>) -> Option<ScaleDecision> {
    scene.scaling(part.kind)?;
    let autoscaler = autoscaler(part.kind, scene)?;
    let status = autoscaler.status.as_ref()?;
    let time = seconds(status.last_scale_time.as_ref())?;
    let component = names::component(part.kind);
    let mut known = former.scale_decisions.iter().filter(|known| known.component == component);
    if known.any(|known| known.by == AUTOSCALER && known.time >= time) {
        return None;
    }
    let numbers = scene.former(part.kind);
    // It is seen at once, when both numbers still stand side by side, or later, when the status has the former one.
    let to = u32::try_from(status.desired_replicas).ok()?;
    let current = status.current_replicas.and_then(|current| u32::try_from(current).ok());
    let from = current.filter(|current| *current != to).or(numbers.map(|numbers| numbers.wanted_replicas))?;
    let window = scene.bounds(part.kind).map(Bounds::said).unwrap_or_default();
    let inputs = format!("{}{window}", inputs(autoscaler));
    (from != to).then(|| ScaleDecision {
        time,
        component: component.to_owned(),
        from,
        to,
        by: AUTOSCALER.to_owned(),
        inputs,
    })
}

/// `smallest_load=12 target=4`, one for each metric.
fn inputs(autoscaler: &HorizontalPodAutoscaler) -> String {
    let current = autoscaler.status.iter().flat_map(|status| status.current_metrics.iter().flatten());
    let targets = autoscaler.spec.iter().flat_map(|spec| spec.metrics.iter().flatten());
    let targets: Vec<(&str, &str)> = targets.filter_map(target).collect();
    let measured = current.filter_map(value).map(|(name, value)| {
        let target = targets.iter().find(|(of, _)| *of == name);
        target.map_or_else(
            || format!("{name}={value}"),
            |(_, target)| format!("{name}={value} target={target}"),
        )
    });
    let measured: Vec<String> = measured.collect();
    if measured.is_empty() { "no metric: kept within its bounds".to_owned() } else { measured.join(", ") }
}

fn value(metric: &MetricStatus) -> Option<(&str, &str)> {
    let external = metric.external.as_ref()?;
    let value = external.current.average_value.as_ref().or(external.current.value.as_ref())?;
    Some((&external.metric.name, &value.0))
}

fn target(metric: &MetricSpec) -> Option<(&str, &str)> {
    let external = metric.external.as_ref()?;
    let target = external.target.average_value.as_ref().or(external.target.value.as_ref())?;
    Some((&external.metric.name, &target.0))
}
