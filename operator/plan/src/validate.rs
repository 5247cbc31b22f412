//! Resource and what it refers to → [`Valid`], or [`Invalid`] with the reason. Pure.
//!
//! The schema has been applied before, by the apiserver or by [`crate::read`]. Here is what it cannot see:
//! other objects, the place, and what this version does not serve yet.

mod invalid;
mod local;

use std::collections::BTreeSet;

use crds::{
    Device, ExternalRedis, Gateway, Gpu, Model, Redis, Scaling, SecretKeyRef, SmallestDeployment, Worker,
};

use crate::component::ComponentKind;
use crate::names;
use crate::place::Place;
use crate::scale::{Timetable, Unreadable};
use crate::secret::{SecretRef, Secrets};
use crate::valid::{
    LicenseSource, Valid, ValidEmbedded, ValidExternal, ValidGateway, ValidLicense, ValidRedis, ValidWorker,
};

pub use invalid::Invalid;

use invalid::MAX_LOCAL_REPLICAS;

/// What was read besides the resource.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// Secrets of the resource's namespace, or of its file.
    pub secrets: Secrets,
    /// Where the plan is for.
    pub place: Place,
}

/// Names of the Secrets that a resource refers to, and whose values [`validate`] wants to see.
pub fn secret_names(deployment: &SmallestDeployment) -> BTreeSet<String> {
    let spec = &deployment.spec;
    let external = spec.redis.external.as_ref();
    let references = [
        spec.license.secret_ref.as_ref(),
        spec.license.offline.as_ref().map(|offline| &offline.secret_ref),
        spec.gateway.auth.secret_ref.as_ref(),
        external.and_then(|redis| redis.url_secret_ref.as_ref()),
        external.and_then(|redis| redis.username_secret_ref.as_ref()),
        external.and_then(|redis| redis.password_secret_ref.as_ref()),
        external.and_then(|redis| redis.tls.as_ref()?.ca_secret_ref.as_ref()),
    ];
    references.into_iter().flatten().map(|reference| reference.name.clone()).collect()
}

