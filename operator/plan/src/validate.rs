//! Resource and what it refers to → [`Valid`], or [`Invalid`] with the reason. Pure.
//!
//! The schema has been applied before, by the apiserver or by [`crate::read`]. Here is what it cannot see:
//! other objects, the place, and what this version does not serve yet.

use std::collections::BTreeMap;
use std::path::{Component as Step, Path, PathBuf};

use crds::{Device, Gateway, Model, Redis, Scaling, SecretKeyRef, SmallestDeployment, Worker};

use crate::component::ComponentKind;
use crate::names;
use crate::place::Place;
use crate::secret::{SecretRef, Secrets};

/// Replicas of one component on one machine, at most; beyond it ports would run into each other.
const MAX_LOCAL_REPLICAS: u32 = 64;

/// What was read besides the resource.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// Secrets of the resource's namespace, or of its file.
    pub secrets: Secrets,
    /// Where the plan is for.
    pub place: Place,
}

/// A deployment that can be planned; nothing in it can be wrong any more.
#[derive(Debug, Clone, PartialEq)]
pub struct Valid {
    pub(crate) name: String,
    pub(crate) uid: Option<String>,
    pub(crate) namespace: String,
    pub(crate) generation: Option<i64>,
    pub(crate) place: Place,
    pub(crate) license: ValidLicense,
    pub(crate) gateway: ValidGateway,
    pub(crate) asr: Option<ValidWorker>,
    /// TTS is asked for; this version has no engine for it.
    pub(crate) tts_asked: bool,
    pub(crate) redis: ValidRedis,
    pub(crate) log_filter: Option<String>,
    pub(crate) otlp_endpoint: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ValidLicense {
    pub(crate) source: LicenseSource,
    pub(crate) grace_period_seconds: u32,
    pub(crate) port: u16,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum LicenseSource {
    Offline(SecretRef),
    Server { key: SecretRef, url: String },
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ValidGateway {
    pub(crate) replicas: u16,
    pub(crate) port: u16,
    pub(crate) api_keys: Option<SecretRef>,
    pub(crate) allow_anonymous: bool,
    pub(crate) limits: crds::GatewayLimits,
    pub(crate) drain_seconds: u32,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ValidWorker {
    pub(crate) replicas: u16,
    pub(crate) port: u16,
    pub(crate) metrics_port: u16,
    pub(crate) model: Model,
    pub(crate) device: Device,
    pub(crate) slots: Option<u32>,
    pub(crate) max_batch: Option<u32>,
    pub(crate) threads: Option<u32>,
    pub(crate) drain_seconds: u32,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ValidRedis {
    Embedded { port: u16, auth: bool },
    ExternalUrl(String),
    ExternalSecret(SecretRef),
}

/// Why a deployment cannot be planned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// A Secret is not there.
    #[error("failed to find Secret {name:?} for {field}: create it beside the resource")]
    FindSecret {
        /// Field that refers to it.
        field: &'static str,
        /// Its name.
        name: String,
    },
    /// A Secret lacks the key.
    #[error("failed to find key {key:?} in Secret {name:?} for {field}: it has {}", found.join(", "))]
    FindSecretKey {
        /// Field that refers to it.
        field: &'static str,
        /// Its name.
        name: String,
        /// The key.
        key: String,
        /// The keys that are there.
        found: Vec<String>,
    },
    /// The entry is empty.
    #[error("failed to use key {key:?} of Secret {name:?} for {field}: it is empty")]
    ReadSecret {
        /// Field that refers to it.
        field: &'static str,
        /// Its name.
        name: String,
        /// The key.
        key: String,
    },
    /// Two programs would listen on one port.
    #[error("failed to give {second} port {port}: {first} has it; change one of them in the resource")]
    SharePort {
        /// The port.
        port: u16,
        /// Who has it.
        first: String,
        /// Who wants it.
        second: String,
    },
    /// Port numbers of the replicas end above 65535.
    #[error("failed to number the ports of {replicas} replicas of {component} from {port}: use a lower port")]
    NumberPorts {
        /// The component.
        component: &'static str,
        /// First port.
        port: u16,
        /// Replicas.
        replicas: u16,
    },
    /// More replicas than one machine gets.
    #[error(
        "failed to run {replicas} replicas of {component} on one machine: use at most {MAX_LOCAL_REPLICAS}"
    )]
    CountReplicas {
        /// The component.
        component: &'static str,
        /// Replicas.
        replicas: u32,
    },
    /// One worker serves one model in this version.
    #[error("failed to serve {count} models with one kind of worker: this version serves one")]
    ServeModels {
        /// How many are asked for.
        count: usize,
    },
    /// The model's address works on one machine only.
    #[error("failed to use model address {url:?} in a cluster: a file address there is absolute, file:///…")]
    LocateModel {
        /// The address.
        url: String,
    },
    /// A certificate authority for Redis is asked for.
    #[error(
        "failed to use redis.external.tls.caSecretRef: this version trusts the system's authorities only"
    )]
    TrustRedis,
}

