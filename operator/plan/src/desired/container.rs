//! One program of the plan → one container: image, command, environment, ports, what it may do.

use k8s_openapi::api::core::v1::{
    Capabilities, Container, ContainerPort, EnvVar, EnvVarSource, ObjectFieldSelector, SecretKeySelector,
    SecurityContext,
};

use crate::component::{ComponentKind, Container as Program, Role, Value};
use crate::desired::{probes, volumes};
use crate::names;
use crate::place::ClusterPlace;
use crate::resources;
use crate::valid::Valid;

/// A container of a component's pod.
pub(super) fn container(valid: &Valid, cluster: &ClusterPlace, program: &Program) -> Container {
    let probes = probes::of(valid, program);
    let env: Vec<EnvVar> = environment(valid, program);
    let args: Vec<String> = program.args.iter().filter_map(|arg| plain(program, arg)).collect();
    Container {
        name: names::component(program.kind).to_owned(),
        image: Some(image(valid, cluster, program.kind)),
        image_pull_policy: Some(cluster.image_pull_policy.clone()),
        command: Some(vec![executable(program)]),
        args: (!args.is_empty()).then_some(args),
        env: (!env.is_empty()).then_some(env),
        ports: Some(ports(program)),
        resources: Some(resources::main(valid, program.kind)),
        startup_probe: probes.startup,
        liveness_probe: probes.liveness,
        readiness_probe: probes.readiness,
        // What makes an init container a sidecar: it keeps running, and the next one starts when it is up.
        restart_policy: (program.role == Role::Sidecar).then(|| "Always".to_owned()),
        security_context: Some(restricted()),
        // The last lines of the log say why a program ended, where it wrote no other message.
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        volume_mounts: Some(volumes::mounts(valid, program)).filter(|mounts| !mounts.is_empty()),
        ..Container::default()
    }
}

/// Ours stand in one folder of their images; Redis is found wherever its image has it.
fn executable(program: &Program) -> String {
    match program.kind {
        ComponentKind::Redis => program.command.clone(),
        _ => format!("{}/{}", names::PROGRAMS, program.command),
    }
}

fn image(valid: &Valid, cluster: &ClusterPlace, kind: ComponentKind) -> String {
    let (given, ours) = (&valid.images, &cluster.images);
    let gpu = valid.worker(kind).is_some_and(|worker| worker.gpu.is_some());
    let worker = if gpu { (&given.worker_cuda, &ours.worker_cuda) } else { (&given.worker, &ours.worker) };
    let (given, ours) = match kind {
        ComponentKind::Gateway => (&given.gateway, &ours.gateway),
        ComponentKind::LicenseProxy => (&given.license_proxy, &ours.license_proxy),
        ComponentKind::Redis => (&given.redis, &ours.redis),
        ComponentKind::Tts if given.tts.is_some() => (&given.tts, worker.1),
        ComponentKind::Asr | ComponentKind::Tts => worker,
    };
    given.as_ref().map_or_else(|| ours.clone(), |image| image.0.clone())
}

fn environment(valid: &Valid, program: &Program) -> Vec<EnvVar> {
    let mut env: Vec<EnvVar> = program
        .env
        .iter()
        .map(|var| match &var.value {
            Value::Secret(reference) => secret_var(var.name, &reference.name, &reference.key),
            value => text_var(var.name, plain(program, value).unwrap_or_default()),
        })
        .collect();
    match program.kind {
        // The queue knows gateways and workers by the names of their pods.
        ComponentKind::Gateway => env.push(pod_name()),
        ComponentKind::Asr | ComponentKind::Tts => {
            env.push(pod_name());
            env.extend(gpu_environment(valid, program.kind));
        }
        ComponentKind::Redis => {
            let password = names::redis_password_ref(&valid.name);
            // For the probe: it asks as whoever may ask.
            if program.files.len() > 1 {
                env.push(secret_var("REDISCLI_AUTH", &password.name, &password.key));
            }
        }
        ComponentKind::LicenseProxy => {}
    }
    env
}

/// Which GPUs a container sees is the device plugin's decision: a value of ours would overrule it and show all of
/// them. Only a worker that asked for none says so, for nodes that would show them unasked.
fn gpu_environment(valid: &Valid, kind: ComponentKind) -> Vec<EnvVar> {
    let gpu = valid.worker(kind).and_then(|worker| worker.gpu.as_ref());
    match gpu {
        Some(_) => vec![
            text_var("NVIDIA_DRIVER_CAPABILITIES", "compute,utility".to_owned()),
            // Segments that grow leave less memory unusable between batches of different sizes.
            text_var("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True".to_owned()),
        ],
        None => vec![text_var("NVIDIA_VISIBLE_DEVICES", "void".to_owned())],
    }
}

/// A value that may stand in the pod itself.
fn plain(program: &Program, value: &Value) -> Option<String> {
    match value {
        Value::Text(text) => Some(text.clone()),
        Value::Port(name) => program.port(name).map(|port| port.to_string()),
        Value::File(name) => Some(format!("{}/{name}", volumes::FILES)),
        Value::Secret(_) => None,
    }
}

fn text_var(name: &str, value: String) -> EnvVar {
    EnvVar { name: name.to_owned(), value: Some(value), value_from: None }
}

fn secret_var(name: &str, secret: &str, key: &str) -> EnvVar {
    let reference = SecretKeySelector { name: secret.to_owned(), key: key.to_owned(), optional: None };
    let from = EnvVarSource { secret_key_ref: Some(reference), ..EnvVarSource::default() };
    EnvVar { name: name.to_owned(), value: None, value_from: Some(from) }
}

fn pod_name() -> EnvVar {
    let field = ObjectFieldSelector { field_path: "metadata.name".to_owned(), api_version: None };
    let from = EnvVarSource { field_ref: Some(field), ..EnvVarSource::default() };
    EnvVar { name: "POD_NAME".to_owned(), value: None, value_from: Some(from) }
}

fn ports(program: &Program) -> Vec<ContainerPort> {
    let ports = program.ports.iter().map(|port| ContainerPort {
        name: Some(port.name.to_owned()),
        container_port: i32::from(port.number),
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    });
    ports.collect()
}

/// What the "restricted" Pod Security Standard asks of a container, and a root file system that cannot be written.
fn restricted() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities { add: None, drop: Some(vec!["ALL".to_owned()]) }),
        read_only_root_filesystem: Some(true),
        ..SecurityContext::default()
    }
}
