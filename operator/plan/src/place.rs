//! Where a plan is to be carried out. Facts that differ between a cluster and one machine, and nothing else.

use std::path::PathBuf;

use serde::Serialize;

/// Where a plan is to be carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Place {
    /// Programs on this machine, which find each other on the loopback address.
    Local(LocalPlace),
    /// Pods in a cluster, which find each other through Services.
    Cluster(ClusterPlace),
}

/// Folders of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LocalPlace {
    /// Absolute folder of the resource file; relative `file:` models start here.
    pub base_dir: PathBuf,
    /// Absolute folder of this run, for the files of the programs.
    pub run_dir: PathBuf,
    /// Absolute folder where downloaded models are kept.
    pub cache_dir: PathBuf,
}

/// What the operator knows of its cluster and of its own release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterPlace {
    /// Images of this release; a resource may name others.
    pub images: ImageSet,
    /// `Always`, `IfNotPresent` or `Never`.
    pub image_pull_policy: String,
    /// Namespace of the operator, which reads every Redis.
    pub operator_namespace: String,
    /// Keys that the license proxies trust beside the built-in one, as `LICENSE_TRUSTED_KEYS` has them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub license_trusted_keys: Option<String>,
    /// Engine of the ASR workers when it is not that of the release, such as `fake` in tests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asr_engine: Option<String>,
    /// Engine of the TTS workers; none has been released, so without it TTS is not served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tts_engine: Option<String>,
    /// The cluster knows `ServiceMonitor` (monitoring.coreos.com/v1).
    pub service_monitors: bool,
}

/// One image for each program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageSet {
    /// The gateway.
    pub gateway: String,
    /// Workers on CPUs.
    pub worker: String,
    /// Workers on NVIDIA GPUs.
    pub worker_cuda: String,
    /// The license proxy.
    pub license_proxy: String,
    /// The embedded Redis.
    pub redis: String,
}

impl Default for ImageSet {
    /// The published names, with the tag of this version.
    fn default() -> Self {
        let image = |name: &str| format!("quay.io/smallestinc/{name}:{}", env!("CARGO_PKG_VERSION"));
        Self {
            gateway: image("self-hosted-api-server"),
            worker: image("lightning-asr"),
            worker_cuda: image("lightning-asr-cuda"),
            license_proxy: image("license-proxy"),
            redis: image("redis"),
        }
    }
}

impl Default for ClusterPlace {
    fn default() -> Self {
        Self {
            images: ImageSet::default(),
            image_pull_policy: "IfNotPresent".to_owned(),
            operator_namespace: "smallest".to_owned(),
            license_trusted_keys: None,
            asr_engine: None,
            tts_engine: None,
            service_monitors: false,
        }
    }
}

impl Place {
    /// Facts of the cluster, when it is one.
    pub(crate) fn cluster(&self) -> Option<&ClusterPlace> {
        match self {
            Self::Local(_) => None,
            Self::Cluster(cluster) => Some(cluster),
        }
    }

    /// Address that programs listen on.
    pub(crate) fn host(&self) -> &'static str {
        match self {
            Self::Local(_) => "127.0.0.1",
            Self::Cluster(_) => "0.0.0.0",
        }
    }
}
