//! A waiting line with claims: the pure heart of the memory queue, used once for jobs and once for sessions.
//!
//! Time comes in as Unix milliseconds. It knows nothing of what the entries mean.

use std::collections::BTreeMap;

use crate::ids::WorkerId;

/// Place of an entry in the line; never reused.
pub(super) type EntryId = u64;

/// One piece of work, waiting or held.
#[derive(Debug, Clone)]
pub(super) struct Entry<T> {
    pub(super) work: T,
    /// Since when it has been in the line.
    pub(super) queued_at_ms: u64,
    /// Claims so far.
    pub(super) attempts: u32,
    /// Who holds it, and when that was last confirmed.
    holder: Option<(WorkerId, u64)>,
}

impl<T> Entry<T> {
    pub(super) fn holder(&self) -> Option<&WorkerId> {
        self.holder.as_ref().map(|(worker, _)| worker)
    }
}

/// A claim that was just made.
#[derive(Debug, Clone)]
pub(super) struct Taken<T> {
    pub(super) id: EntryId,
    pub(super) work: T,
    pub(super) queued_at_ms: u64,
    /// Counts this claim.
    pub(super) attempt: u32,
    /// Whose claim lapsed, if this is not the first.
    pub(super) from: Option<WorkerId>,
}

/// Entries in the order of their arrival.
#[derive(Debug)]
pub(super) struct Line<T> {
    entries: BTreeMap<EntryId, Entry<T>>,
    next: EntryId,
    lease_ms: u64,
}

impl<T: Clone> Line<T> {
    pub(super) fn new(lease_ms: u64) -> Self {
        Self { entries: BTreeMap::new(), next: 1, lease_ms }
    }

    /// Entries that were ever put into the line.
    pub(super) fn pushed(&self) -> u64 {
        self.next - 1
    }

    /// Entries that a live claim holds.
    pub(super) fn held_entries(&self, now_ms: u64) -> u64 {
        self.entries.len() as u64 - self.waiting(now_ms).0
    }

    /// Puts work at the end of the line.
    pub(super) fn push(&mut self, work: T, attempts: u32, now_ms: u64) -> EntryId {
        let id = self.next;
        self.next += 1;
        self.entries.insert(id, Entry { work, queued_at_ms: now_ms, attempts, holder: None });
        id
    }

    /// Claims the oldest entry of a lapsed holder, else the oldest that nobody holds.
    pub(super) fn take(&mut self, worker: &WorkerId, now_ms: u64) -> Option<Taken<T>> {
        let lapsed = self.entries.iter().find(|(_, e)| self.lapsed(e, now_ms));
        let (&id, _) = lapsed.or_else(|| self.entries.iter().find(|(_, e)| e.holder.is_none()))?;
        let entry = self.entries.get_mut(&id)?;
        let from = entry.holder.replace((worker.clone(), now_ms)).map(|(previous, _)| previous);
        entry.attempts += 1;
        Some(Taken {
            id,
            work: entry.work.clone(),
            queued_at_ms: entry.queued_at_ms,
            attempt: entry.attempts,
            from,
        })
    }

    /// The entry, if this worker holds it.
    pub(super) fn held(&mut self, id: EntryId, worker: &WorkerId) -> Option<&mut Entry<T>> {
        self.entries.get_mut(&id).filter(|e| e.holder() == Some(worker))
    }

    /// Renews a claim; false when it is lost.
    pub(super) fn renew(&mut self, id: EntryId, worker: &WorkerId, now_ms: u64) -> bool {
        self.held(id, worker).map(|e| e.holder = Some((worker.clone(), now_ms))).is_some()
    }

    /// Takes an entry out, whoever holds it.
    pub(super) fn remove(&mut self, id: EntryId) -> Option<Entry<T>> {
        self.entries.remove(&id)
    }

    /// The entry is in the line, waiting or held.
    pub(super) fn contains(&self, id: EntryId) -> bool {
        self.entries.contains_key(&id)
    }

    /// Entries that no live claim holds, and since when the oldest of them is in the line.
    pub(super) fn waiting(&self, now_ms: u64) -> (u64, Option<u64>) {
        let free = || self.entries.values().filter(|e| e.holder.is_none() || self.lapsed(e, now_ms));
        (free().count() as u64, free().map(|e| e.queued_at_ms).min())
    }

    /// When the next claim lapses unless it is renewed.
    pub(super) fn next_lapse_ms(&self) -> Option<u64> {
        self.entries.values().filter_map(|e| e.holder.as_ref()).map(|(_, at)| at + self.lease_ms).min()
    }

    /// Drops entries that nobody has claimed since `before_ms`.
    pub(super) fn forget_unclaimed_before(&mut self, before_ms: u64) {
        self.entries.retain(|_, e| e.holder.is_some() || e.queued_at_ms >= before_ms);
    }

    fn lapsed(&self, entry: &Entry<T>, now_ms: u64) -> bool {
        entry.holder.as_ref().is_some_and(|(_, at)| now_ms >= at + self.lease_ms)
    }
}
