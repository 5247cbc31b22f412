//! Which deployments name which Secrets, and the versions of those: so that a corrected Secret wakes whoever waits
//! for it. Values are never here. Pure.

use std::collections::{BTreeSet, HashMap};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::Relist;
use crate::scale::Key;

/// Namespace and name.
type Name = (String, String);

#[derive(Debug, Default)]
pub(super) struct Secrets {
    versions: HashMap<Name, String>,
    named_by: HashMap<Name, BTreeSet<Key>>,
    names: HashMap<Key, Vec<String>>,
}

impl Secrets {
    /// The deployment names these, and no others.
    pub(super) fn refer(&mut self, key: &Key, names: Vec<String>) {
        for name in self.names.remove(key).unwrap_or_default() {
            let id = (key.namespace.clone(), name);
            if let Some(keys) = self.named_by.get_mut(&id) {
                keys.remove(key);
                if keys.is_empty() {
                    self.named_by.remove(&id);
                }
            }
        }
        for name in &names {
            self.named_by.entry((key.namespace.clone(), name.clone())).or_default().insert(key.clone());
        }
        if !names.is_empty() {
            self.names.insert(key.clone(), names);
        }
    }

    pub(super) fn put(&mut self, metadata: &ObjectMeta) -> Vec<Key> {
        let (Some(id), Some(version)) = (id(metadata), metadata.resource_version.clone()) else {
            return Vec::new();
        };
        let former = self.versions.insert(id.clone(), version.clone());
        if former.as_ref() == Some(&version) { Vec::new() } else { self.who_names(&id) }
    }

    pub(super) fn remove(&mut self, metadata: &ObjectMeta) -> Vec<Key> {
        let Some(id) = id(metadata) else { return Vec::new() };
        self.versions.remove(&id);
        self.who_names(&id)
    }

    pub(super) fn retain(&mut self, listed: &Relist) -> Vec<Key> {
        // A Secret is listed under its namespace: it does not say who names it.
        let is_listed = |(namespace, name): &Name| listed.has(&Key::new(namespace.as_str(), ""), name);
        let gone: Vec<Name> = self.versions.keys().filter(|id| !is_listed(id)).cloned().collect();
        for id in &gone {
            self.versions.remove(id);
        }
        gone.iter().flat_map(|id| self.who_names(id)).collect()
    }

    pub(super) fn version(&self, namespace: &str, name: &str) -> Option<String> {
        self.versions.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    pub(super) fn is_named(&self, namespace: &str, name: &str) -> bool {
        self.named_by.contains_key(&(namespace.to_owned(), name.to_owned()))
    }

    fn who_names(&self, id: &Name) -> Vec<Key> {
        self.named_by.get(id).into_iter().flatten().cloned().collect()
    }
}

fn id(metadata: &ObjectMeta) -> Option<Name> {
    Some((metadata.namespace.clone()?, metadata.name.clone()?))
}
