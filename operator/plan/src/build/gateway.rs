//! The gateway: what clients talk to.

use crate::build::license_proxy::license_proxy;
use crate::build::{milliseconds, serving_env, serving_files};
use crate::component::{
    Component, ComponentKind, Container, Content, EnvVar, File, Port, Probe, Reload, Role, Value, text,
};
use crate::names;
use crate::place::Place;
use crate::resources;
use crate::scale::Timetable;
use crate::valid::{Valid, ValidRedis, ValidWorker};

const API_KEYS: &str = "api-keys";
/// What the start of a large model takes, where the resource does not say.
const WAKE_SECONDS: u32 = 600;

pub(crate) fn gateway(valid: &Valid) -> Component {
    let gateway = &valid.gateway;
    let keys = gateway.api_keys.iter().map(|keys| File {
        name: API_KEYS,
        content: Content::Secret(keys.clone()),
        reload: Reload::Restart,
    });
    let main = Container {
        kind: ComponentKind::Gateway,
        role: Role::Main,
        command: names::GATEWAY.to_owned(),
        args: Vec::new(),
        env: env(valid),
        files: keys.chain(serving_files(valid)).collect(),
        ports: vec![Port { name: "http", number: gateway.port }],
        probe: Probe::Http { port: "http", path: "/health" },
        drain_seconds: gateway.lifecycle.drain_seconds,
    };
    let redis = matches!(valid.redis, ValidRedis::Embedded(_)).then_some(ComponentKind::Redis);
    Component {
        kind: ComponentKind::Gateway,
        name: names::object(&valid.name, ComponentKind::Gateway),
        replicas: gateway.replicas,
        bounds: None,
        needs: redis
            .into_iter()
            .chain([ComponentKind::LicenseProxy])
            .chain(valid.workers().map(|worker| worker.kind))
            .collect(),
        containers: vec![license_proxy(valid), main],
    }
}

fn env(valid: &Valid) -> Vec<EnvVar> {
    let gateway = &valid.gateway;
    let limits = &gateway.limits;
    let mut env = serving_env(valid);
    if valid.worker(ComponentKind::Tts).is_some() {
        let components: Vec<&str> = valid.workers().map(|worker| names::component(worker.kind)).collect();
        env.push(text("COMPONENTS", &components.join(",")));
    }
    env.push(text("HOST", valid.place.host()));
    env.push(EnvVar { name: "PORT", value: Value::Port("http") });
    if gateway.api_keys.is_some() {
        env.push(EnvVar { name: "API_KEYS_FILE", value: Value::File(API_KEYS) });
    }
    if gateway.allow_anonymous {
        env.push(text("ALLOW_ANONYMOUS", "true"));
    }
    if gateway.allow_url_fetch {
        // Never `any`: an address of the client's choice must not lead to what stands inside.
        env.push(text("ALLOW_URL_FETCH", "public"));
    }
    env.push(text("MAX_BODY_BYTES", &limits.max_body_bytes));
    env.push(text("MAX_ACTIVE_REQUESTS", &limits.max_active_requests));
    env.push(text("MAX_STREAMS", &limits.max_streams));
    env.push(text("QUEUE_TIMEOUT_MS", &milliseconds(limits.queue_timeout_seconds)));
    env.push(text("REQUEST_TIMEOUT_MS", &milliseconds(limits.request_timeout_seconds)));
    env.push(text("DRAIN_TIMEOUT_MS", &milliseconds(gateway.lifecycle.drain_seconds)));
    if let Place::Cluster(_) = valid.place {
        // A request may still be on its way here when Kubernetes stops the pod: it is to be answered.
        env.push(text("DRAIN_DELAY_MS", &milliseconds(gateway.lifecycle.pre_stop_seconds)));
        // Uploads are answered with "too many" before the kernel ends the program for its memory.
        let buffered = resources::memory_limit(valid, ComponentKind::Gateway).map(|bytes| bytes / 2);
        env.extend(buffered.map(|bytes| text("MAX_BUFFERED_BYTES", &bytes)));
        env.extend(wake_seconds(valid).map(|wake| text("WORKER_START_TIMEOUT_MS", &milliseconds(wake))));
    }
    env
}

/// How long a session may wait for workers that sleep, seconds: as long as they may take to start.
fn wake_seconds(valid: &Valid) -> Option<u32> {
    let sleeps = |worker: &&ValidWorker| worker.timetable.as_ref().is_some_and(Timetable::may_sleep);
    let start = |worker: &ValidWorker| worker.lifecycle.startup_seconds.unwrap_or(WAKE_SECONDS);
    valid.workers().filter(sleeps).map(start).max()
}
