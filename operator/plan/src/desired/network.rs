//! Who may talk to whom: a policy for each component that closes every way but those it needs.
//!
//! Only what a policy selects is closed, so each names its pods and both directions: what is not listed is refused.
//! The kubelet's probes come from the node and are always let in.

use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
    NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::component::{Component, ComponentKind};
use crate::desired::meta::{meta, selector};
use crate::desired::pod::Source;
use crate::desired::service;
use crate::names;
use crate::url;
use crate::valid::{LicenseSource, Valid, ValidExternal, ValidRedis};

/// The policies of a deployment; none when the resource turns them off.
pub(super) fn policies(source: Source<'_>) -> Vec<NetworkPolicy> {
    if !source.valid.network_policy {
        return Vec::new();
    }
    source.plan.components.iter().map(|component| policy(source, component)).collect()
}

fn policy(source: Source<'_>, component: &Component) -> NetworkPolicy {
    let (ingress, egress) = match component.kind {
        ComponentKind::Redis => (redis_ingress(source, component), Vec::new()),
        kind => (serving_ingress(component), serving_egress(source.valid, kind)),
    };
    NetworkPolicy {
        metadata: meta(source.valid, component.kind),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(selector(source.valid, component.kind)),
            policy_types: Some(vec!["Ingress".to_owned(), "Egress".to_owned()]),
            ingress: Some(ingress),
            egress: Some(egress).filter(|rules| !rules.is_empty()),
        }),
    }
}

/// Redis answers gateway, workers and the operator, which reads the queue; it calls nobody.
fn redis_ingress(source: Source<'_>, component: &Component) -> Vec<NetworkPolicyIngressRule> {
    let Source { valid, plan, cluster } = source;
    let serving = plan.components.iter().filter(|other| other.kind != ComponentKind::Redis);
    let mut from: Vec<NetworkPolicyPeer> = serving.map(|other| pods(valid, other.kind)).collect();
    from.push(namespace(&cluster.operator_namespace));
    let number = component.containers.last().and_then(|redis| redis.port("redis"));
    vec![NetworkPolicyIngressRule {
        from: Some(from),
        ports: Some(number.into_iter().map(|number| tcp(number.into())).collect()),
    }]
}

/// Clients reach the gateway from anywhere; at workers only metrics are read, from inside the cluster.
fn serving_ingress(component: &Component) -> Vec<NetworkPolicyIngressRule> {
    let Some((_, number)) = service::metrics_port(component) else { return Vec::new() };
    let from = match component.kind {
        ComponentKind::Gateway => None,
        _ => Some(vec![any_namespace()]),
    };
    vec![NetworkPolicyIngressRule { from, ports: Some(vec![tcp(number.into())]) }]
}

fn serving_egress(valid: &Valid, kind: ComponentKind) -> Vec<NetworkPolicyEgressRule> {
    let mut rules = vec![dns(), queue(valid)];
    // The addresses of these are names, which a policy cannot hold: their ports are opened.
    let license = match &valid.license.source {
        LicenseSource::Server { url, .. } => url::port(url),
        LicenseSource::Offline(_) => None,
    };
    let model = valid.worker(kind).and_then(|worker| url::port(&worker.model.url));
    let spans = valid.monitoring.otlp_endpoint.as_deref().and_then(url::port);
    let fetched = (kind == ComponentKind::Gateway && valid.gateway.allow_url_fetch).then_some([80, 443]);
    let mut ports: Vec<u16> = [license, model, spans].into_iter().flatten().collect();
    ports.extend(fetched.into_iter().flatten());
    ports.sort_unstable();
    ports.dedup();
    if !ports.is_empty() {
        rules.push(to_anywhere(ports.into_iter().map(|number| tcp(number.into())).collect()));
    }
    rules
}

/// Resolvers stand in pods, on nodes and beside the cluster: only the port is common to all.
fn dns() -> NetworkPolicyEgressRule {
    let udp = NetworkPolicyPort { protocol: Some("UDP".to_owned()), ..tcp(53) };
    to_anywhere(vec![udp, tcp(53)])
}

fn queue(valid: &Valid) -> NetworkPolicyEgressRule {
    let address = match &valid.redis {
        ValidRedis::Embedded(embedded) => {
            return NetworkPolicyEgressRule {
                to: Some(vec![pods(valid, ComponentKind::Redis)]),
                ports: Some(vec![tcp(embedded.port.into())]),
            };
        }
        ValidRedis::External {
            address: ValidExternal::Url(url) | ValidExternal::Login { url, .. }, ..
        } => url,
        ValidRedis::External { address: ValidExternal::Secret(entry), .. } => {
            valid.secrets.get(entry).map_or("", |text| text.expose())
        }
    };
    let port = url::port(address).unwrap_or(6379);
    to_anywhere(vec![tcp(port.into())])
}

fn to_anywhere(ports: Vec<NetworkPolicyPort>) -> NetworkPolicyEgressRule {
    NetworkPolicyEgressRule { to: None, ports: Some(ports) }
}

fn pods(valid: &Valid, kind: ComponentKind) -> NetworkPolicyPeer {
    NetworkPolicyPeer { pod_selector: Some(selector(valid, kind)), ..NetworkPolicyPeer::default() }
}

fn namespace(name: &str) -> NetworkPolicyPeer {
    let labels = [(names::LABEL_NAMESPACE.to_owned(), name.to_owned())].into();
    let selector = LabelSelector { match_labels: Some(labels), match_expressions: None };
    NetworkPolicyPeer { namespace_selector: Some(selector), ..NetworkPolicyPeer::default() }
}

fn any_namespace() -> NetworkPolicyPeer {
    NetworkPolicyPeer { namespace_selector: Some(LabelSelector::default()), ..NetworkPolicyPeer::default() }
}

fn tcp(number: i32) -> NetworkPolicyPort {
    NetworkPolicyPort {
        port: Some(IntOrString::Int(number)),
        protocol: Some("TCP".to_owned()),
        end_port: None,
    }
}
