//! Names of objects, programs, ports and secrets: the only place where they are made.

use crate::component::ComponentKind;
use crate::secret::SecretRef;

/// Executables.
pub(crate) const GATEWAY: &str = "smallest-gateway";
pub(crate) const WORKER: &str = "smallest-worker";
pub(crate) const LICENSE_PROXY: &str = "smallest-license-proxy";
pub(crate) const REDIS_SERVER: &str = "redis-server";

/// Where our images hold their programs.
pub(crate) const PROGRAMS: &str = "/usr/local/bin";

/// Port that the gateway's pods listen on, whatever port its Service has.
pub(crate) const GATEWAY_PORT: u16 = 7100;

/// Resource of a whole NVIDIA GPU, and the taint that keeps other pods away from it.
pub(crate) const GPU: &str = "nvidia.com/gpu";

/// Keys that are taken of a Secret unless the reference says otherwise.
pub(crate) const LICENSE_KEY: &str = "license-key";
pub(crate) const LICENSE_TOKEN: &str = "license.jwt";
pub(crate) const API_KEYS: &str = "api-keys";
pub(crate) const REDIS_URL: &str = "redis-url";
/// Entry of a certificate authority, as cert-manager and `kubernetes.io/tls` call it.
pub(crate) const AUTHORITY: &str = "ca.crt";

/// Entry of the generated Secret with the password alone, so that it stays what it is.
const REDIS_PASSWORD: &str = "redis-password";

/// Where the password of the embedded Redis is kept: whoever observes a deployment takes it from there.
pub fn redis_password_ref(deployment: &str) -> SecretRef {
    redis_secret(deployment, REDIS_PASSWORD)
}

/// Ports of health and metrics when a resource leaves them open, by what others publish of the product.
pub(crate) fn worker_ports(kind: ComponentKind) -> (u16, u16) {
    match kind {
        ComponentKind::Tts => (8876, 9190),
        _ => (2233, 9090),
    }
}

/// Labels that every object bears, and what stands in them.
pub(crate) const LABEL_NAME: &str = "app.kubernetes.io/name";
pub(crate) const LABEL_INSTANCE: &str = "app.kubernetes.io/instance";
pub(crate) const LABEL_COMPONENT: &str = "app.kubernetes.io/component";
pub(crate) const LABEL_MANAGED_BY: &str = "app.kubernetes.io/managed-by";
pub(crate) const LABEL_PART_OF: &str = "app.kubernetes.io/part-of";
pub(crate) const APPLICATION: &str = "smallest";
pub(crate) const OPERATOR: &str = "smallest-operator";

/// Label of pods with the name of their Deployment, as the published chart has it.
pub(crate) const LABEL_APP: &str = "app";
/// Label that Kubernetes puts on every namespace, with its name.
pub(crate) const LABEL_NAMESPACE: &str = "kubernetes.io/metadata.name";
/// Label of Services that metrics are read from, as the published chart has it.
pub(crate) const LABEL_METRICS: &str = "metrics";
/// Annotation of pods with a digest of all configuration that they read at their start.
pub(crate) const ANNOTATION_CHECKSUM: &str = "smallest.ai/config-checksum";

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

/// Name of the identity of a deployment's pods: they have no rights, so one is enough.
pub(crate) fn service_account(deployment: &str) -> String {
    format!("{deployment}-pods")
}

/// Name of the claim that keeps a worker's models.
pub(crate) fn model_claim(deployment: &str, kind: ComponentKind) -> String {
    format!("{}-models", object(deployment, kind))
}

/// Name of the Service that only metrics are read from.
pub(crate) fn metrics_service(deployment: &str, kind: ComponentKind) -> String {
    format!("{}-metrics", object(deployment, kind))
}

/// Name of an object's address inside the cluster, complete, so that other namespaces can use it too.
pub(crate) fn service_host(namespace: &str, service: &str) -> String {
    format!("{service}.{namespace}.svc")
}

/// Entry of the Secret that the operator makes of the parts of an external Redis' address. It is not that of the
/// embedded one: on the way from one to the other there are pods that read the one and pods that read the other.
pub(crate) fn redis_login(deployment: &str) -> SecretRef {
    SecretRef {
        name: format!("{}-external", object(deployment, ComponentKind::Redis)),
        key: REDIS_URL.to_owned(),
    }
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
