//! Scaling between one replica and the most: autoscalers on the external metrics that the operator serves.
//!
//! From nothing to one and back is the operator's own: an autoscaler cannot do it, and never goes below one.

use k8s_openapi::api::autoscaling::v2::{
    CrossVersionObjectReference, ExternalMetricSource, HPAScalingPolicy, HPAScalingRules,
    HorizontalPodAutoscaler, HorizontalPodAutoscalerBehavior, HorizontalPodAutoscalerSpec, MetricIdentifier,
    MetricSpec, MetricTarget,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crds::Scaling;

use crate::component::{Component, ComponentKind};
use crate::desired::meta::meta;
use crate::names;
use crate::scale::{LABEL_COMPONENT, LABEL_DEPLOYMENT, Metric};
use crate::valid::Valid;

/// How full workers are kept, in thousandths of what they measured they can hold.
const FILL_MILLI: u32 = 800;
/// How full gateways are kept, in percent of their limits.
const GATEWAY_PERCENT: u32 = 70;

/// The autoscaler of a component that scales.
pub(super) fn autoscaler(valid: &Valid, component: &Component) -> Option<HorizontalPodAutoscaler> {
    let kind = component.kind;
    let scaling = valid.scaling(kind)?;
    let bounds = component.bounds.as_ref()?;
    let metrics = targets(valid, kind, scaling);
    let spec = HorizontalPodAutoscalerSpec {
        scale_target_ref: CrossVersionObjectReference {
            api_version: Some("apps/v1".to_owned()),
            kind: "Deployment".to_owned(),
            name: component.name.clone(),
        },
        min_replicas: Some(bounds.min_replicas.max(1) as i32),
        max_replicas: bounds.max_replicas as i32,
        metrics: Some(
            metrics.into_iter().map(|(metric, target)| external(valid, kind, metric, target)).collect(),
        ),
        behavior: Some(behavior(kind, scaling)),
    };
    Some(HorizontalPodAutoscaler { metadata: meta(valid, kind), spec: Some(spec), status: None })
}

/// What each replica should have, metric by metric; the one that asks for most replicas decides.
fn targets(valid: &Valid, kind: ComponentKind, scaling: &Scaling) -> Vec<(Metric, Quantity)> {
    let whole = |number: u32| Quantity(number.to_string());
    let mut targets = match (scaling.target_active_requests, kind) {
        (Some(target), _) => vec![(Metric::Load, whole(target))],
        (None, ComponentKind::Gateway) => {
            let limits = &valid.gateway.limits;
            let part =
                |limit: u32| whole((u64::from(limit) * u64::from(GATEWAY_PERCENT)).div_ceil(100) as u32);
            vec![
                (Metric::ActiveStreams, part(limits.max_streams)),
                (Metric::ActiveRequests, part(limits.max_active_requests)),
            ]
        }
        (None, _) => vec![(Metric::Utilization, Quantity(format!("{FILL_MILLI}m")))],
    };
    let queue = scaling.target_queue_depth.filter(|_| Metric::QueueDepth.is_of(kind));
    targets.extend(queue.map(|target| (Metric::QueueDepth, whole(target))));
    targets
}

fn external(valid: &Valid, kind: ComponentKind, metric: Metric, average: Quantity) -> MetricSpec {
    let labels = [
        (LABEL_DEPLOYMENT.to_owned(), valid.name.clone()),
        (LABEL_COMPONENT.to_owned(), names::component(kind).to_owned()),
    ];
    let selector = LabelSelector { match_labels: Some(labels.into()), match_expressions: None };
    MetricSpec {
        type_: "External".to_owned(),
        external: Some(ExternalMetricSource {
            metric: MetricIdentifier { name: metric.name().to_owned(), selector: Some(selector) },
            target: MetricTarget {
                type_: "AverageValue".to_owned(),
                average_value: Some(average),
                ..MetricTarget::default()
            },
        }),
        ..MetricSpec::default()
    }
}

/// Up quickly, down slowly, as the published chart has it. What the resource says itself goes first.
fn behavior(kind: ComponentKind, scaling: &Scaling) -> HorizontalPodAutoscalerBehavior {
    let (up_seconds, down_seconds) = match kind {
        ComponentKind::Gateway => (30, 60),
        _ => (0, 300),
    };
    let up = scaling.scale_up_stabilization_window_seconds.unwrap_or(up_seconds);
    let down = scaling.scale_down_stabilization_window_seconds.unwrap_or(down_seconds);
    let given = scaling.behavior.clone().unwrap_or_default();
    let up = rules(up, "Max", [("Percent", 100, 15), ("Pods", 2, 15)]);
    let down = rules(down, "Min", [("Percent", 50, 60), ("Pods", 1, 60)]);
    HorizontalPodAutoscalerBehavior {
        scale_up: Some(given.scale_up.map_or(up.clone(), |given| over(given, up))),
        scale_down: Some(given.scale_down.map_or(down.clone(), |given| over(given, down))),
    }
}

/// What is given, and the default for what is not.
fn over(given: HPAScalingRules, default: HPAScalingRules) -> HPAScalingRules {
    HPAScalingRules {
        policies: given.policies.or(default.policies),
        select_policy: given.select_policy.or(default.select_policy),
        stabilization_window_seconds: given
            .stabilization_window_seconds
            .or(default.stabilization_window_seconds),
        ..given
    }
}

fn rules(window_seconds: u32, select: &str, policies: [(&str, i32, i32); 2]) -> HPAScalingRules {
    let policies = policies.map(|(type_, value, period_seconds)| HPAScalingPolicy {
        type_: type_.to_owned(),
        value,
        period_seconds,
    });
    HPAScalingRules {
        policies: Some(policies.into()),
        select_policy: Some(select.to_owned()),
        stabilization_window_seconds: Some(window_seconds as i32),
        ..HPAScalingRules::default()
    }
}
