//! Names of objects, programs, ports and secrets: the only place where they are made.

use crate::component::ComponentKind;
use crate::secret::SecretRef;

/// Executables.
pub(crate) const GATEWAY: &str = "smallest-gateway";
pub(crate) const WORKER: &str = "smallest-worker";
pub(crate) const LICENSE_PROXY: &str = "smallest-license-proxy";
pub(crate) const REDIS_SERVER: &str = "redis-server";

/// Ports that a resource cannot leave open, by what others publish of the product.
pub(crate) const ASR_PORT: u16 = 2233;
pub(crate) const ASR_METRICS_PORT: u16 = 9090;

/// Keys that are taken of a Secret unless the reference says otherwise.
pub(crate) const LICENSE_KEY: &str = "license-key";
pub(crate) const LICENSE_TOKEN: &str = "license.jwt";
pub(crate) const API_KEYS: &str = "api-keys";
pub(crate) const REDIS_URL: &str = "redis-url";

/// Short name of a component: its container, its programs, its part of an object's name.
pub(crate) fn component(kind: ComponentKind) -> &'static str {
    match kind {
        ComponentKind::Redis => "redis",
        ComponentKind::LicenseProxy => "license-proxy",
        ComponentKind::Asr => "asr",
        ComponentKind::Tts => "tts",
        ComponentKind::Gateway => "gateway",
    }
}

/// Scope of a deployment: prefix of its Redis keys, label of its metrics.
pub(crate) fn scope(namespace: &str, name: &str) -> String {
    format!("{namespace}/{name}")
}

/// Name of a component's objects: `<deployment>-<component>`.
pub(crate) fn object(deployment: &str, kind: ComponentKind) -> String {
    format!("{deployment}-{}", component(kind))
}

/// Entry of the Secret that the operator makes for the embedded Redis.
pub(crate) fn redis_secret(deployment: &str, key: &str) -> SecretRef {
    SecretRef { name: object(deployment, ComponentKind::Redis), key: key.to_owned() }
}

/// Name of one local program: numbered where there can be several.
pub(crate) fn program(kind: ComponentKind, replica: u16) -> String {
    match kind {
        ComponentKind::Asr | ComponentKind::Tts => format!("{}-{replica}", component(kind)),
        _ => component(kind).to_owned(),
    }
}

/// Name under which a license may allow a deployment in a cluster.
pub(crate) fn license_host(namespace: &str, deployment: &str) -> String {
    format!("{deployment}.{namespace}.svc")
}
