//! The batch jobs that this worker holds.
//!
//! Journey: `pull → [jobs] → engine thread → reply`. A table without IO. Must not know: Redis, words.

use std::collections::HashMap;
use std::time::Duration;

use queue::ids::JobId;
use queue::port::ClaimedJob;
use tokio::sync::OwnedSemaphorePermit;
use tracing::Span;
use workers_batch::Occupant;

/// One job.
#[derive(Debug)]
pub struct JobEntry {
    /// The claim.
    pub claim: ClaimedJob,
    /// Milliseconds it waited in the queue.
    pub queue_ms: f32,
    /// When it was claimed, by the engine's clock.
    pub claimed_at: Duration,
    /// Its slot; given back when the entry is dropped.
    pub permit: OwnedSemaphorePermit,
    /// From claimed to answered, in the trace of its request.
    pub span: Span,
}

/// All jobs of the worker.
#[derive(Debug, Default)]
pub struct Jobs {
    by_occupant: HashMap<Occupant, JobEntry>,
    by_id: HashMap<JobId, Occupant>,
}

impl Jobs {
    /// Adds a claimed job.
    pub fn insert(&mut self, occupant: Occupant, entry: JobEntry) {
        self.by_id.insert(entry.claim.job.id.clone(), occupant);
        self.by_occupant.insert(occupant, entry);
    }

    /// Removes the job of an occupant.
    pub fn remove(&mut self, occupant: Occupant) -> Option<JobEntry> {
        let entry = self.by_occupant.remove(&occupant)?;
        if self.by_id.get(&entry.claim.job.id) == Some(&occupant) {
            self.by_id.remove(&entry.claim.job.id);
        }
        Some(entry)
    }

    /// Whether the occupant's job is still wanted.
    pub fn contains(&self, occupant: Occupant) -> bool {
        self.by_occupant.contains_key(&occupant)
    }

    /// The occupant of a job.
    pub fn of(&self, job: &JobId) -> Option<Occupant> {
        self.by_id.get(job).copied()
    }

    /// The job with a claim of this name.
    pub fn by_claim(&self, claim: &str) -> Option<Occupant> {
        self.by_occupant.iter().find(|(_, e)| e.claim.claim == claim).map(|(o, _)| *o)
    }

    /// All occupants.
    pub fn occupants(&self) -> Vec<Occupant> {
        self.by_occupant.keys().copied().collect()
    }

    /// Names of all claims.
    pub fn claims(&self) -> Vec<String> {
        self.by_occupant.values().map(|e| e.claim.claim.clone()).collect()
    }

    /// Samples of all jobs.
    pub fn samples(&self) -> u64 {
        self.by_occupant.values().map(|e| e.claim.job.samples).sum()
    }

    /// Jobs held.
    pub fn len(&self) -> usize {
        self.by_occupant.len()
    }

    /// No job is held.
    pub fn is_empty(&self) -> bool {
        self.by_occupant.is_empty()
    }
}