impl Invalid {
    /// A stable word for conditions, metrics and events.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::FindSecret { .. } => "SecretMissing",
            Self::FindSecretKey { .. } => "SecretKeyMissing",
            Self::ReadSecret { .. } => "SecretEmpty",
            Self::SharePort { .. } => "PortConflict",
            Self::NumberPorts { .. } => "PortOutOfRange",
            Self::CountReplicas { .. } => "TooManyLocalReplicas",
            Self::ServeModels { .. } => "TooManyModels",
            Self::LocateModel { .. } => "ModelAddressRelative",
            Self::TrustRedis => "RedisAuthorityNotServed",
        }
    }
}

/// Checks a resource against everything it refers to.
pub fn validate(deployment: &SmallestDeployment, fetched: &Fetched) -> Result<Valid, Invalid> {
    let spec = &deployment.spec;
    let valid = Valid {
        name: deployment.metadata.name.clone().unwrap_or_default(),
        uid: deployment.metadata.uid.clone(),
        namespace: deployment.metadata.namespace.clone().unwrap_or_else(|| "default".to_owned()),
        generation: deployment.metadata.generation,
        place: fetched.place.clone(),
        license: license(&spec.license, fetched)?,
        gateway: gateway(&spec.gateway, fetched)?,
        asr: spec.asr.as_ref().map(|asr| worker(asr, fetched)).transpose()?,
        tts_asked: spec.tts.is_some(),
        redis: redis(&spec.redis, fetched)?,
        log_filter: spec.monitoring.log_filter.clone(),
        otlp_endpoint: spec.monitoring.otlp_endpoint.clone(),
    };
    if let Place::Local(_) = valid.place {
        check_ports(&valid)?;
    }
    Ok(valid)
}

fn license(license: &crds::License, fetched: &Fetched) -> Result<ValidLicense, Invalid> {
    let source = match (&license.secret_ref, &license.offline) {
        (_, Some(offline)) => LicenseSource::Offline(secret(
            "license.offline.secretRef",
            &offline.secret_ref,
            names::LICENSE_TOKEN,
            fetched,
        )?),
        (Some(reference), None) => LicenseSource::Server {
            key: secret("license.secretRef", reference, names::LICENSE_KEY, fetched)?,
            url: license.server.clone(),
        },
        (None, None) => {
            return Err(Invalid::FindSecret { field: "license.secretRef", name: String::new() });
        }
    };
    Ok(ValidLicense { source, grace_period_seconds: license.grace_period_seconds, port: license.port })
}

fn gateway(gateway: &Gateway, fetched: &Fetched) -> Result<ValidGateway, Invalid> {
    let api_keys = gateway.auth.secret_ref.as_ref();
    let api_keys = api_keys
        .map(|reference| secret("gateway.auth.secretRef", reference, names::API_KEYS, fetched))
        .transpose()?;
    // On one machine all replicas would share one address: one is enough, and it is what a client expects.
    let replicas = match fetched.place {
        Place::Local(_) => 1,
        Place::Cluster(_) => replicas("gateway", gateway.replicas, gateway.scaling.as_ref(), fetched)?,
    };
    Ok(ValidGateway {
        replicas,
        port: gateway.service.port,
        api_keys,
        allow_anonymous: gateway.auth.allow_anonymous,
        limits: gateway.limits.clone(),
        drain_seconds: gateway.lifecycle.drain_seconds,
    })
}

fn worker(worker: &Worker, fetched: &Fetched) -> Result<ValidWorker, Invalid> {
    let [model] = worker.models.as_slice() else {
        return Err(Invalid::ServeModels { count: worker.models.len() });
    };
    Ok(ValidWorker {
        replicas: replicas("asr", worker.replicas, worker.scaling.as_ref(), fetched)?,
        port: worker.port.unwrap_or(names::ASR_PORT),
        metrics_port: worker.metrics_port.unwrap_or(names::ASR_METRICS_PORT),
        model: Model { url: locate(&model.url, &fetched.place)?, ..model.clone() },
        device: worker.device,
        slots: worker.slots,
        max_batch: worker.batch.as_ref().map(|batch| batch.max_size),
        threads: worker.threads,
        drain_seconds: worker.lifecycle.drain_seconds,
    })
}

