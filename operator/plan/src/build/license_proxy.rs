//! The license proxy: a sidecar of every serving pod; on one machine, one for all.

use crate::build::common_env;
use crate::component::{
    ComponentKind, Container, Content, EnvVar, File, Port, Probe, Reload, Role, Value, text,
};
use crate::names;
use crate::valid::{LicenseSource, Valid};

const LICENSE: &str = "license.jwt";

pub(crate) fn license_proxy(valid: &Valid) -> Container {
    let mut env = common_env(valid);
    // Loopback everywhere: only the programs of the same pod or machine ask it.
    env.push(text("HOST", "127.0.0.1"));
    env.push(EnvVar { name: "PORT", value: Value::Port("license") });
    env.push(text("SMALLEST_DEPLOYMENT", &names::scope(&valid.namespace, &valid.name)));
    if let Some(cluster) = valid.place.cluster() {
        env.push(text("LICENSE_HOST", &names::license_host(&valid.namespace, &valid.name)));
        env.extend(cluster.license_trusted_keys.as_ref().map(|keys| text("LICENSE_TRUSTED_KEYS", keys)));
    }
    let mut files = Vec::new();
    match &valid.license.source {
        LicenseSource::Offline(token) => {
            // It reads the file again and again: a new license takes effect without a restart.
            let content = Content::Secret(token.clone());
            files.push(File { name: LICENSE, content, reload: Reload::Itself });
            env.push(EnvVar { name: "LICENSE_FILE", value: Value::File(LICENSE) });
        }
        LicenseSource::Server { key, url } => {
            env.push(EnvVar { name: "LICENSE_KEY", value: Value::Secret(key.clone()) });
            env.push(text("LICENSE_SERVER_URL", url));
        }
    }
    env.push(text("GRACE_PERIOD_SECONDS", &valid.license.grace_period_seconds));
    Container {
        kind: ComponentKind::LicenseProxy,
        role: Role::Sidecar,
        command: names::LICENSE_PROXY.to_owned(),
        args: Vec::new(),
        env,
        files,
        ports: vec![Port { name: "license", number: valid.license.port }],
        // Not /health: an invalid license is refused by those that serve, with the reason, and not by staying down.
        probe: Probe::Http { port: "license", path: "/healthz" },
        drain_seconds: 5,
    }
}
