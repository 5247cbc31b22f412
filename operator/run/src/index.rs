//! What the watches have seen, by `SmallestDeployment`: events in, wake-ups and what is known out. No call, no await.
//!
//! ```text
//! watch ──put, remove, retain──▶ Index ──keys to wake──▶ agenda
//! apply, report ──applied, put──▶   │
//!                                   └──resource, children──▶ reconcile
//! ```
//!
//! An object of ours names its deployment in the label `app.kubernetes.io/instance`. Of objects that only have to
//! exist, metadata is kept; of those that status speaks of, what status reads (`index/object`). What apply and
//! report got as answers is put in at once, and the watch's older news of the same object is passed over, so
//! that no step works with what it has itself made old. News that comes before the answer waits for it (`index/flight`).

mod fields;
mod flight;
mod object;
mod relist;
mod secrets;
mod seen;
mod shelf;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use operator_plan::Children;

use crate::scale::Key;

pub(crate) use fields::{as_applied, is_noted, made_with};
pub(crate) use flight::Answer;
use flight::Flights;
pub(crate) use object::{Kind, Object, Slots};
pub(crate) use relist::Relist;
use secrets::Secrets;
pub(crate) use seen::Seen;

/// Label with the name of the deployment that an object belongs to.
const INSTANCE: &str = "app.kubernetes.io/instance";

/// What the watches have seen. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Index(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    entries: HashMap<Key, Entry>,
    secrets: Secrets,
}

#[derive(Default)]
struct Entry {
    resource: Option<Seen>,
    owned: BTreeMap<(Kind, String), Live>,
    slots: Slots,
    flights: Flights,
}

/// An object of ours in the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Live {
    /// Its uid.
    pub(crate) uid: String,
    /// Uid of its controlling owner.
    pub(crate) owner: Option<String>,
    /// `spec.replicas` is among the fields that we manage.
    pub(crate) sets_replicas: bool,
    /// It was made by POST, and not applied since.
    pub(crate) is_made: bool,
    version: Option<u64>,
    /// Fingerprint of the fields that we manage: it changes when anybody changes one of them.
    fields: u64,
    /// What was applied last, and the fingerprint of the fields right after it.
    applied: Option<(u64, u64)>,
}

impl Index {
    /// Deployment and name of an object of ours.
    pub(crate) fn id(metadata: &ObjectMeta) -> Option<(Key, String)> {
        owner_and_name(metadata)
    }

    /// A `SmallestDeployment` was seen; its key, if that is worth a look.
    pub(crate) fn put_resource(&self, seen: Seen) -> Option<Key> {
        let key = key_of(seen.metadata())?;
        let mut inner = self.lock();
        let entry = inner.entries.entry(key.clone()).or_default();
        if let Some(known) = &entry.resource {
            if is_older(seen.metadata(), version(known.metadata())) {
                return None;
            }
            if !known.differs(&seen) {
                entry.resource = Some(seen);
                return None;
            }
        }
        let is_held = entry.flights.hold_status(entry.resource.as_ref(), &seen);
        let names = match &seen {
            Seen::Valid(deployment) => operator_plan::secret_names(deployment).into_iter().collect(),
            Seen::Unreadable { .. } => Vec::new(),
        };
        entry.resource = Some(seen);
        inner.secrets.refer(&key, names);
        (!is_held).then_some(key)
    }

    /// A `SmallestDeployment` is gone.
    pub(crate) fn remove_resource(&self, metadata: &ObjectMeta) -> Option<Key> {
        let key = key_of(metadata)?;
        let mut inner = self.lock();
        let entry = inner.entries.get_mut(&key)?;
        // It may exist again already.
        if entry.resource.as_ref().is_some_and(|known| known.metadata().uid == metadata.uid) {
            entry.resource = None;
        }
        inner.tidy(&key);
        Some(key)
    }

    /// Only these `SmallestDeployment`s exist; keys of the others.
    pub(crate) fn retain_resources(&self, listed: &Relist) -> Vec<Key> {
        let mut inner = self.lock();
        let gone = |(key, entry): (&Key, &Entry)| {
            (entry.resource.is_some() && !listed.has(key, &key.name)).then(|| key.clone())
        };
        let gone: Vec<Key> = inner.entries.iter().filter_map(gone).collect();
        for key in &gone {
            if let Some(entry) = inner.entries.get_mut(key) {
                entry.resource = None;
            }
            inner.tidy(key);
        }
        gone
    }

