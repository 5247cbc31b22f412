//! [`Valid`]: a deployment in which nothing can be wrong any more. Made by `validate` alone.

use crds::{
    Cache, Device, GatewayLimits, GatewayService, Gpu, Lifecycle, Model, Monitoring, Persistence, PodOptions,
    Precision, Scaling,
};
use k8s_openapi::api::apps::v1::DeploymentStrategy;
use k8s_openapi::api::core::v1::ResourceRequirements;

use crate::component::ComponentKind;
use crate::place::Place;
use crate::scale::Timetable;
use crate::secret::{SecretRef, Secrets};

/// A deployment that can be planned; nothing in it can be wrong any more.
#[derive(Debug, Clone, PartialEq)]
pub struct Valid {
    pub(crate) name: String,
    /// Absent outside a cluster; then objects have no owner.
    pub(crate) uid: Option<String>,
    pub(crate) namespace: String,
    pub(crate) generation: Option<i64>,
    pub(crate) place: Place,
    pub(crate) license: ValidLicense,
    pub(crate) gateway: ValidGateway,
    pub(crate) asr: Option<ValidWorker>,
    pub(crate) tts: Option<ValidWorker>,
    /// TTS is asked for, but the release has no engine for it.
    pub(crate) tts_not_served: bool,
    pub(crate) redis: ValidRedis,
    pub(crate) monitoring: Monitoring,
    pub(crate) network_policy: bool,
    pub(crate) image_pull_secrets: Vec<String>,
    pub(crate) images: crds::Images,
    /// The Secrets that the resource refers to: their values decide when pods are replaced.
    pub(crate) secrets: Secrets,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ValidLicense {
    pub(crate) source: LicenseSource,
    pub(crate) grace_period_seconds: u32,
    pub(crate) port: u16,
    pub(crate) resources: Option<ResourceRequirements>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum LicenseSource {
    Offline(SecretRef),
    Server { key: SecretRef, url: String },
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ValidGateway {
    pub(crate) replicas: u16,
    /// Port that the program listens on.
    pub(crate) port: u16,
    pub(crate) service: GatewayService,
    pub(crate) api_keys: Option<SecretRef>,
    pub(crate) allow_anonymous: bool,
    pub(crate) limits: GatewayLimits,
    pub(crate) allow_url_fetch: bool,
    pub(crate) scaling: Option<Scaling>,
    /// Its schedules; there when `scaling` is.
    pub(crate) timetable: Option<Timetable>,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) pod: PodOptions,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ValidWorker {
    pub(crate) kind: ComponentKind,
    pub(crate) replicas: u16,
    pub(crate) port: u16,
    pub(crate) metrics_port: u16,
    pub(crate) model: Model,
    pub(crate) cache: Cache,
    /// Engine, when it is not that of the release.
    pub(crate) engine: Option<String>,
    pub(crate) device: Device,
    pub(crate) precision: Option<Precision>,
    /// GPUs to ask the scheduler for; `None` runs on the CPU.
    pub(crate) gpu: Option<Gpu>,
    pub(crate) slots: Option<u32>,
    pub(crate) max_batch: Option<u32>,
    pub(crate) threads: Option<u32>,
    pub(crate) scaling: Option<Scaling>,
    /// Its schedules; there when `scaling` is.
    pub(crate) timetable: Option<Timetable>,
    pub(crate) update_strategy: Option<DeploymentStrategy>,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) pod: PodOptions,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ValidRedis {
    Embedded(ValidEmbedded),
    External {
        /// Where it is.
        address: ValidExternal,
        /// What its certificate is trusted by; the system's authorities when absent.
        authority: Option<SecretRef>,
    },
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ValidEmbedded {
    pub(crate) port: u16,
    pub(crate) auth: bool,
    pub(crate) persistence: Option<Persistence>,
    pub(crate) resources: Option<ResourceRequirements>,
}

/// A Redis that is there.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ValidExternal {
    /// Address without a password.
    Url(String),
    /// Address, user and password; the plan puts them together into a Secret.
    Login { url: String, username: Option<SecretRef>, password: SecretRef },
    /// Secret with the whole address.
    Secret(SecretRef),
}

impl Valid {
    /// The workers there are.
    pub(crate) fn workers(&self) -> impl Iterator<Item = &ValidWorker> {
        self.asr.iter().chain(&self.tts)
    }

    /// The workers of one kind.
    pub(crate) fn worker(&self, kind: ComponentKind) -> Option<&ValidWorker> {
        self.workers().find(|worker| worker.kind == kind)
    }

    /// Options of a component's pods; Redis has none.
    pub(crate) fn pod(&self, kind: ComponentKind) -> Option<&PodOptions> {
        match kind {
            ComponentKind::Gateway => Some(&self.gateway.pod),
            kind => self.worker(kind).map(|worker| &worker.pod),
        }
    }

    /// How a component starts and ends; Redis does so in its own way.
    pub(crate) fn lifecycle(&self, kind: ComponentKind) -> Option<&Lifecycle> {
        match kind {
            ComponentKind::Gateway => Some(&self.gateway.lifecycle),
            kind => self.worker(kind).map(|worker| &worker.lifecycle),
        }
    }

    /// The authority that the external Redis' certificate is trusted by, where one is named.
    pub(crate) fn redis_authority(&self) -> Option<&SecretRef> {
        match &self.redis {
            ValidRedis::External { authority, .. } => authority.as_ref(),
            ValidRedis::Embedded(_) => None,
        }
    }

    /// How a component scales; `None` keeps a fixed number of replicas.
    pub(crate) fn scaling(&self, kind: ComponentKind) -> Option<&Scaling> {
        match kind {
            ComponentKind::Gateway => self.gateway.scaling.as_ref(),
            kind => self.worker(kind).and_then(|worker| worker.scaling.as_ref()),
        }
    }

    /// When which bounds of a component's scaling hold.
    pub(crate) fn timetable(&self, kind: ComponentKind) -> Option<&Timetable> {
        match kind {
            ComponentKind::Gateway => self.gateway.timetable.as_ref(),
            kind => self.worker(kind).and_then(|worker| worker.timetable.as_ref()),
        }
    }
}
