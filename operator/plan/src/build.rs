//! One builder for each component: [`Valid`] → [`Component`]. They decide nothing that `validate` could refuse.

mod gateway;
mod license_proxy;
mod redis;
mod worker;

pub(crate) use gateway::gateway;
pub(crate) use redis::{DATA as REDIS_DATA, redis, secrets};
pub(crate) use worker::{CLUSTER_CACHE, worker};

use crate::component::{Content, EnvVar, File, Reload, Value, text};
use crate::names;
use crate::secret::SecretRef;
use crate::valid::{Valid, ValidExternal, ValidRedis};

/// Name of the file with the authority that Redis is trusted by.
const REDIS_AUTHORITY: &str = "redis-ca.crt";

/// Address of the queue.
pub(crate) fn queue(valid: &Valid) -> Value {
    match &valid.redis {
        ValidRedis::Embedded(_) => Value::Secret(names::redis_secret(&valid.name, names::REDIS_URL)),
        ValidRedis::External { address: ValidExternal::Login { .. }, .. } => {
            Value::Secret(names::redis_login(&valid.name))
        }
        ValidRedis::External { address: ValidExternal::Url(url), .. } => Value::Text(url.clone()),
        ValidRedis::External { address: ValidExternal::Secret(reference), .. } => {
            Value::Secret(reference.clone())
        }
    }
}

/// Environment of every serving program.
fn serving_env(valid: &Valid) -> Vec<EnvVar> {
    let mut env = common_env(valid);
    env.push(EnvVar { name: "REDIS_URL", value: queue(valid) });
    if valid.redis_authority().is_some() {
        env.push(EnvVar { name: "REDIS_CA_FILE", value: Value::File(REDIS_AUTHORITY) });
    }
    env.push(text("SMALLEST_DEPLOYMENT", &names::scope(&valid.namespace, &valid.name)));
    env.push(text("LICENSE_PROXY_URL", &format!("http://127.0.0.1:{}", valid.license.port)));
    env
}

/// Files of every serving program: what it trusts Redis by.
fn serving_files(valid: &Valid) -> Vec<File> {
    let file = |authority: &SecretRef| File {
        name: REDIS_AUTHORITY,
        content: Content::Secret(authority.clone()),
        reload: Reload::Restart,
    };
    valid.redis_authority().map(file).into_iter().collect()
}

/// Environment of every program of ours.
fn common_env(valid: &Valid) -> Vec<EnvVar> {
    let mut env = Vec::new();
    let monitoring = &valid.monitoring;
    env.extend(monitoring.log_filter.as_ref().map(|filter| text("RUST_LOG", filter)));
    env.extend(monitoring.otlp_endpoint.as_ref().map(|url| text("OTEL_EXPORTER_OTLP_ENDPOINT", url)));
    env
}

fn milliseconds(seconds: u32) -> u64 {
    u64::from(seconds) * 1000
}
