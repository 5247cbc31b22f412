//! `spec.asr` and `spec.tts`: the workers that hold a model.

use k8s_openapi::api::apps::v1::DeploymentStrategy;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::pod::{Lifecycle, PodOptions, Scaling};

/// Workers of one kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(has(self.replicas) && has(self.scaling))").message(
    "workers take replicas (a fixed number) or scaling, not both: remove one"
))]
#[x_kube(validation = Rule::new("!(self.device == 'cpu' && has(self.gpu))").message(
    "device cpu uses no GPU: remove gpu, or set device to cuda or auto"
))]
#[x_kube(validation = Rule::new("size(self.models) <= 1").message(
    "models takes one model: make another SmallestDeployment for another model"
))]
#[x_kube(validation = Rule::new(
    "!has(self.updateStrategy) || !has(self.updateStrategy.rollingUpdate) || \
     !has(self.updateStrategy.type) || self.updateStrategy.type == 'RollingUpdate'"
).message(
    "updateStrategy.rollingUpdate needs type RollingUpdate: change the type or remove rollingUpdate"
))]
pub struct Worker {
    // A list, so that a version which serves several needs no other field; the most is there for the rule's cost.
    /// The model to serve. It is one for each deployment: another model takes another `SmallestDeployment`.
    #[schemars(length(min = 1, max = 3))]
    pub models: Vec<Model>,
    /// Where downloaded models are kept.
    #[serde(default)]
    pub cache: Cache,
    /// What computes.
    #[serde(default)]
    pub device: Device,
    /// Type to compute in; `fp32` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<Precision>,
    /// GPUs of each replica; 1 `nvidia.com/gpu` with device `cuda` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<Gpu>,
    /// Live streams of each replica; measured at start when absent. Recordings have slots of their own beside them
    /// (`batch`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4096))]
    pub slots: Option<u32>,
    /// Batching; `maxSize` 8 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<Batch>,
    /// CPU threads of the engine; half of those that the program may use, rounded up, when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1024))]
    pub threads: Option<u32>,
    /// Fixed number of replicas; 1 when `scaling` is absent too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10_000))]
    pub replicas: Option<u32>,
    /// Scaling by load.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaling: Option<Scaling>,
    /// Port of health; 2233 for ASR and 8876 for TTS when absent. Under `smallest up` further replicas take
    /// the following ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1024, max = 65_535))]
    pub port: Option<u16>,
    /// Port of metrics; 9090 for ASR and 9190 for TTS when absent, counted on like `port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1024, max = 65_535))]
    pub metrics_port: Option<u16>,
    /// How new pods replace old ones, as a Deployment has it. When absent a new pod is ready before an old one goes
    /// (`maxSurge` 1, `maxUnavailable` 0), which takes a spare GPU. Without one, use `type: Recreate`, or
    /// `rollingUpdate` with `maxSurge` 0 and `maxUnavailable` 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_strategy: Option<DeploymentStrategy>,
    /// How a worker ends.
    #[serde(default)]
    pub lifecycle: Lifecycle,
    /// Its pods.
    #[serde(default)]
    pub pod: PodOptions,
}

/// A model, in the folder layout of Hugging Face.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.sha256.matches('^[0-9a-f]{64}$')").message(
    "sha256 must be 64 lower-case hexadecimal digits, without a prefix: write what `smallest model digest DIR` prints"
))]
pub struct Model {
    /// Name that clients ask for.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([a-z0-9._-]*[a-z0-9])?$"))]
    pub name: String,
    /// Folder of the model: `https://…` or `file:///…`; under `smallest up` also `file:PATH`, relative to
    /// the resource's own file.
    #[schemars(length(max = 2048), regex(pattern = r"^(https?://|file:)[^\s]+$"))]
    pub url: String,
    /// SHA-256 of the model, 64 lower-case hexadecimal digits: what
    /// `sha256sum config.json model.safetensors tokenizer.json | sha256sum` prints in its folder.
    // A rule and no pattern, so that the message says what to write; the bound is there for the rule's cost.
    #[schemars(length(max = 128))]
    pub sha256: String,
}