/// Checks a resource against everything it refers to.
pub fn validate(deployment: &SmallestDeployment, fetched: &Fetched) -> Result<Valid, Invalid> {
    let spec = &deployment.spec;
    let tts_engine = fetched.place.cluster().and_then(|cluster| cluster.tts_engine.as_ref());
    let asr = spec.asr.as_ref().map(|asr| worker(asr, ComponentKind::Asr, fetched)).transpose()?;
    let tts = spec.tts.as_ref().filter(|_| tts_engine.is_some());
    let valid = Valid {
        name: deployment.metadata.name.clone().unwrap_or_default(),
        uid: deployment.metadata.uid.clone(),
        namespace: deployment.metadata.namespace.clone().unwrap_or_else(|| "default".to_owned()),
        generation: deployment.metadata.generation,
        place: fetched.place.clone(),
        license: license(&spec.license, fetched)?,
        gateway: gateway(&spec.gateway, fetched)?,
        asr,
        tts: tts.map(|tts| worker(tts, ComponentKind::Tts, fetched)).transpose()?,
        tts_not_served: spec.tts.is_some() && tts_engine.is_none(),
        redis: redis(&spec.redis, fetched)?,
        monitoring: spec.monitoring.clone(),
        network_policy: spec.network_policy.enabled,
        image_pull_secrets: spec.image_pull_secrets.iter().map(|secret| secret.name.clone()).collect(),
        images: spec.images.clone(),
        secrets: fetched.secrets.of(&secret_names(deployment)),
    };
    if let Place::Local(_) = valid.place {
        local::check_ports(&valid)?;
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
    Ok(ValidLicense {
        source,
        grace_period_seconds: license.grace_period_seconds,
        port: license.port,
        resources: license.resources.clone(),
    })
}

fn gateway(gateway: &Gateway, fetched: &Fetched) -> Result<ValidGateway, Invalid> {
    let api_keys = gateway.auth.secret_ref.as_ref();
    let api_keys = api_keys
        .map(|reference| secret("gateway.auth.secretRef", reference, names::API_KEYS, fetched))
        .transpose()?;
    let (replicas, port) = match fetched.place {
        // On one machine all replicas would share one address: one is enough, and it is what a client expects.
        Place::Local(_) => (1, gateway.service.port),
        // In a cluster the Service has the port that was asked for. A pod could not listen on 80 or 443.
        Place::Cluster(_) => {
            if api_keys.is_none() && !gateway.auth.allow_anonymous {
                return Err(Invalid::OpenGateway);
            }
            let replicas = replicas("gateway", gateway.replicas, gateway.scaling.as_ref(), fetched)?;
            (replicas, names::GATEWAY_PORT)
        }
    };
    Ok(ValidGateway {
        replicas,
        port,
        service: gateway.service.clone(),
        api_keys,
        allow_anonymous: gateway.auth.allow_anonymous,
        limits: gateway.limits.clone(),
        allow_url_fetch: gateway.allow_url_fetch,
        scaling: gateway.scaling.clone(),
        timetable: timetable("gateway", gateway.scaling.as_ref())?,
        lifecycle: gateway.lifecycle.clone(),
        pod: gateway.pod.clone(),
    })
}

fn worker(worker: &Worker, kind: ComponentKind, fetched: &Fetched) -> Result<ValidWorker, Invalid> {
    let [model] = worker.models.as_slice() else {
        return Err(Invalid::ServeModels { count: worker.models.len() });
    };
    let (port, metrics_port) = names::worker_ports(kind);
    let cluster = fetched.place.cluster();
    let engine = cluster.and_then(|cluster| match kind {
        ComponentKind::Tts => cluster.tts_engine.clone(),
        _ => cluster.asr_engine.clone(),
    });
    let one = || Gpu { count: 1, resource_name: names::GPU.to_owned() };
    Ok(ValidWorker {
        kind,
        replicas: replicas(names::component(kind), worker.replicas, worker.scaling.as_ref(), fetched)?,
        port: worker.port.unwrap_or(port),
        metrics_port: worker.metrics_port.unwrap_or(metrics_port),
        model: Model { url: local::locate(&model.url, &fetched.place)?, ..model.clone() },
        cache: worker.cache.clone(),
        engine,
        device: worker.device,
        precision: worker.precision,
        gpu: worker.gpu.clone().or_else(|| (worker.device == Device::Cuda).then(one)),
        slots: worker.slots,
        max_batch: worker.batch.as_ref().map(|batch| batch.max_size),
        threads: worker.threads,
        scaling: worker.scaling.clone(),
        timetable: timetable(names::component(kind), worker.scaling.as_ref())?,
        update_strategy: worker.update_strategy.clone(),
        lifecycle: worker.lifecycle.clone(),
        pod: worker.pod.clone(),
    })
}

fn redis(redis: &Redis, fetched: &Fetched) -> Result<ValidRedis, Invalid> {
    if let Some(external) = &redis.external {
        return external_redis(external, fetched);
    }
    let embedded = redis.embedded.clone().unwrap_or_default();
    Ok(ValidRedis::Embedded(ValidEmbedded {
        port: embedded.port,
        auth: embedded.auth.enabled,
        persistence: embedded.persistence,
        resources: embedded.resources,
    }))
}

fn external_redis(external: &ExternalRedis, fetched: &Fetched) -> Result<ValidRedis, Invalid> {
    let entry = |field, reference: &Option<SecretKeyRef>, key| {
        reference.as_ref().map(|reference| secret(field, reference, key, fetched)).transpose()
    };
    let whole = entry("redis.external.urlSecretRef", &external.url_secret_ref, names::REDIS_URL)?;
    let username = entry("redis.external.usernameSecretRef", &external.username_secret_ref, "username")?;
    let password = entry("redis.external.passwordSecretRef", &external.password_secret_ref, "password")?;
    let authority = external.tls.as_ref().map_or(&None, |tls| &tls.ca_secret_ref);
    let authority = entry("redis.external.tls.caSecretRef", authority, names::AUTHORITY)?;
    check_authority(authority.as_ref(), whole.as_ref(), fetched)?;
    let url = external.url.clone().unwrap_or_default();
    let address = match (whole, password) {
        (Some(whole), _) => ValidExternal::Secret(whole),
        (None, Some(password)) => ValidExternal::Login { url, username, password },
        (None, None) => ValidExternal::Url(url),
    };
    Ok(ValidRedis::External { address, authority })
}

/// An authority is a certificate, and only an address with TLS has a use for it. Addresses outside of Secrets are the
/// schema's to check.
fn check_authority(
    authority: Option<&SecretRef>,
    address: Option<&SecretRef>,
    fetched: &Fetched,
) -> Result<(), Invalid> {
    let Some(authority) = authority else { return Ok(()) };
    let text = |entry: &SecretRef| fetched.secrets.get(entry).map_or("", |text| text.expose().trim());
    if !text(authority).contains("-----BEGIN CERTIFICATE-----") {
        return Err(Invalid::ReadAuthority { name: authority.name.clone(), key: authority.key.clone() });
    }
    match address.filter(|address| !text(address).starts_with("rediss://")) {
        Some(address) => Err(Invalid::SecureRedis { name: address.name.clone(), key: address.key.clone() }),
        None => Ok(()),
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

fn timetable(component: &'static str, scaling: Option<&Scaling>) -> Result<Option<Timetable>, Invalid> {
    scaling.map(Timetable::read).transpose().map_err(|unreadable| match unreadable {
        Unreadable::Zone { schedule, zone } => Invalid::FindTimeZone { component, schedule, zone },
        Unreadable::Cron { schedule, field, cron, problem } => {
            Invalid::ReadSchedule { component, schedule, time: format!("{field} {cron:?}"), problem }
        }
        Unreadable::Never { schedule, field, cron } => {
            Invalid::ReachSchedule { component, schedule, time: format!("{field} {cron:?}") }
        }
    })
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
