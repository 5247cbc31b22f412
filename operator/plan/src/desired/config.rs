//! Secrets and `ConfigMap`s, and the digest of what pods read from them at their start.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use sha2::{Digest as _, Sha256};

use crate::component::{Component, ComponentKind, Container, Content, Reload, Value};
use crate::desired::meta::{meta, named};
use crate::plan::{GeneratedSecret, Plan};
use crate::secret::SecretRef;
use crate::valid::Valid;

/// The Secrets that the plan generated: all of them are of the queue.
pub(super) fn secrets(valid: &Valid, plan: &Plan) -> Vec<Secret> {
    let mut by_name: BTreeMap<&str, BTreeMap<String, ByteString>> = BTreeMap::new();
    for GeneratedSecret { reference, value } in &plan.secrets {
        let value = ByteString(value.expose().as_bytes().to_vec());
        by_name.entry(&reference.name).or_default().insert(reference.key.clone(), value);
    }
    let secret = |(name, data): (&str, BTreeMap<String, ByteString>)| Secret {
        metadata: named(valid, ComponentKind::Redis, name.to_owned()),
        type_: Some("Opaque".to_owned()),
        data: Some(data),
        ..Secret::default()
    };
    by_name.into_iter().map(secret).collect()
}

/// A `ConfigMap` for each component that reads files which are no secret.
pub(super) fn config_maps(valid: &Valid, plan: &Plan) -> Vec<ConfigMap> {
    let of = |component: &Component| {
        let files = component.containers.iter().flat_map(|container| &container.files);
        let data: BTreeMap<String, String> = files
            .filter_map(|file| match &file.content {
                Content::Text(text) => Some((file.name.to_owned(), text.clone())),
                Content::Secret(_) => None,
            })
            .collect();
        let map =
            ConfigMap { metadata: meta(valid, component.kind), data: Some(data), ..ConfigMap::default() };
        map.data.as_ref().is_some_and(|data| !data.is_empty()).then_some(map)
    };
    plan.components.iter().filter_map(of).collect()
}

/// A digest of everything that the component's programs read once: when it changes, the pods must be replaced.
/// Variables with their values in the pod are not in it: they replace the pods by themselves.
pub(super) fn checksum(valid: &Valid, plan: &Plan, component: &Component) -> String {
    let mut digest = Sha256::new();
    for container in &component.containers {
        for (name, text) in read_once(valid, plan, container) {
            // Lengths keep one entry from passing for another.
            digest.update(format!("{}:{name}={}:", name.len(), text.len()));
            digest.update(text);
        }
    }
    digest.finalize().iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
}

fn read_once<'a>(valid: &'a Valid, plan: &'a Plan, container: &'a Container) -> Vec<(&'a str, &'a str)> {
    let secret = |reference: &SecretRef| {
        let made = plan.secrets.iter().find(|secret| secret.reference == *reference);
        let value = made.map(|secret| &secret.value).or_else(|| valid.secrets.get(reference));
        value.map_or("", |text| text.expose())
    };
    let env = container.env.iter().filter_map(|var| match &var.value {
        Value::Secret(reference) => Some((var.name, secret(reference))),
        Value::Text(_) | Value::Port(_) | Value::File(_) => None,
    });
    let files = container.files.iter().filter(|file| file.reload == Reload::Restart);
    let files = files.map(|file| match &file.content {
        Content::Secret(reference) => (file.name, secret(reference)),
        Content::Text(text) => (file.name, text.as_str()),
    });
    env.chain(files).collect()
}
