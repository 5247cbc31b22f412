//! Flags and environment → [`Config`].

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use operator_plan::{ClusterPlace, ImageSet};

/// Keeps every `SmallestDeployment` of a cluster as it says: applies its objects, reports its state, scales it.
#[derive(Debug, Parser)]
#[command(name = "smallest-operator", version, about)]
pub(crate) struct Cli {
    /// Print the plan of this resource file as YAML and end; secrets stay hidden
    #[arg(long, value_name = "FILE", conflicts_with = "print_objects")]
    pub(crate) print_plan: Option<PathBuf>,
    /// Print the objects that would be applied for this resource file as YAML and end; secrets stay hidden
    #[arg(long, value_name = "FILE")]
    pub(crate) print_objects: Option<PathBuf>,
    /// What the printed plan is for
    #[arg(long, value_enum, default_value_t = Target::Cluster, requires = "print_plan")]
    pub(crate) place: Target,
    #[command(flatten)]
    pub(crate) run: RunArgs,
    #[command(flatten)]
    pub(crate) images: ImageArgs,
    #[command(flatten)]
    pub(crate) telemetry: telemetry::TelemetryArgs,
}

/// What a plan is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Target {
    /// Pods of a cluster.
    Cluster,
    /// Programs of this machine, as `smallest up` starts them.
    Local,
}

/// How the operator runs.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Operator")]
pub(crate) struct RunArgs {
    /// Look after this namespace only; all when absent
    #[arg(long, env = "WATCH_NAMESPACE", value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,
    /// Namespace of the operator itself: its Lease is there
    #[arg(long, env = "POD_NAMESPACE", default_value = "default", value_name = "NAMESPACE")]
    pub(crate) pod_namespace: String,
    /// Name of this replica, in the Lease and in Events
    #[arg(long, env = "POD_NAME", default_value = "smallest-operator", value_name = "NAME")]
    pub(crate) pod_name: String,
    /// Address to serve health and metrics on
    #[arg(long, env = "HOST", default_value_t = IpAddr::V4(Ipv4Addr::UNSPECIFIED))]
    pub(crate) host: IpAddr,
    /// Port of health and metrics
    #[arg(long, env = "PORT", default_value_t = 8080)]
    pub(crate) port: u16,
    /// Resources reconciled at a time
    #[arg(long, env = "CONCURRENCY", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) concurrency: u16,
    /// Serve external.metrics.k8s.io to the autoscaler
    #[arg(long, env = "EXTERNAL_METRICS", default_value_t = true, action = clap::ArgAction::Set)]
    pub(crate) external_metrics: bool,
    /// Port of the external metrics
    #[arg(long, env = "EXTERNAL_METRICS_PORT", default_value_t = 6443)]
    pub(crate) external_metrics_port: u16,
    /// Folder with tls.crt and tls.key for the external metrics; without it the operator makes its own
    #[arg(long, env = "EXTERNAL_METRICS_TLS_DIR", value_name = "DIR")]
    pub(crate) external_metrics_tls_dir: Option<PathBuf>,
}

/// What pods are made of.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Pods")]
pub(crate) struct ImageArgs {
    /// Image of the gateway
    #[arg(long = "image-gateway", env = "SMALLEST_IMAGE_GATEWAY", value_name = "IMAGE", default_value_t = ImageSet::default().gateway)]
    gateway: String,
    /// Image of workers on CPUs
    #[arg(long = "image-worker", env = "SMALLEST_IMAGE_WORKER", value_name = "IMAGE", default_value_t = ImageSet::default().worker)]
    worker: String,
    /// Image of workers on NVIDIA GPUs
    #[arg(long = "image-worker-cuda", env = "SMALLEST_IMAGE_WORKER_CUDA", value_name = "IMAGE", default_value_t = ImageSet::default().worker_cuda)]
    worker_cuda: String,
    /// Image of the license proxy
    #[arg(long = "image-license-proxy", env = "SMALLEST_IMAGE_LICENSE_PROXY", value_name = "IMAGE", default_value_t = ImageSet::default().license_proxy)]
    license_proxy: String,
    /// Image of the embedded Redis
    #[arg(long = "image-redis", env = "SMALLEST_IMAGE_REDIS", value_name = "IMAGE", default_value_t = ImageSet::default().redis)]
    redis: String,
    /// When images are pulled: Always, `IfNotPresent` or Never
    #[arg(long, env = "IMAGE_PULL_POLICY", default_value = "IfNotPresent", value_parser = ["Always", "IfNotPresent", "Never"])]
    image_pull_policy: String,
    /// Keys that license proxies trust beside the built-in one
    #[arg(long, env = "LICENSE_TRUSTED_KEYS", value_name = "KEYS")]
    license_trusted_keys: Option<String>,
    /// Engine of the ASR workers when it is not the release's own
    #[arg(long, env = "ASR_ENGINE", value_name = "NAME")]
    asr_engine: Option<String>,
    /// Engine of the TTS workers; without one TTS is not served
    #[arg(long, env = "TTS_ENGINE", value_name = "NAME")]
    tts_engine: Option<String>,
}

impl RunArgs {
    /// The namespace to look after. An empty one means all, as templates write it.
    pub(crate) fn watched(&self) -> Option<String> {
        self.namespace.clone().filter(|namespace| !namespace.is_empty())
    }
}

impl ImageArgs {
    /// The facts of a cluster that plans are made for.
    pub(crate) fn place(&self, operator_namespace: &str) -> ClusterPlace {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        ClusterPlace {
            images: ImageSet {
                gateway: self.gateway.clone(),
                worker: self.worker.clone(),
                worker_cuda: self.worker_cuda.clone(),
                license_proxy: self.license_proxy.clone(),
                redis: self.redis.clone(),
            },
            image_pull_policy: self.image_pull_policy.clone(),
            operator_namespace: operator_namespace.to_owned(),
            license_trusted_keys: given(&self.license_trusted_keys),
            asr_engine: given(&self.asr_engine),
            tts_engine: given(&self.tts_engine),
            service_monitors: false,
        }
    }
}
