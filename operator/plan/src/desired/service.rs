//! Addresses: the gateway's for clients, Redis' for gateway and workers, and those that metrics are read from.

use k8s_openapi::api::core::v1::{Service, ServiceAccount, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crds::{ExternalTrafficPolicy, ServiceType};

use crate::component::{Component, ComponentKind};
use crate::desired::meta::{meta, named, of_deployment, selecting};
use crate::names;
use crate::plan::Plan;
use crate::valid::{Valid, ValidRedis};

/// The identity of all pods: without rights, and without a token that could prove it.
pub(super) fn service_account(valid: &Valid) -> ServiceAccount {
    ServiceAccount {
        metadata: of_deployment(valid, names::service_account(&valid.name)),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}

/// All Services of a deployment.
pub(super) fn services(valid: &Valid, plan: &Plan) -> Vec<Service> {
    let redis = match &valid.redis {
        ValidRedis::Embedded(embedded) => Some(redis(valid, embedded.port)),
        ValidRedis::External { .. } => None,
    };
    let metrics = plan.components.iter().filter(|_| valid.monitoring.service_monitor);
    let metrics = metrics.filter_map(|component| metrics_service(valid, component));
    redis.into_iter().chain([gateway(valid)]).chain(metrics).collect()
}

/// What clients talk to.
fn gateway(valid: &Valid) -> Service {
    let wanted = &valid.gateway.service;
    let mut metadata = meta(valid, ComponentKind::Gateway);
    metadata.annotations = Some(wanted.annotations.clone()).filter(|annotations| !annotations.is_empty());
    let ranges = wanted.load_balancer_source_ranges.clone();
    let policy = wanted.external_traffic_policy.map(|policy| match policy {
        ExternalTrafficPolicy::Cluster => "Cluster".to_owned(),
        ExternalTrafficPolicy::Local => "Local".to_owned(),
    });
    let type_ = match wanted.type_ {
        ServiceType::ClusterIP => "ClusterIP",
        ServiceType::NodePort => "NodePort",
        ServiceType::LoadBalancer => "LoadBalancer",
    };
    Service {
        metadata,
        spec: Some(ServiceSpec {
            type_: Some(type_.to_owned()),
            selector: Some(selecting(valid, ComponentKind::Gateway)),
            ports: Some(vec![port("http", wanted.port)]),
            load_balancer_source_ranges: Some(ranges).filter(|ranges| !ranges.is_empty()),
            external_traffic_policy: policy,
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

/// One address that stays when the pod goes: connections are made anew to the same one.
fn redis(valid: &Valid, number: u16) -> Service {
    Service {
        metadata: meta(valid, ComponentKind::Redis),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            selector: Some(selecting(valid, ComponentKind::Redis)),
            ports: Some(vec![port("redis", number)]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

/// Every pod's metrics: without an address of its own, and with pods that are not ready, since those are the ones that
/// somebody wants to look at.
fn metrics_service(valid: &Valid, component: &Component) -> Option<Service> {
    let (name, number) = metrics_port(component)?;
    let mut metadata = named(valid, component.kind, names::metrics_service(&valid.name, component.kind));
    metadata.labels.get_or_insert_default().insert(names::LABEL_METRICS.to_owned(), "true".to_owned());
    Some(Service {
        metadata,
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".to_owned()),
            publish_not_ready_addresses: Some(true),
            selector: Some(selecting(valid, component.kind)),
            ports: Some(vec![ServicePort { name: Some("metrics".to_owned()), ..port(name, number) }]),
            ..ServiceSpec::default()
        }),
        status: None,
    })
}

/// Where a component serves its metrics: name and number of the port; Redis has none.
pub(super) fn metrics_port(component: &Component) -> Option<(&'static str, u16)> {
    let main = component.containers.last()?;
    let name = match component.kind {
        ComponentKind::Gateway => "http",
        ComponentKind::Asr | ComponentKind::Tts => "metrics",
        ComponentKind::Redis | ComponentKind::LicenseProxy => return None,
    };
    main.port(name).map(|number| (name, number))
}

/// A port of the same name in the pods.
fn port(name: &str, number: u16) -> ServicePort {
    ServicePort {
        name: Some(name.to_owned()),
        port: i32::from(number),
        target_port: Some(IntOrString::String(name.to_owned())),
        protocol: Some("TCP".to_owned()),
        ..ServicePort::default()
    }
}
