//! The root: `SmallestDeployment`, one speech service.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::gateway::Gateway;
use crate::license::License;
use crate::redis::Redis;
use crate::status::SmallestDeploymentStatus;
use crate::worker::Worker;

/// One speech service: a gateway, workers for recognition and synthesis, a license and a Redis.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "smallest.ai",
    version = "v1",
    kind = "SmallestDeployment",
    namespaced,
    cel,
    shortname = "sd",
    category = "all",
    category = "smallest",
    derive = "PartialEq",
    doc = "A speech service: gateway, speech recognition and synthesis workers, license and Redis.",
    status = "SmallestDeploymentStatus",
    scale(
        spec_replicas_path = ".spec.asr.replicas",
        status_replicas_path = ".status.asr.replicas",
        label_selector_path = ".status.asr.selector"
    ),
    validation = Rule::new(
        "self.metadata.name.size() <= 40 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')"
    ).message(
        "the name must not be longer than 40 characters, nor hold anything but lower-case letters, digits and '-', a letter \
         first and no '-' last: names of pods and Services are made from it"
    ),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Gateway", type_ = "string", json_path = ".status.gateway.summary"),
    printcolumn(name = "ASR", type_ = "string", json_path = ".status.asr.summary"),
    printcolumn(name = "TTS", type_ = "string", json_path = ".status.tts.summary"),
    printcolumn(name = "Streams", type_ = "string", json_path = ".status.streams.summary"),
    printcolumn(name = "Queue", type_ = "integer", json_path = ".status.queue.depth"),
    printcolumn(name = "License", type_ = "string", json_path = ".status.license.state"),
    printcolumn(name = "Model", type_ = "string", json_path = ".status.models[0].summary"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(validation = Rule::new("has(self.asr) || has(self.tts)").message(
    "ask for at least one service: add asr, tts or both"
))]
#[x_kube(validation = Rule::new(
    "[has(self.asr) && has(self.asr.port) ? self.asr.port : 2233, \
      has(self.asr) && has(self.asr.metricsPort) ? self.asr.metricsPort : 9090, \
      has(self.tts) && has(self.tts.port) ? self.tts.port : 8876, \
      has(self.tts) && has(self.tts.metricsPort) ? self.tts.metricsPort : 9190]\
     .all(port, port != self.license.port)"
).message(
    "license.port is a port of a worker beside it: change license.port, or port and metricsPort of the worker"
))]
#[x_kube(validation = Rule::new("self.license.port != 7100").message(
    "license.port is the port of the gateway beside it: change license.port to any other than 7100"
))]
#[x_kube(validation = Rule::new(
    "(!has(self.asr) || (has(self.asr.port) ? self.asr.port : 2233) != \
      (has(self.asr.metricsPort) ? self.asr.metricsPort : 9090)) && \
     (!has(self.tts) || (has(self.tts.port) ? self.tts.port : 8876) != \
      (has(self.tts.metricsPort) ? self.tts.metricsPort : 9190))"
).message(
    "port and metricsPort of a worker must differ, also from the other's default (2233 and 9090 for asr, 8876 and 9190 for \
     tts): change one of them"
))]
pub struct SmallestDeploymentSpec {
    /// The license.
    pub license: License,
    /// The gateway.
    #[serde(default)]
    pub gateway: Gateway,
    /// Speech recognition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asr: Option<Worker>,
    /// Speech synthesis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tts: Option<Worker>,
    /// Where work waits.
    #[serde(default)]
    pub redis: Redis,
    /// Metrics for Prometheus.
    #[serde(default)]
    pub monitoring: Monitoring,
    /// Who may talk to whom.
    #[serde(default)]
    pub network_policy: NetworkPolicy,
    /// Secrets for pulling images.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub image_pull_secrets: Vec<ImagePullSecret>,
    /// Other images than those of this release.
    #[serde(default)]
    pub images: Images,
}

/// Metrics for Prometheus.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Monitoring {
    /// Makes a `ServiceMonitor` (needs the Prometheus operator).
    #[serde(default)]
    pub service_monitor: bool,
    /// Collector of spans, OTLP over gRPC, such as `http://otel-collector:4317`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048), regex(pattern = r"^https?://[^\s]+$"))]
    pub otlp_endpoint: Option<String>,
    /// What is logged, in the form of `RUST_LOG`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub log_filter: Option<String>,
}

/// Who may talk to whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NetworkPolicy {
    /// Closes every way that the service does not need.
    #[serde(default = "NetworkPolicy::on")]
    pub enabled: bool,
}

/// A Secret for pulling images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImagePullSecret {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// Other images than those of this release, best by digest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Images {
    /// The gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<Image>,
    /// Workers on CPUs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<Image>,
    /// Workers on NVIDIA GPUs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker_cuda: Option<Image>,
    /// TTS workers, on CPUs and GPUs alike; those of `worker` and `workerCuda` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tts: Option<Image>,
    /// The license proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license_proxy: Option<Image>,
    /// The embedded Redis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis: Option<Image>,
}

/// An image by tag, by digest or by both, such as `registry.example/lightning-asr:0.1.0@sha256:…`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(extend("minLength" = 1, "maxLength" = 512, "x-kubernetes-validations" = Image::rules()))]
pub struct Image(pub String);

impl Image {
    /// Without a tag an image is `latest`, which is another one every day.
    fn rules() -> serde_json::Value {
        let rule =
            r"self.matches('^[a-z0-9][A-Za-z0-9.:_/-]*(:[A-Za-z0-9_][A-Za-z0-9_.-]*|@sha256:[0-9a-f]{64})$')";
        let message = "an image needs a tag or a digest: NAME:TAG, NAME@sha256:… or NAME:TAG@sha256:…";
        serde_json::json!([{ "rule": rule, "message": message }])
    }
}

impl NetworkPolicy {
    fn on() -> bool {
        true
    }
}

impl Default for NetworkPolicy {
    fn default() -> Self {
        Self { enabled: true }
    }
}
