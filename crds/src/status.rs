//! `status`: what the operator found. Written by the operator alone.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the operator found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SmallestDeploymentStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Newest generation of the spec that the running pods were made from. Behind `observedGeneration` while a
    /// change is rolled out, or when it cannot be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub served_generation: Option<i64>,
    /// `Ready`, `Progressing`, `Degraded` and one for each part, each with a reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Where clients find the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<Endpoints>,
    /// The gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<ComponentStatus>,
    /// The ASR workers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asr: Option<ComponentStatus>,
    /// The TTS workers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tts: Option<ComponentStatus>,
    /// Live streams.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub streams: Option<StreamsStatus>,
    /// Waiting work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueueStatus>,
    /// The license.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license: Option<LicenseStatus>,
    /// The models.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<ModelStatus>,
    /// The last five changes of a number of replicas, newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5))]
    pub scale_decisions: Vec<ScaleDecision>,
}

/// Where clients find the service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Endpoints {
    /// HTTP and WebSocket, such as `http://quickstart-gateway.default.svc:7100`.
    pub http: String,
    /// gRPC, `host:port`.
    pub grpc: String,
    /// From outside the cluster, where the Service has an address there: `http://` and the load balancer's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<String>,
}

/// One component.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ComponentStatus {
    /// Replicas that exist.
    pub replicas: u32,
    /// Replicas that are ready.
    pub ready_replicas: u32,
    /// Replicas made from the spec as it is now.
    #[serde(default)]
    pub updated_replicas: u32,
    /// Replicas that are asked for, by the spec or by scaling.
    #[serde(default)]
    pub wanted_replicas: u32,
    /// Label selector of its pods, for the scale subresource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// What keeps replicas from being ready; stays until they are, or until something comes of a new attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
    /// `ready/wanted`, for people.
    pub summary: String,
}

/// What is wrong with a component.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Fault {
    /// A stable word, such as `OOMKilled`.
    pub reason: String,
    /// Which pod it is, what is so, and what to do.
    #[schemars(length(max = 1024))]
    pub message: String,
}

/// Live streams.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StreamsStatus {
    /// Streams in progress.
    pub used: u32,
    /// Streams the workers can carry.
    pub capacity: u32,
    /// `used/capacity`, for people.
    pub summary: String,
}

/// Waiting work.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct QueueStatus {
    /// Requests and sessions that wait.
    pub depth: u64,
    /// Age of the oldest, milliseconds, in coarse steps: 1 s, 2 s, 5 s, 10 s, 30 s, 1 min and so on, so that
    /// it is not written anew every second.
    pub oldest_wait_ms: u64,
}

/// The license.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LicenseStatus {
    /// `Valid`, `GracePeriod`, `Unknown`, or the reason why new work is refused, such as `LicenseExpired`.
    pub state: String,
    /// When the license ends, or in the grace period when that does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
}

/// One model of one kind of worker.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelStatus {
    /// Its name.
    pub name: String,
    /// `asr` or `tts`.
    #[serde(default)]
    pub component: String,
    /// The digest the spec asks for.
    #[serde(default)]
    pub wanted_sha256: String,
    /// The digest that most ready workers serve; absent while none is ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Ready workers that serve the wanted digest.
    pub ready_replicas: u32,
    /// `Serving`, or the reason of `ModelsReady`, such as `ModelDownloading`.
    #[serde(default)]
    pub state: String,
    /// Name and first digits of the digest in use, and how far it is when it is not served yet, for people.
    #[serde(default)]
    pub summary: String,
}

/// Why a number of replicas changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScaleDecision {
    /// When.
    pub time: Time,
    /// `gateway`, `asr` or `tts`.
    pub component: String,
    /// Replicas before.
    pub from: u32,
    /// Replicas after.
    pub to: u32,
    /// Who decided: `operator` (to and from zero) or `HorizontalPodAutoscaler`.
    #[serde(default)]
    pub by: String,
    /// What was measured, such as `smallest_load=12 target=4`.
    pub inputs: String,
}
