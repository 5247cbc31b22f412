//! Where work waits: the embedded Redis with its configuration, and the Secret that holds the queue's address.

use crate::component::{
    Component, ComponentKind, Container, Content, File, Port, Probe, Reload, Role, Value,
};
use crate::names;
use crate::place::Place;
use crate::plan::{GeneratedSecret, Observed};
use crate::resources;
use crate::secret::SecretText;
use crate::url;
use crate::valid::{Valid, ValidEmbedded, ValidExternal, ValidRedis};

const CONFIG: &str = "redis.conf";
const AUTH: &str = "auth.conf";

/// Where a pod keeps what Redis is to keep.
pub(crate) const DATA: &str = "/data";

pub(crate) fn redis(valid: &Valid, embedded: &ValidEmbedded) -> Component {
    let mut args = vec![Value::File(CONFIG)];
    let config = Content::Text(config(valid, embedded));
    let mut files = vec![File { name: CONFIG, content: config, reload: Reload::Restart }];
    if embedded.auth {
        args.extend([Value::Text("--include".to_owned()), Value::File(AUTH)]);
        let content = Content::Secret(names::redis_secret(&valid.name, AUTH));
        files.push(File { name: AUTH, content, reload: Reload::Restart });
    }
    let container = Container {
        kind: ComponentKind::Redis,
        role: Role::Main,
        command: names::REDIS_SERVER.to_owned(),
        args,
        env: Vec::new(),
        files,
        ports: vec![Port { name: "redis", number: embedded.port }],
        probe: Probe::Redis { port: "redis" },
        drain_seconds: 5,
    };
    Component {
        kind: ComponentKind::Redis,
        name: names::object(&valid.name, ComponentKind::Redis),
        replicas: 1,
        bounds: None,
        needs: Vec::new(),
        containers: vec![container],
    }
}

/// Entries of the generated Secret: what a program of ours must know to reach the queue, and what Redis must know to
/// keep others out. A password never stands on a command line, where others can see it.
pub(crate) fn secrets(valid: &Valid, observed: &Observed) -> Vec<GeneratedSecret> {
    let entries = match &valid.redis {
        ValidRedis::Embedded(embedded) => embedded_entries(valid, embedded, &observed.redis_password),
        ValidRedis::External { address: ValidExternal::Login { url, username, password }, .. } => {
            let value = |entry| valid.secrets.get(entry).map_or("", |text| text.expose().trim());
            let login = url::with_login(url, username.as_ref().map_or("", value), value(password));
            vec![(names::redis_login(&valid.name), login)]
        }
        ValidRedis::External { address: ValidExternal::Url(_) | ValidExternal::Secret(_), .. } => Vec::new(),
    };
    let entries = entries.into_iter();
    entries.map(|(reference, value)| GeneratedSecret { reference, value: SecretText::new(value) }).collect()
}

fn embedded_entries(
    valid: &Valid,
    embedded: &ValidEmbedded,
    password: &SecretText,
) -> Vec<(crate::secret::SecretRef, String)> {
    let host = match valid.place {
        Place::Local(_) => valid.place.host().to_owned(),
        Place::Cluster(_) => {
            names::service_host(&valid.namespace, &names::object(&valid.name, ComponentKind::Redis))
        }
    };
    let address = format!("redis://{host}:{}/0", embedded.port);
    let entry = |key| names::redis_secret(&valid.name, key);
    if !embedded.auth {
        return vec![(entry(names::REDIS_URL), address)];
    }
    let password = password.expose();
    vec![
        (entry(names::REDIS_URL), url::with_login(&address, "", password)),
        (entry(AUTH), format!("requirepass {password}\n")),
        (names::redis_password_ref(&valid.name), password.to_owned()),
    ]
}

/// Work in flight is worth less than the audio that would stay behind: nothing is written to disk unless asked for.
/// Nothing is evicted either: a full Redis must refuse work, not forget some.
fn config(valid: &Valid, embedded: &ValidEmbedded) -> String {
    let mut lines = vec![
        format!("bind {}", valid.place.host()),
        format!("port {}", embedded.port),
        "daemonize no".to_owned(),
        "save \"\"".to_owned(),
        "maxmemory-policy noeviction".to_owned(),
        "tcp-keepalive 60".to_owned(),
        "loglevel warning".to_owned(),
        "logfile \"\"".to_owned(),
    ];
    if let Place::Cluster(_) = valid.place {
        lines.push(format!("dir {DATA}"));
    }
    let appends =
        if embedded.persistence.is_some() && valid.place.cluster().is_some() { "yes" } else { "no" };
    lines.push(format!("appendonly {appends}"));
    lines.extend(memory_limit(valid).map(|bytes| format!("maxmemory {bytes}")));
    if !embedded.auth {
        // Only the loopback address is bound then, or the network policy is what keeps others out.
        lines.push("protected-mode no".to_owned());
    }
    lines.join("\n") + "\n"
}

/// Three quarters of the container's memory: Redis says "full" before the kernel ends it, buffers included.
fn memory_limit(valid: &Valid) -> Option<u64> {
    valid.place.cluster()?;
    resources::memory_limit(valid, ComponentKind::Redis).map(|bytes| bytes / 4 * 3)
}