    /// An object of ours was seen; the key of its deployment, if that is worth a look.
    pub(crate) fn put<O: Object>(&self, object: O) -> Option<Key> {
        self.lock().put(object, None)
    }

    /// An object of ours is gone.
    pub(crate) fn remove<O: Object>(&self, object: &O) -> Option<Key> {
        let (key, name) = owner_and_name(object.meta())?;
        let mut inner = self.lock();
        let entry = inner.entries.get_mut(&key)?;
        if let Some(kind) = O::KIND {
            let id = (kind, name.clone());
            if entry.owned.get(&id).is_some_and(|live| Some(&live.uid) != object.meta().uid.as_ref()) {
                return None;
            }
            entry.owned.remove(&id);
        }
        O::forget(&mut entry.slots, &name);
        inner.tidy(&key);
        Some(key)
    }

    /// Only these objects of the kind exist; keys of deployments that lost one.
    pub(crate) fn retain<O: Object>(&self, listed: &Relist) -> Vec<Key> {
        let mut inner = self.lock();
        let mut woken = Vec::new();
        for (key, entry) in &mut inner.entries {
            let before = entry.owned.len();
            if let Some(kind) = O::KIND {
                entry.owned.retain(|(of, name), _| *of != kind || listed.has(key, name));
            }
            let lost = O::names(&entry.slots).into_iter().filter(|name| !listed.has(key, name));
            let lost: Vec<String> = lost.collect();
            for name in &lost {
                O::forget(&mut entry.slots, name);
            }
            if before != entry.owned.len() || !lost.is_empty() {
                woken.push(key.clone());
            }
        }
        for key in &woken {
            inner.tidy(key);
        }
        woken
    }

    /// A Secret was seen; keys of deployments that name it, if its content may have changed.
    pub(crate) fn put_secret(&self, metadata: &ObjectMeta) -> Vec<Key> {
        self.lock().secrets.put(metadata)
    }

    /// A Secret is gone; keys of deployments that name it.
    pub(crate) fn remove_secret(&self, metadata: &ObjectMeta) -> Vec<Key> {
        self.lock().secrets.remove(metadata)
    }

    /// Only these Secrets exist; keys of deployments that name another.
    pub(crate) fn retain_secrets(&self, listed: &Relist) -> Vec<Key> {
        let mut inner = self.lock();
        let mut woken = inner.secrets.retain(listed);
        for (key, entry) in &mut inner.entries {
            let before = entry.owned.len();
            let namespace = Key::new(key.namespace.as_str(), "");
            entry.owned.retain(|(kind, name), _| *kind != Kind::Secret || listed.has(&namespace, name));
            if entry.owned.len() != before {
                woken.push(key.clone());
            }
        }
        for key in &woken {
            inner.tidy(key);
        }
        woken
    }

    /// Version of a Secret, if there is one.
    pub(crate) fn secret_version(&self, namespace: &str, name: &str) -> Option<String> {
        self.lock().secrets.version(namespace, name)
    }

    /// Does any deployment name this Secret?
    pub(crate) fn is_named(&self, namespace: &str, name: &str) -> bool {
        self.lock().secrets.is_named(namespace, name)
    }

    /// A deployment as it was last seen; nothing when it is gone.
    pub(crate) fn resource(&self, key: &Key) -> Option<Seen> {
        self.lock().entries.get(key)?.resource.clone()
    }

    /// What status speaks of, as it is now.
    pub(crate) fn children(&self, key: &Key) -> Children {
        self.lock().entries.get(key).map(|entry| entry.slots.children()).unwrap_or_default()
    }

    /// Objects of a deployment, by kind and name.
    pub(crate) fn owned(&self, key: &Key) -> BTreeMap<(Kind, String), Live> {
        self.lock().entries.get(key).map(|entry| entry.owned.clone()).unwrap_or_default()
    }

    /// This object, if it is known to be of the deployment.
    pub(crate) fn live(&self, key: &Key, object: &(Kind, String)) -> Option<Live> {
        self.lock().entries.get(key)?.owned.get(object).cloned()
    }

