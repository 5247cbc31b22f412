//! Claiming entries of a work stream: first those of workers that died, then new ones. It knows nothing of what
//! the entries mean.
//!
//! New entries come by a blocking read. Lapsed claims wake nobody up, so while it waits it looks for them
//! twice in a lease; that is the only thing here that goes by a timer.

use std::time::Duration;

use tokio::time::Instant;

use super::reply::{self, Entry};
use super::{RedisQueue, scripts};
use crate::ids::WorkerId;
use crate::keys::GROUP;
use crate::port::QueueError;
use crate::verdict::INBOX_LEASES;

/// Which line is claimed from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Line {
    Jobs,
    Sessions,
}

/// An entry that this worker holds now.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) entry: Entry,
    /// Deliveries of this entry, this one included.
    pub(super) deliveries: u32,
    /// Whose claim lapsed, else empty.
    pub(super) former_holder: String,
}

impl RedisQueue {
    /// Claims up to `max` entries; returns as soon as there is one, and with none at the deadline.
    pub(super) async fn claim(
        &self,
        line: Line,
        worker: &WorkerId,
        max: usize,
        deadline: Instant,
    ) -> Result<Vec<Claim>, QueueError> {
        let action = match line {
            Line::Jobs => "claim jobs",
            Line::Sessions => "claim sessions",
        };
        if max == 0 {
            tokio::time::sleep_until(deadline).await;
            return Ok(Vec::new());
        }
        loop {
            if self.reclaim_is_due(line, worker) {
                match self.reclaim(line, worker, max).await {
                    Ok(claims) if !claims.is_empty() => return Ok(claims),
                    Ok(_) => {}
                    Err(error) if !self.inner.link.wait_for_next_try(deadline).await => return Err(error),
                    Err(_) => continue,
                }
            }
            let remaining = deadline.saturating_duration_since(Instant::now());
            let block = remaining.min(self.inner.limits.lease / 2);
            match self.read_new(line, worker, max, block).await {
                Ok(claims) if !claims.is_empty() || Instant::now() >= deadline => return Ok(claims),
                Ok(_) => {}
                Err(error) if is_no_group(&error) => self.create_group(line).await?,
                Err(error) => {
                    if !self.inner.link.wait_for_next_try(deadline).await {
                        return Err(self.inner.link.failure(action, error));
                    }
                }
            }
        }
    }

    pub(super) fn stream(&self, line: Line) -> String {
        match line {
            Line::Jobs => self.inner.keys.jobs(),
            Line::Sessions => self.inner.keys.sessions(),
        }
    }

    /// Twice in a lease, and at the first claim.
    fn reclaim_is_due(&self, line: Line, worker: &WorkerId) -> bool {
        let now = Instant::now();
        let mut reclaimed = self.lock_reclaimed();
        let last = reclaimed.get(&(line, worker.clone())).copied();
        let due = last.is_none_or(|at| now >= at + self.inner.limits.lease / 2);
        if due {
            reclaimed.insert((line, worker.clone()), now);
        }
        due
    }

    async fn reclaim(&self, line: Line, worker: &WorkerId, max: usize) -> Result<Vec<Claim>, QueueError> {
        let lease = self.inner.limits.lease;
        let stale = (lease * INBOX_LEASES).max(Duration::from_mins(1));
        let mut call = scripts::RECLAIM.prepare_invoke();
        call.key(self.stream(line)).arg(worker.as_str()).arg(millis(lease)).arg(max).arg(millis(stale));
        let found = self.inner.link.script("take over lapsed claims", &call).await?;
        if matches!(&found, ::redis::Value::Array(rows) if rows.len() == max) {
            // There may be more: look again at the next claim.
            self.lock_reclaimed().remove(&(line, worker.clone()));
        }
        let claims = reply::read_reclaimed(found).into_iter();
        let claim = |r: reply::Reclaimed| Claim {
            entry: r.entry,
            deliveries: r.deliveries,
            former_holder: r.former_holder,
        };
        Ok(claims.map(claim).collect())
    }

    async fn read_new(
        &self,
        line: Line,
        worker: &WorkerId,
        max: usize,
        block: Duration,
    ) -> Result<Vec<Claim>, ::redis::RedisError> {
        let mut read = ::redis::cmd("XREADGROUP");
        read.arg("GROUP").arg(GROUP).arg(worker.as_str()).arg("COUNT").arg(max);
        // BLOCK 0 would wait for ever.
        if millis(block) > 0 {
            read.arg("BLOCK").arg(millis(block));
        }
        read.arg("STREAMS").arg(self.stream(line)).arg(">");
        let mut pipeline = ::redis::pipe();
        pipeline.add_command(read);
        let answer = self.inner.link.read(&pipeline, block).await?.pop();
        let entries = answer.map(reply::read_entries).unwrap_or_default();
        let claim = |entry| Claim { entry, deliveries: 1, former_holder: String::new() };
        Ok(entries.into_iter().map(claim).collect())
    }

    /// The group is missing before the first entry, and again after a restart or FLUSHALL.
    async fn create_group(&self, line: Line) -> Result<(), QueueError> {
        let (ttl, action) = match line {
            Line::Jobs => (self.inner.limits.batch_ttl, "make the group of jobs"),
            Line::Sessions => (self.inner.limits.session_ttl, "make the group of sessions"),
        };
        let mut create = ::redis::pipe();
        create
            .cmd("XGROUP")
            .arg("CREATE")
            .arg(self.stream(line))
            .arg(GROUP)
            .arg("0")
            .arg("MKSTREAM")
            .ignore();
        create.cmd("PEXPIRE").arg(self.stream(line)).arg(millis(ttl)).ignore();
        match self.inner.link.pipeline::<()>(action, &create).await {
            // Another worker was faster.
            Err(QueueError::Unavailable { source, .. }) if source.to_string().contains("BUSYGROUP") => Ok(()),
            result => result,
        }
    }
}

fn is_no_group(error: &::redis::RedisError) -> bool {
    // UNBLOCKED: newer servers say so when the stream vanishes under a blocked read.
    super::link::says(error, &["NOGROUP", "UNBLOCKED"])
}

pub(super) fn millis(duration: Duration) -> u64 {
    duration.as_millis() as u64
}