fn redis(redis: &Redis, fetched: &Fetched) -> Result<ValidRedis, Invalid> {
    let Some(external) = &redis.external else {
        let embedded = redis.embedded.clone().unwrap_or_default();
        return Ok(ValidRedis::Embedded { port: embedded.port, auth: embedded.auth.enabled });
    };
    if external.tls.as_ref().is_some_and(|tls| tls.ca_secret_ref.is_some()) {
        return Err(Invalid::TrustRedis);
    }
    match &external.url_secret_ref {
        Some(reference) => {
            let entry = secret("redis.external.urlSecretRef", reference, names::REDIS_URL, fetched)?;
            Ok(ValidRedis::ExternalSecret(entry))
        }
        None => Ok(ValidRedis::ExternalUrl(external.url.clone().unwrap_or_default())),
    }
}

fn replicas(
    component: &'static str,
    fixed: Option<u32>,
    scaling: Option<&Scaling>,
    fetched: &Fetched,
) -> Result<u16, Invalid> {
    let cluster = fetched.place.cluster().is_some();
    let least =
        scaling.map(|scaling| if cluster { scaling.min_replicas } else { scaling.min_replicas.max(1) });
    let count = fixed.or(least).unwrap_or(1);
    if !cluster && count > MAX_LOCAL_REPLICAS {
        return Err(Invalid::CountReplicas { component, replicas: count });
    }
    Ok(u16::try_from(count).unwrap_or(u16::MAX))
}

fn secret(
    field: &'static str,
    reference: &SecretKeyRef,
    default_key: &str,
    fetched: &Fetched,
) -> Result<SecretRef, Invalid> {
    let name = reference.name.clone();
    let key = reference.key.clone().unwrap_or_else(|| default_key.to_owned());
    let entry = SecretRef { name: name.clone(), key: key.clone() };
    match (fetched.secrets.get(&entry), fetched.secrets.keys(&name)) {
        (Some(value), _) if value.expose().trim().is_empty() => Err(Invalid::ReadSecret { field, name, key }),
        (Some(_), _) => Ok(entry),
        (None, Some(found)) => {
            let found = found.into_iter().map(str::to_owned).collect();
            Err(Invalid::FindSecretKey { field, name, key, found })
        }
        (None, None) => Err(Invalid::FindSecret { field, name }),
    }
}

/// Makes a relative `file:` address absolute. `file:///…` and `https://…` stay as they are.
fn locate(url: &str, place: &Place) -> Result<String, Invalid> {
    let Some(path) = url.strip_prefix("file:").filter(|path| !path.starts_with("//")) else {
        return Ok(url.to_owned());
    };
    match place {
        Place::Cluster(_) => Err(Invalid::LocateModel { url: url.to_owned() }),
        Place::Local(local) => Ok(format!("file://{}", normal(&local.base_dir.join(path)).display())),
    }
}

/// Resolves `.` and `..` by the text alone: this crate reads no file system.
fn normal(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut normal, step| {
        match step {
            Step::CurDir => {}
            Step::ParentDir => {
                normal.pop();
            }
            step => normal.push(step),
        }
        normal
    })
}

/// On one machine every program needs ports of its own.
fn check_ports(valid: &Valid) -> Result<(), Invalid> {
    let mut taken: BTreeMap<u16, String> = BTreeMap::new();
    let mut claim = |port: u16, owner: String| match taken.insert(port, owner.clone()) {
        Some(first) => Err(Invalid::SharePort { port, first, second: owner }),
        None => Ok(()),
    };
    if let ValidRedis::Embedded { port, .. } = valid.redis {
        claim(port, "redis".to_owned())?;
    }
    claim(valid.license.port, "license-proxy".to_owned())?;
    claim(valid.gateway.port, "gateway".to_owned())?;
    if let Some(worker) = &valid.asr {
        for (what, first) in [("health", worker.port), ("metrics", worker.metrics_port)] {
            for replica in 0..worker.replicas {
                let port = first.checked_add(replica).ok_or(Invalid::NumberPorts {
                    component: "asr",
                    port: first,
                    replicas: worker.replicas,
                })?;
                claim(port, format!("{} ({what})", names::program(ComponentKind::Asr, replica)))?;
            }
        }
    }
    Ok(())
}
