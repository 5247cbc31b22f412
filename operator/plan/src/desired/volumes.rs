//! What a pod can read and write beside its images: files from Secrets and `ConfigMap`s, models, scratch space.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    ConfigMapProjection, EmptyDirVolumeSource, HostPathVolumeSource, KeyToPath,
    PersistentVolumeClaimVolumeSource, ProjectedVolumeSource, SecretProjection, Volume, VolumeMount,
    VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::build::{CLUSTER_CACHE, REDIS_DATA};
use crate::component::{Component, ComponentKind, Container as Program, Content};
use crate::names;
use crate::valid::{Valid, ValidRedis, ValidWorker};

/// Where a container finds its files.
pub(super) const FILES: &str = "/etc/smallest";

const MODELS: &str = "models";
const DATA: &str = "data";
const SCRATCH: &str = "tmp";
const SHARED_MEMORY: &str = "shm";

/// Readable by the pod's own group, to which its programs belong, and by nobody else.
const FILE_MODE: i32 = 0o440;

/// Volumes of a component's pod. `data` of a persistent Redis is not among them: its `StatefulSet` makes it.
pub(super) fn volumes(valid: &Valid, component: &Component) -> Vec<Volume> {
    let files = component.containers.iter().filter(|program| !program.files.is_empty());
    let mut volumes: Vec<Volume> = files.map(|program| projected(component, program)).collect();
    match component.kind {
        ComponentKind::Redis if is_persistent(valid) => {}
        ComponentKind::Redis => volumes.push(scratch(DATA)),
        ComponentKind::Gateway | ComponentKind::LicenseProxy => volumes.push(scratch(SCRATCH)),
        ComponentKind::Asr | ComponentKind::Tts => {
            volumes.push(scratch(SCRATCH));
            volumes.extend(valid.worker(component.kind).map(|worker| models(valid, worker)));
            if uses_gpu(valid, component.kind) {
                volumes.push(shared_memory());
            }
        }
    }
    volumes
}

/// Where a container sees them.
pub(super) fn mounts(valid: &Valid, program: &Program) -> Vec<VolumeMount> {
    let mut mounts = Vec::new();
    if !program.files.is_empty() {
        mounts.push(VolumeMount { read_only: Some(true), ..mount(&files_name(program), FILES) });
    }
    match program.kind {
        ComponentKind::Redis => mounts.push(mount(DATA, REDIS_DATA)),
        ComponentKind::LicenseProxy => {}
        ComponentKind::Gateway => mounts.push(mount(SCRATCH, "/tmp")),
        ComponentKind::Asr | ComponentKind::Tts => {
            mounts.push(mount(SCRATCH, "/tmp"));
            mounts.push(mount(MODELS, CLUSTER_CACHE));
            if uses_gpu(valid, program.kind) {
                mounts.push(mount(SHARED_MEMORY, "/dev/shm"));
            }
        }
    }
    mounts
}

/// Name of the volume that a persistent Redis writes to.
pub(super) fn data_volume() -> &'static str {
    DATA
}

fn is_persistent(valid: &Valid) -> bool {
    matches!(&valid.redis, ValidRedis::Embedded(embedded) if embedded.persistence.is_some())
}

fn uses_gpu(valid: &Valid, kind: ComponentKind) -> bool {
    valid.worker(kind).is_some_and(|worker| worker.gpu.is_some())
}

/// All files of a program in one folder, whatever they are made from. Kubernetes writes them anew when they change.
fn projected(component: &Component, program: &Program) -> Volume {
    let mut secrets: BTreeMap<&str, Vec<KeyToPath>> = BTreeMap::new();
    let mut texts = Vec::new();
    for file in &program.files {
        let path = file.name.to_owned();
        match &file.content {
            Content::Secret(entry) => {
                let item = KeyToPath { key: entry.key.clone(), path, mode: None };
                secrets.entry(&entry.name).or_default().push(item);
            }
            Content::Text(_) => texts.push(KeyToPath { key: path.clone(), path, mode: None }),
        }
    }
    let secrets = secrets.into_iter().map(|(name, items)| VolumeProjection {
        secret: Some(SecretProjection { name: name.to_owned(), items: Some(items), optional: None }),
        ..VolumeProjection::default()
    });
    let map = (!texts.is_empty()).then(|| VolumeProjection {
        config_map: Some(ConfigMapProjection {
            name: component.name.clone(),
            items: Some(texts),
            optional: None,
        }),
        ..VolumeProjection::default()
    });
    let sources = secrets.chain(map).collect();
    Volume {
        name: files_name(program),
        projected: Some(ProjectedVolumeSource { default_mode: Some(FILE_MODE), sources: Some(sources) }),
        ..Volume::default()
    }
}

fn files_name(program: &Program) -> String {
    format!("{}-files", names::component(program.kind))
}

fn models(valid: &Valid, worker: &ValidWorker) -> Volume {
    let cache = &worker.cache;
    let volume = Volume { name: MODELS.to_owned(), ..Volume::default() };
    let claim = |claim_name: String| PersistentVolumeClaimVolumeSource { claim_name, read_only: None };
    if let Some(host) = &cache.host_path {
        // It must be there: a folder that the kubelet makes belongs to root, and nobody else could write to it.
        let source = HostPathVolumeSource { path: host.path.clone(), type_: Some("Directory".to_owned()) };
        return Volume { host_path: Some(source), ..volume };
    }
    if let Some(name) = &cache.existing_claim {
        return Volume { persistent_volume_claim: Some(claim(name.clone())), ..volume };
    }
    if cache.persistent_volume_claim.is_some() {
        let name = names::model_claim(&valid.name, worker.kind);
        return Volume { persistent_volume_claim: Some(claim(name)), ..volume };
    }
    let source = EmptyDirVolumeSource { size_limit: cache.size.clone(), medium: None };
    Volume { empty_dir: Some(source), ..volume }
}

fn scratch(name: &str) -> Volume {
    Volume {
        name: name.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource { size_limit: Some(Quantity("1Gi".to_owned())), medium: None }),
        ..Volume::default()
    }
}

/// The runtime gives 64 MiB, which is little for what CUDA's libraries share between their threads and processes.
fn shared_memory() -> Volume {
    Volume {
        name: SHARED_MEMORY.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource {
            medium: Some("Memory".to_owned()),
            size_limit: Some(Quantity("1Gi".to_owned())),
        }),
        ..Volume::default()
    }
}

fn mount(name: &str, path: &str) -> VolumeMount {
    VolumeMount { name: name.to_owned(), mount_path: path.to_owned(), ..VolumeMount::default() }
}
