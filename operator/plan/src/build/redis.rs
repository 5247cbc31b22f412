//! The embedded Redis: one server, nothing on disk, and the Secret with its password, address and configuration.

use crate::component::{Component, ComponentKind, Container, File, Port, Probe, Role, Value};
use crate::names;
use crate::place::Place;
use crate::plan::{GeneratedSecret, Observed};
use crate::secret::SecretText;
use crate::validate::{Valid, ValidRedis};

const CONFIG: &str = "redis.conf";

pub(crate) fn redis(valid: &Valid, port: u16, _auth: bool) -> Component {
    let container = Container {
        kind: ComponentKind::Redis,
        role: Role::Main,
        command: names::REDIS_SERVER.to_owned(),
        args: vec![Value::File(CONFIG)],
        env: Vec::new(),
        files: vec![File { name: CONFIG, content: names::redis_secret(&valid.name, CONFIG) }],
        ports: vec![Port { name: "redis", number: port }],
        probe: Probe::Redis { port: "redis" },
        drain_seconds: 5,
    };
    Component {
        kind: ComponentKind::Redis,
        name: names::object(&valid.name, ComponentKind::Redis),
        replicas: 1,
        needs: Vec::new(),
        containers: vec![container],
    }
}

/// The password is in the configuration and in the address, never on a command line where others can see it.
pub(crate) fn redis_secrets(valid: &Valid, observed: &Observed) -> Vec<GeneratedSecret> {
    let ValidRedis::Embedded { port, auth } = valid.redis else { return Vec::new() };
    let host = match valid.place {
        Place::Local(_) => valid.place.host().to_owned(),
        Place::Cluster(_) => names::object(&valid.name, ComponentKind::Redis),
    };
    let password = auth.then(|| observed.redis_password.expose());
    let login = password.map(|password| format!(":{password}@")).unwrap_or_default();
    let entries = [
        (names::REDIS_URL, format!("redis://{login}{host}:{port}/0")),
        (CONFIG, config(valid.place.host(), port, password)),
    ];
    entries
        .into_iter()
        .map(|(key, value)| GeneratedSecret {
            reference: names::redis_secret(&valid.name, key),
            value: SecretText::new(value),
        })
        .collect()
}

/// Work in flight is worth less than the audio that would stay behind: nothing is written to disk. Nothing is
/// evicted either: a full Redis must refuse work, not forget some.
fn config(bind: &str, port: u16, password: Option<&str>) -> String {
    let mut lines = vec![
        format!("bind {bind}"),
        format!("port {port}"),
        "daemonize no".to_owned(),
        "save \"\"".to_owned(),
        "appendonly no".to_owned(),
        "maxmemory-policy noeviction".to_owned(),
        "tcp-keepalive 60".to_owned(),
        "loglevel warning".to_owned(),
        "logfile \"\"".to_owned(),
    ];
    match password {
        Some(password) => lines.push(format!("requirepass {password}")),
        // Only the loopback address is bound then, or the network policy is what keeps others out.
        None => lines.push("protected-mode no".to_owned()),
    }
    lines.join("\n") + "\n"
}