    /// Has exactly this been applied, and has nobody touched it since?
    pub(crate) fn is_current(&self, key: &Key, object: &(Kind, String), hash: u64) -> bool {
        let inner = self.lock();
        let live = inner.entries.get(key).and_then(|entry| entry.owned.get(object));
        live.is_some_and(|live| live.applied == Some((hash, live.fields)))
    }

    /// Another replica may have applied something else meanwhile: everything is applied once more.
    pub(crate) fn forget_applied(&self) {
        for entry in self.lock().entries.values_mut() {
            entry.owned.values_mut().for_each(|live| live.applied = None);
        }
    }

    /// Keys of all deployments.
    pub(crate) fn keys(&self) -> Vec<Key> {
        self.lock().entries.keys().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn put<O: Object>(&mut self, object: O, hash: Option<u64>) -> Option<Key> {
        let (key, name) = owner_and_name(object.meta())?;
        let entry = self.entries.entry(key.clone()).or_default();
        let (id, new_version) = (O::KIND.map(|kind| (kind, name)), version(object.meta()));
        let mut changed = false;
        if let Some(id) = &id {
            let mut live = Live::of(object.meta());
            let known = entry.owned.get(id).filter(|known| known.uid == live.uid);
            if known.is_some_and(|known| is_older(object.meta(), known.version)) {
                return None;
            }
            live.applied = match hash {
                Some(hash) => Some((hash, live.fields)),
                None => known.and_then(|known| known.applied),
            };
            changed = known.is_none_or(|known| known.fields != live.fields);
            entry.owned.insert(id.clone(), live);
            if id.0 == Kind::Secret && hash.is_some() {
                // What was just made is there, whatever the watch knows of it.
                self.secrets.put(object.meta());
            }
        }
        // Not `||`: what status reads must be kept in any case.
        changed |= object.keep(&mut entry.slots);
        let is_held = changed && hash.is_none() && entry.flights.hold(id.as_ref(), new_version);
        (changed && !is_held).then_some(key)
    }

    /// Drops what is known of a deployment once there is nothing left of it.
    fn tidy(&mut self, key: &Key) {
        let Some(entry) = self.entries.get(key) else { return };
        if entry.resource.is_none() {
            self.secrets.refer(key, Vec::new());
            if entry.owned.is_empty() && entry.slots.is_empty() {
                self.entries.remove(key);
            }
        }
    }
}

impl Live {
    /// Its version, where that is a number.
    pub(crate) fn version(&self) -> Option<u64> {
        self.version
    }

    fn of(metadata: &ObjectMeta) -> Self {
        let owners = metadata.owner_references.iter().flatten();
        Self {
            uid: metadata.uid.clone().unwrap_or_default(),
            owner: owners
                .filter(|owner| owner.controller == Some(true))
                .map(|owner| owner.uid.clone())
                .next(),
            version: version(metadata),
            sets_replicas: fields::has_replicas(metadata),
            is_made: fields::is_made(metadata),
            fields: fields::fingerprint(metadata),
            applied: None,
        }
    }
}

/// Key of a `SmallestDeployment`.
fn key_of(metadata: &ObjectMeta) -> Option<Key> {
    Some(Key::new(metadata.namespace.clone()?, metadata.name.clone()?))
}

/// Deployment and name of an object of ours.
fn owner_and_name(metadata: &ObjectMeta) -> Option<(Key, String)> {
    let instance = metadata.labels.as_ref()?.get(INSTANCE)?;
    Some((Key::new(metadata.namespace.clone()?, instance), metadata.name.clone()?))
}

/// Resource versions of one object are numbers that grow; where they are not, nothing is known of their order.
pub(crate) fn version(metadata: &ObjectMeta) -> Option<u64> {
    metadata.resource_version.as_ref()?.parse().ok()
}

fn is_older(metadata: &ObjectMeta, known: Option<u64>) -> bool {
    matches!((version(metadata), known), (Some(new), Some(known)) if new < known)
}

/// Name for logs: kind and name.
pub(crate) fn describe(kind: Kind, name: &str) -> String {
    format!("{} {name}", kind.name())
}

#[cfg(test)]
mod tests;
