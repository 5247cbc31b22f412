//! The Service in front of the gateway → where clients find it.

use crds::{Endpoints, ServiceType};
use k8s_openapi::api::core::v1::LoadBalancerIngress;

use super::component::Scene;
use super::reason;
use super::trouble::Trouble;

/// Addresses of the service; nothing before there is one.
pub(super) fn endpoints(scene: Scene<'_>) -> Option<Endpoints> {
    let service = scene.found.children.service.as_ref()?;
    let name = service.metadata.name.as_deref()?;
    let namespace = scene.deployment.metadata.namespace.as_deref().unwrap_or("default");
    let port = scene.deployment.spec.gateway.service.port;
    let external = ingress(scene).and_then(|ingress| ingress.hostname.clone().or(ingress.ip.clone()));
    // An IPv6 address stands in brackets in a URL.
    let external = external.map(|host| if host.contains(':') { format!("[{host}]") } else { host });
    Some(Endpoints {
        http: format!("http://{name}.{namespace}.svc:{port}"),
        grpc: format!("{name}.{namespace}.svc:{port}"),
        external: external.map(|host| format!("http://{host}:{port}")),
    })
}

/// The load balancer that is asked for has no address yet.
pub(super) fn trouble(scene: Scene<'_>) -> Option<Trouble> {
    let service = scene.found.children.service.as_ref()?;
    let asked = scene.deployment.spec.gateway.service.type_ == ServiceType::LoadBalancer;
    if !asked || ingress(scene).is_some() {
        return None;
    }
    let name = service.metadata.name.as_deref().unwrap_or_default();
    let text = format!(
        "Service {name} waits for an address of the cluster's load balancer; see kubectl describe service {name}"
    );
    Some(Trouble::waiting(reason::LOAD_BALANCER_PENDING, text))
}

fn ingress(scene: Scene<'_>) -> Option<&LoadBalancerIngress> {
    let status = scene.found.children.service.as_ref()?.status.as_ref()?;
    let all = status.load_balancer.as_ref()?.ingress.as_ref()?;
    all.iter().find(|ingress| ingress.hostname.is_some() || ingress.ip.is_some())
}
