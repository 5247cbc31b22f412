//! What is being written, and what the watches told of it meanwhile: a watch is often faster than the answer.
//!
//! News that comes before the answer wakes nobody: it waits. What the answer covers was our own write, and no news; if
//! the watch told something newer, the writer looks again. Whoever gets no answer tries again in any case. Without this
//! nearly every turn that writes would be followed by one that finds nothing to do. Pure.

use std::collections::BTreeMap;

use super::{Index, Kind, Object, Seen, version};
use crate::scale::Key;

/// Whether the answer to a write is the newest that is known of what was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Answer {
    /// Nobody has told anything newer.
    #[default]
    Newest,
    /// A watch told something newer meanwhile: whoever wrote looks again.
    Overtaken,
}

/// What of one deployment is being written, and the newest version that a watch told meanwhile.
#[derive(Debug, Default)]
pub(super) struct Flights {
    objects: BTreeMap<(Kind, String), Option<u64>>,
    status: bool,
}

impl Flights {
    /// Has this news of an object to wait for an answer? Where versions are no numbers nobody could say what it covers.
    pub(super) fn hold(&mut self, id: Option<&(Kind, String)>, version: Option<u64>) -> bool {
        let Some(told) = id.and_then(|id| self.objects.get_mut(id)) else { return false };
        *told = (*told).max(version);
        version.is_some()
    }

    /// Has this news of the resource to wait for an answer? Only a status does: a changed spec is never ours.
    pub(super) fn hold_status(&self, known: Option<&Seen>, seen: &Seen) -> bool {
        let newer = version(seen.metadata()).is_some();
        self.status && newer && known.is_some_and(|known| known.differs_in_status_only(seen))
    }
}

/// An object that is being applied, until [`Applying::answered`], or until it is dropped.
pub(crate) struct Applying<'a> {
    index: &'a Index,
    key: &'a Key,
    object: (Kind, String),
}

/// A status that is being written, until it is answered, or dropped.
pub(crate) struct Reporting<'a> {
    index: &'a Index,
    key: &'a Key,
}

impl Index {
    /// An object of ours is about to be applied.
    pub(crate) fn applying<'a>(&'a self, key: &'a Key, object: (Kind, String)) -> Applying<'a> {
        let mut inner = self.lock();
        inner.entries.entry(key.clone()).or_default().flights.objects.insert(object.clone(), None);
        Applying { index: self, key, object }
    }

    /// The status of a deployment is about to be written.
    pub(crate) fn reporting<'a>(&'a self, key: &'a Key) -> Reporting<'a> {
        if let Some(entry) = self.lock().entries.get_mut(key) {
            entry.flights.status = true;
        }
        Reporting { index: self, key }
    }
}

impl Answer {
    fn from_versions(covered: Option<u64>, told: Option<u64>) -> Self {
        if told > covered { Self::Overtaken } else { Self::Newest }
    }
}

impl Applying<'_> {
    /// The answer, to what has this fingerprint.
    pub(crate) fn answered<O: Object>(self, answer: O, hash: u64) -> Answer {
        let covered = version(answer.meta());
        let mut inner = self.index.lock();
        inner.put(answer, Some(hash));
        let told = inner.entries.get(self.key).and_then(|entry| entry.flights.objects.get(&self.object));
        Answer::from_versions(covered, told.copied().flatten())
    }
}

impl Reporting<'_> {
    /// The answer.
    pub(crate) fn answered(self, answer: Seen) -> Answer {
        let covered = version(answer.metadata());
        self.index.put_resource(answer);
        let known = self.index.resource(self.key);
        Answer::from_versions(covered, known.and_then(|known| version(known.metadata())))
    }
}

impl Drop for Applying<'_> {
    fn drop(&mut self) {
        let mut inner = self.index.lock();
        if let Some(entry) = inner.entries.get_mut(self.key) {
            entry.flights.objects.remove(&self.object);
        }
        inner.tidy(self.key);
    }
}

impl Drop for Reporting<'_> {
    fn drop(&mut self) {
        if let Some(entry) = self.index.lock().entries.get_mut(self.key) {
            entry.flights.status = false;
        }
    }
}
