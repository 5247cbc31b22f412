//! `spec.gateway`: the API server that clients talk to.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::pod::{Lifecycle, PodOptions, Scaling, SecretKeyRef};

/// The gateway.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(has(self.replicas) && has(self.scaling))").message(
    "gateway takes replicas (a fixed number) or scaling, not both: remove one"
))]
#[x_kube(validation = Rule::new(
    "!has(self.scaling) || (self.scaling.minReplicas > 0 && \
     (!has(self.scaling.schedules) || self.scaling.schedules.all(s, s.minReplicas > 0)))"
).message(
    "a gateway takes the requests that wake the workers, so it never goes to sleep: set minReplicas of gateway.scaling, and \
     of its schedules, to 1 or more"
))]
// The schema fills the field in: whoever leaves it out has 900 there.
#[x_kube(validation = Rule::new("!has(self.scaling) || self.scaling.idleSeconds == 900").message(
    "a gateway never goes to sleep, so idleSeconds of gateway.scaling does nothing: remove it"
))]
#[x_kube(validation = Rule::new("!has(self.scaling) || !has(self.scaling.targetQueueDepth)").message(
    "a gateway has no queue, so targetQueueDepth of gateway.scaling does nothing: remove it, or set it in scaling of asr or tts"
))]
pub struct Gateway {
    /// Fixed number of replicas; 1 when `scaling` is absent too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10_000))]
    pub replicas: Option<u32>,
    /// Scaling by load.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaling: Option<Scaling>,
    /// How clients reach it.
    #[serde(default)]
    pub service: GatewayService,
    /// Who may call it.
    #[serde(default)]
    pub auth: GatewayAuth,
    /// What it accepts.
    #[serde(default)]
    pub limits: GatewayLimits,
    /// Fetches recordings on behalf of clients that send an address instead of audio: http and https, from public
    /// addresses only. In a cluster it also lets the gateway reach ports 80 and 443.
    #[serde(default)]
    pub allow_url_fetch: bool,
    /// How it ends.
    #[serde(default)]
    pub lifecycle: Lifecycle,
    /// Its pods.
    #[serde(default)]
    pub pod: PodOptions,
}

/// The Service in front of the gateway; `smallest up` listens on `port` of the local machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "self.type == 'LoadBalancer' || !has(self.loadBalancerSourceRanges) || size(self.loadBalancerSourceRanges) == 0"
).message(
    "loadBalancerSourceRanges needs type LoadBalancer: change the type or remove the ranges"
))]
#[x_kube(validation = Rule::new(
    "self.type != 'ClusterIP' || !has(self.externalTrafficPolicy)"
).message(
    "externalTrafficPolicy needs type NodePort or LoadBalancer: change the type or remove the policy"
))]
pub struct GatewayService {
    /// Kind of Service.
    #[serde(default, rename = "type")]
    pub type_: ServiceType,
    /// Port of HTTP, WebSocket and gRPC alike.
    #[serde(default = "GatewayService::default_port")]
    #[schemars(range(min = 1, max = 65_535))]
    pub port: u16,
    /// Annotations of the Service.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Networks a load balancer lets in, as CIDR such as `203.0.113.0/24`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(max = 64), regex(pattern = r"^[0-9A-Fa-f.:]+/[0-9]{1,3}$")))]
    pub load_balancer_source_ranges: Vec<String>,
    /// Whether traffic from outside may take another node's pods (`Cluster`) or keeps the client's address (`Local`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_traffic_policy: Option<ExternalTrafficPolicy>,
}

/// Which pods answer traffic from outside the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ExternalTrafficPolicy {
    /// Those of any node.
    Cluster,
    /// Those of the node where it arrives.
    Local,
}

/// Kind of Service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ServiceType {
    /// Inside the cluster only.
    #[default]
    ClusterIP,
    /// On a port of every node.
    NodePort,
    /// Behind the cloud's load balancer.
    LoadBalancer,
}

/// Who may call the gateway. `smallest up` needs none of it, since only this machine reaches its gateway; in a cluster
/// one of the two is needed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(has(self.secretRef) && self.allowAnonymous)").message(
    "auth cannot ask for API keys and allow anonymous callers at once: remove secretRef or allowAnonymous"
))]
pub struct GatewayAuth {
    /// API keys, one a line; the Secret's entry is `api-keys` unless `key` says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretKeyRef>,
    /// Answers anyone who reaches the gateway.
    #[serde(default)]
    pub allow_anonymous: bool,
}

/// What the gateway accepts before it answers 429.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayLimits {
    /// Largest request body, bytes.
    #[serde(default = "GatewayLimits::default_body")]
    #[schemars(range(min = 1024, max = 4_294_967_296_u64))]
    pub max_body_bytes: u64,
    /// Batch requests at a time, in each replica.
    #[serde(default = "GatewayLimits::default_requests")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_active_requests: u32,
    /// Live streams at a time, in each replica.
    #[serde(default = "GatewayLimits::default_streams")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_streams: u32,
    /// Longest wait for a worker, seconds.
    #[serde(default = "GatewayLimits::default_queue_timeout")]
    #[schemars(range(min = 1, max = 3600))]
    pub queue_timeout_seconds: u32,
    /// Longest time for a batch request, seconds.
    #[serde(default = "GatewayLimits::default_request_timeout")]
    #[schemars(range(min = 1, max = 86_400))]
    pub request_timeout_seconds: u32,
}

impl GatewayService {
    fn default_port() -> u16 {
        7100
    }
}

impl Default for GatewayService {
    fn default() -> Self {
        Self {
            type_: ServiceType::default(),
            port: Self::default_port(),
            annotations: BTreeMap::new(),
            load_balancer_source_ranges: Vec::new(),
            external_traffic_policy: None,
        }
    }
}

impl GatewayLimits {
    /// 250 MB, as the public service takes.
    fn default_body() -> u64 {
        262_144_000
    }

    fn default_requests() -> u32 {
        256
    }

    fn default_streams() -> u32 {
        1_000
    }

    fn default_queue_timeout() -> u32 {
        30
    }

    fn default_request_timeout() -> u32 {
        300
    }
}

impl Default for GatewayLimits {
    fn default() -> Self {
        Self {
            max_body_bytes: Self::default_body(),
            max_active_requests: Self::default_requests(),
            max_streams: Self::default_streams(),
            queue_timeout_seconds: Self::default_queue_timeout(),
            request_timeout_seconds: Self::default_request_timeout(),
        }
    }
}
