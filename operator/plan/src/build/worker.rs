//! Workers: one engine each, behind the queue.

use crate::build::license_proxy::license_proxy;
use crate::build::{milliseconds, serving_env, serving_files};
use crate::component::ComponentKind;
use crate::component::{Component, Container, EnvVar, Port, Probe, Role, Value, text};
use crate::names;
use crate::place::Place;
use crate::valid::{Valid, ValidWorker};

/// Where models are kept in a pod.
pub(crate) const CLUSTER_CACHE: &str = "/smallest/models";

pub(crate) fn worker(valid: &Valid, worker: &ValidWorker) -> Component {
    let main = Container {
        kind: worker.kind,
        role: Role::Main,
        command: names::WORKER.to_owned(),
        args: vec![Value::Text(names::component(worker.kind).to_owned())],
        env: env(valid, worker),
        files: serving_files(valid),
        ports: vec![
            Port { name: "health", number: worker.port },
            Port { name: "metrics", number: worker.metrics_port },
        ],
        probe: Probe::Http { port: "health", path: "/health" },
        drain_seconds: worker.lifecycle.drain_seconds,
    };
    Component {
        kind: worker.kind,
        name: names::object(&valid.name, worker.kind),
        replicas: worker.replicas,
        bounds: None,
        needs: vec![ComponentKind::Redis, ComponentKind::LicenseProxy],
        containers: vec![license_proxy(valid), main],
    }
}

/// As the worker knows it.
fn name_of(precision: crds::Precision) -> &'static str {
    match precision {
        crds::Precision::Fp32 => "fp32",
        crds::Precision::Bf16 => "bf16",
    }
}

fn env(valid: &Valid, worker: &ValidWorker) -> Vec<EnvVar> {
    let cache = match &valid.place {
        Place::Local(local) => local.cache_dir.display().to_string(),
        Place::Cluster(_) => CLUSTER_CACHE.to_owned(),
    };
    let device = match worker.device {
        crds::Device::Auto => "auto",
        crds::Device::Cpu => "cpu",
        crds::Device::Cuda => "cuda",
    };
    let mut env = serving_env(valid);
    env.push(text("HOST", valid.place.host()));
    env.push(EnvVar { name: "PORT", value: Value::Port("health") });
    env.push(EnvVar { name: "METRICS_PORT", value: Value::Port("metrics") });
    env.push(text("MODEL_NAME", &worker.model.name));
    env.push(text("MODEL_URL", &worker.model.url));
    env.push(text("MODEL_CHECKSUM", &format!("sha256:{}", worker.model.sha256)));
    env.push(text("MODEL_CACHE_DIR", &cache));
    env.push(text("DEVICE", device));
    env.extend(worker.precision.map(|precision| text("MODEL_PRECISION", name_of(precision))));
    env.push(text("DRAIN_TIMEOUT_MS", &milliseconds(worker.lifecycle.drain_seconds)));
    env.push(text("SLOTS", &worker.slots.map_or_else(|| "auto".to_owned(), |slots| slots.to_string())));
    env.extend(worker.max_batch.map(|size| text("BATCH_SLOTS", &size)));
    env.extend(worker.threads.map(|threads| text("TORCH_THREADS", &threads)));
    env.extend(worker.engine.as_ref().map(|engine| text("ENGINE", engine)));
    env
}
