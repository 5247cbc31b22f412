//! A component → the template of its pods: containers in order of starting, where they run, what they may do.

use k8s_openapi::api::core::v1::{
    LocalObjectReference, PodSecurityContext, PodSpec, PodTemplateSpec, SeccompProfile, Toleration,
    TopologySpreadConstraint,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::component::{Component, ComponentKind, Role};
use crate::desired::container::container;
use crate::desired::{config, meta, volumes};
use crate::names;
use crate::place::ClusterPlace;
use crate::plan::Plan;
use crate::valid::Valid;

/// User and group of all our programs; the images have no other.
const USER: i64 = 65_532;
/// Time for Redis to end, seconds.
const REDIS_GRACE_SECONDS: u32 = 30;

/// What the objects of a deployment are made from.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) valid: &'a Valid,
    pub(super) plan: &'a Plan,
    pub(super) cluster: &'a ClusterPlace,
}

/// The template of a component's pods.
pub(super) fn template(source: Source<'_>, component: &Component) -> PodTemplateSpec {
    PodTemplateSpec { metadata: Some(head(source, component)), spec: Some(spec(source, component)) }
}

/// What the resource adds cannot take the place of what objects find their pods by.
fn head(source: Source<'_>, component: &Component) -> ObjectMeta {
    let options = source.valid.pod(component.kind);
    let mut labels = options.map(|options| options.pod_labels.clone()).unwrap_or_default();
    labels.extend(meta::labels(source.valid, component.kind));
    labels.insert(names::LABEL_APP.to_owned(), component.name.clone());
    let mut annotations = options.map(|options| options.pod_annotations.clone()).unwrap_or_default();
    let checksum = config::checksum(source.valid, source.plan, component);
    annotations.insert(names::ANNOTATION_CHECKSUM.to_owned(), checksum);
    ObjectMeta { labels: Some(labels), annotations: Some(annotations), ..ObjectMeta::default() }
}

fn spec(source: Source<'_>, component: &Component) -> PodSpec {
    let Source { valid, cluster, .. } = source;
    let options = valid.pod(component.kind).cloned().unwrap_or_default();
    let of = |role: Role| {
        let programs = component.containers.iter().filter(move |program| program.role == role);
        programs.map(|program| container(valid, cluster, program)).collect::<Vec<_>>()
    };
    let grace = valid.lifecycle(component.kind).map(|lifecycle| lifecycle.termination_grace_period_seconds);
    let spread = options.affinity.is_none().then(|| spread(valid, component.kind));
    PodSpec {
        init_containers: Some(of(Role::Sidecar)).filter(|containers| !containers.is_empty()),
        containers: of(Role::Main),
        volumes: Some(volumes::volumes(valid, component)),
        service_account_name: Some(names::service_account(&valid.name)),
        automount_service_account_token: Some(false),
        // Variables for every Service of the namespace are of no use here, and could be taken for ours.
        enable_service_links: Some(false),
        security_context: Some(security(options.security_context)),
        termination_grace_period_seconds: Some(i64::from(grace.unwrap_or(REDIS_GRACE_SECONDS))),
        image_pull_secrets: pull_secrets(valid),
        node_selector: Some(options.node_selector).filter(|selector| !selector.is_empty()),
        tolerations: Some(tolerations(valid, component.kind, options.tolerations))
            .filter(|tolerations| !tolerations.is_empty()),
        affinity: options.affinity,
        topology_spread_constraints: spread,
        priority_class_name: options.priority_class_name,
        runtime_class_name: options.runtime_class_name,
        ..PodSpec::default()
    }
}

/// What the "restricted" Pod Security Standard asks of a pod, where the resource does not say otherwise.
fn security(given: Option<PodSecurityContext>) -> PodSecurityContext {
    let mut context = given.unwrap_or_default();
    context.run_as_non_root.get_or_insert(true);
    context.run_as_user.get_or_insert(USER);
    context.run_as_group.get_or_insert(USER);
    context.fs_group.get_or_insert(USER);
    // A cache of many gigabytes is walked through once, not at every start.
    context.fs_group_change_policy.get_or_insert_with(|| "OnRootMismatch".to_owned());
    context.seccomp_profile.get_or_insert_with(|| SeccompProfile {
        type_: "RuntimeDefault".to_owned(),
        localhost_profile: None,
    });
    context
}

fn pull_secrets(valid: &Valid) -> Option<Vec<LocalObjectReference>> {
    let names = valid.image_pull_secrets.iter();
    let references: Vec<_> = names.map(|name| LocalObjectReference { name: name.clone() }).collect();
    (!references.is_empty()).then_some(references)
}

/// Nodes with GPUs are kept free of pods that need none; ours do.
fn tolerations(valid: &Valid, kind: ComponentKind, given: Vec<Toleration>) -> Vec<Toleration> {
    let gpu = valid.worker(kind).and_then(|worker| worker.gpu.as_ref()).map(|_| Toleration {
        key: Some(names::GPU.to_owned()),
        operator: Some("Exists".to_owned()),
        effect: Some("NoSchedule".to_owned()),
        ..Toleration::default()
    });
    let mut all = given;
    all.extend(gpu.filter(|gpu| !all.contains(gpu)));
    all
}

/// One node or zone less must not be the whole service, as far as there is a choice.
fn spread(valid: &Valid, kind: ComponentKind) -> Vec<TopologySpreadConstraint> {
    let over = |key: &str| TopologySpreadConstraint {
        topology_key: key.to_owned(),
        max_skew: 1,
        when_unsatisfiable: "ScheduleAnyway".to_owned(),
        label_selector: Some(meta::selector(valid, kind)),
        ..TopologySpreadConstraint::default()
    };
    vec![over("kubernetes.io/hostname"), over("topology.kubernetes.io/zone")]
}