/// Where downloaded models are kept: at most one of the kinds; an `emptyDir` when none is named.
/// `smallest up` keeps them in the user's cache folder, whatever is named here.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "[has(self.emptyDir), has(self.hostPath), has(self.persistentVolumeClaim), has(self.existingClaim)]\
     .filter(x, x).size() <= 1"
).message("name at most one of emptyDir, hostPath, persistentVolumeClaim and existingClaim"))]
#[x_kube(validation = Rule::new("!has(self.size) || !(has(self.hostPath) || has(self.existingClaim))").message(
    "size belongs to emptyDir and persistentVolumeClaim: remove it, since what is there already has its size"
))]
#[x_kube(validation = Rule::new("!has(self.persistentVolumeClaim) || has(self.size)").message(
    "a new claim needs a size: add size, such as 50Gi"
))]
pub struct Cache {
    /// Size limit of an `emptyDir`, or size of a new claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Quantity>,
    /// A folder of each pod, gone with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub empty_dir: Option<EmptyDirCache>,
    /// A folder of the node, shared by its pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_path: Option<HostPathCache>,
    /// A new claim, kept when the deployment is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent_volume_claim: Option<VolumeClaimCache>,
    /// A claim that is there already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub existing_claim: Option<String>,
}

/// A folder of each pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EmptyDirCache {}

/// A folder of the node. It must be there, and user 65532 must be allowed to write to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostPathCache {
    /// Absolute path.
    #[schemars(length(max = 4096), regex(pattern = r"^/.+$"))]
    pub path: String,
}

/// A new claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "has(self.storageClassName) == has(oldSelf.storageClassName) && \
     (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)"
).message(
    "storageClassName cannot be changed once the claim is there: put back what it was, or name another claim in existingClaim"
))]
#[x_kube(validation = Rule::new("self.accessModes == oldSelf.accessModes").message(
    "accessModes cannot be changed once the claim is there: put back what they were, or name another claim in existingClaim"
))]
pub struct VolumeClaimCache {
    /// Storage class; the cluster's default when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,
    // Filled in by the schema, so that a claim of which nothing is said any more is not taken for none: server-side
    // apply makes null of an object that loses its last field.
    /// Access modes; all replicas share the claim.
    #[serde(default = "VolumeClaimCache::default_modes")]
    #[schemars(length(min = 1, max = 4))]
    pub access_modes: Vec<AccessMode>,
}

/// Who may mount a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AccessMode {
    /// Pods of one node.
    ReadWriteOnce,
    /// Pods of any node, reading only.
    ReadOnlyMany,
    /// Pods of any node.
    ReadWriteMany,
    /// One pod.
    ReadWriteOncePod,
}

/// What computes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Device {
    /// A GPU when there is one.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// An NVIDIA GPU, or not ready.
    Cuda,
}

/// Type of weights and activations; `fp32` when absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Precision {
    /// 32-bit floating point.
    Fp32,
    /// bfloat16: half the memory, and faster on GPUs that know it.
    Bf16,
}

/// GPUs of each replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Gpu {
    /// How many.
    #[serde(default = "Gpu::default_count")]
    #[schemars(range(min = 1, max = 16))]
    pub count: u32,
    /// Resource to ask the scheduler for, such as `nvidia.com/gpu` or a MIG slice `nvidia.com/mig-1g.10gb`.
    #[serde(default = "Gpu::default_resource")]
    #[schemars(
        length(max = 253),
        regex(pattern = r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?/[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$")
    )]
    pub resource_name: String,
}

/// Batching of requests that are not live.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Batch {
    /// Most requests in one batch, within what the engine leaves for them: a quarter of its slots when `slots` is absent,
    /// else a third of `slots`, and one in any case. A worker that has to take fewer says so in its log.
    #[schemars(range(min = 1, max = 512))]
    pub max_size: u32,
}

impl VolumeClaimCache {
    fn default_modes() -> Vec<AccessMode> {
        vec![AccessMode::ReadWriteMany]
    }
}

impl Gpu {
    fn default_count() -> u32 {
        1
    }

    fn default_resource() -> String {
        "nvidia.com/gpu".to_owned()
    }
}
