//! Inboxes: parcels of messages to one reader, in order. It knows nothing of what the messages mean.
//!
//! An inbox is a stream with one reader, which remembers the last entry it has read, over reconnections too, and
//! trims what it has read with one of its next reads: what lies in Redis is what nobody has read yet, and what was
//! read a moment ago. Appending keeps it alive for some leases, so an inbox without a reader goes away by itself.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::claims::millis;
use super::{RedisQueue, reply};
use crate::codec;
use crate::port::QueueError;
use crate::verdict::INBOX_LEASES;

/// Parcels that one read takes at most.
const PARCELS_A_READ: usize = 256;
/// A parcel is closed when it has grown to this many bytes.
const PARCEL_BYTES: usize = 1 << 20;
/// What was read lies in Redis for about this long. To trim with every read would wake the reader twice for a message:
/// for the answer to the trim, and for the message.
const TRIM_AFTER: Duration = Duration::from_millis(100);
/// A blocked read looks around this often at least (the time that a lost connection may go unnoticed).
const LONGEST_BLOCK: Duration = Duration::from_secs(30);

/// How far each inbox of this process was read.
#[derive(Debug, Default)]
pub(super) struct Positions(Mutex<HashMap<String, Arc<tokio::sync::Mutex<Position>>>>);

/// How far one inbox was read.
#[derive(Debug)]
struct Position {
    last: String,
    /// Since when entries up to `last` may lie in Redis although they were read.
    untrimmed: Option<Instant>,
    /// The connection broke since: another Redis may answer, which counts its entries anew.
    unsure: bool,
}

impl Positions {
    fn of(&self, inbox: &str) -> Arc<tokio::sync::Mutex<Position>> {
        let mut positions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(position) = positions.get(inbox) {
            return Arc::clone(position);
        }
        let start = Position { last: "0-0".into(), untrimmed: None, unsure: false };
        let position = Arc::new(tokio::sync::Mutex::new(start));
        positions.insert(inbox.to_owned(), Arc::clone(&position));
        position
    }

    pub(super) fn forget(&self, inbox: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(inbox);
    }
}

/// Parcels on their way, by inbox, in the order in which they were packed.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    open: HashMap<String, Vec<u8>>,
    closed: Vec<(String, Vec<u8>)>,
}

impl Outgoing {
    pub(super) fn add<T: Serialize>(&mut self, inbox: String, message: &T) {
        let parcel = self.open.entry(inbox).or_default();
        codec::add(parcel, message);
        if parcel.len() >= PARCEL_BYTES {
            self.closed.extend(self.open.extract_if(|_, parcel| parcel.len() >= PARCEL_BYTES));
        }
    }

    fn close(mut self) -> Vec<(String, Vec<u8>)> {
        self.closed.extend(self.open);
        self.closed
    }
}

impl RedisQueue {
    /// How long an inbox lives after the last thing that was put in.
    pub(super) fn inbox_ttl_ms(&self) -> u64 {
        millis(self.inner.limits.lease * INBOX_LEASES)
    }

    /// Appends all parcels in one round trip.
    pub(super) async fn post(&self, action: &'static str, outgoing: Outgoing) -> Result<(), QueueError> {
        let parcels = outgoing.close();
        if parcels.is_empty() {
            return Ok(());
        }
        let mut pipeline = ::redis::pipe();
        for (inbox, parcel) in &parcels {
            let add = pipeline.cmd("XADD").arg(inbox).arg("MAXLEN").arg("~");
            add.arg(self.inner.limits.inbox_entries).arg("*").arg("m").arg(parcel.as_slice()).ignore();
            pipeline.cmd("PEXPIRE").arg(inbox).arg(self.inbox_ttl_ms()).ignore();
        }
        self.inner.link.pipeline(action, &pipeline).await
    }

    /// Next messages of an inbox; none at the deadline.
    pub(super) async fn read_inbox<T: DeserializeOwned>(
        &self,
        action: &'static str,
        inbox: &str,
        deadline: Instant,
    ) -> Result<Vec<T>, QueueError> {
        let position = self.inner.positions.of(inbox);
        let mut position = position.lock().await;
        loop {
            let remaining = deadline.saturating_duration_since(Instant::now());
            match self.read_once(inbox, &mut position, remaining.min(LONGEST_BLOCK)).await {
                Ok(messages) if !messages.is_empty() || Instant::now() >= deadline => return Ok(messages),
                Ok(_) => {}
                Err(error) => {
                    position.unsure = true;
                    if !self.inner.link.wait_for_next_try(deadline).await {
                        return Err(self.inner.link.failure(action, error));
                    }
                }
            }
        }
    }

    async fn read_once<T: DeserializeOwned>(
        &self,
        inbox: &str,
        position: &mut Position,
        block: Duration,
    ) -> Result<Vec<T>, ::redis::RedisError> {
        if position.unsure {
            self.make_sure(inbox, position).await?;
        }
        let mut pipeline = ::redis::pipe();
        let (trim, block) = plan(position.untrimmed.map(|since| since.elapsed()), block);
        if trim {
            pipeline.cmd("XTRIM").arg(inbox).arg("MINID").arg(after(&position.last)).ignore();
        }
        let read = pipeline.cmd("XREAD").arg("COUNT").arg(PARCELS_A_READ);
        // BLOCK 0 would wait for ever.
        if millis(block) > 0 {
            read.arg("BLOCK").arg(millis(block));
        }
        read.arg("STREAMS").arg(inbox).arg(&position.last);
        let answer = self.inner.link.read(&pipeline, block).await?.pop();
        if trim {
            position.untrimmed = None;
        }
        let mut messages = Vec::new();
        for mut entry in answer.map(reply::read_entries).unwrap_or_default() {
            position.untrimmed.get_or_insert_with(Instant::now);
            match codec::unpack::<T>(&entry.take("m").unwrap_or_default()) {
                Ok(parcel) => {
                    if parcel.skipped > 0 {
                        tracing::warn!(inbox, skipped = parcel.skipped, "messages of unknown kinds skipped");
                    }
                    messages.extend(parcel.messages);
                }
                Err(error) => tracing::warn!(inbox, entry = entry.id, %error, "unreadable parcel skipped"),
            }
            position.last = entry.id;
        }
        Ok(messages)
    }

    /// After a broken connection: a Redis that started anew (or lost its latest entries in a failover) gives
    /// lower entry ids when its clock is behind, and the reader would wait past them.
    async fn make_sure(&self, inbox: &str, position: &mut Position) -> Result<(), ::redis::RedisError> {
        let mut pipeline = ::redis::pipe();
        pipeline.cmd("XREVRANGE").arg(inbox).arg("+").arg("-").arg("COUNT").arg(1);
        let newest = self.inner.link.read(&pipeline, Duration::ZERO).await?.pop();
        let newest = newest.map(reply::entries).unwrap_or_default().pop().map(|entry| entry.id);
        // An inbox that is empty or older than what was read holds nothing that was read: start over.
        if newest.is_none_or(|newest| order(&newest) < order(&position.last)) {
            position.last = "0-0".into();
        }
        position.unsure = false;
        Ok(())
    }
}

/// Whether to trim with a read, and how long that may block: when what was read lies there since `untrimmed`, and the
/// reader wants to wait for `block`. One that waits briefly may not come again soon.
fn plan(untrimmed: Option<Duration>, block: Duration) -> (bool, Duration) {
    match untrimmed.map(|lies| TRIM_AFTER.saturating_sub(lies)) {
        None => (false, block),
        Some(left) if millis(left) == 0 || block <= TRIM_AFTER => (true, block),
        Some(left) => (false, block.min(left)),
    }
}

/// The smallest entry id after this one.
fn after(id: &str) -> String {
    let (ms, sequence) = order(id);
    format!("{ms}-{}", sequence + 1)
}

fn order(id: &str) -> (u64, u64) {
    let (ms, sequence) = id.split_once('-').unwrap_or((id, "0"));
    (ms.parse().unwrap_or(0), sequence.parse().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entry_ids_are_ordered_as_numbers() {
        assert!(order("9-10") > order("9-9"));
        assert!(order("10-0") > order("9-99"));
        assert_eq!(after("9-9"), "9-10");
    }

    #[test]
    fn what_was_read_is_trimmed_when_it_has_lain_for_a_while_and_before_a_short_wait() {
        let (long, short, ms) = (Duration::from_secs(5), Duration::from_millis(20), Duration::from_millis);
        for (untrimmed, block, expected) in [
            (None, long, (false, long)),
            (Some(ms(0)), long, (false, TRIM_AFTER)),
            (Some(ms(70)), long, (false, ms(30))),
            (Some(TRIM_AFTER), long, (true, long)),
            (Some(ms(0)), short, (true, short)),
        ] {
            assert_eq!(plan(untrimmed, block), expected, "{untrimmed:?} {block:?}");
        }
    }

    #[test]
    fn a_parcel_is_closed_before_it_grows_beyond_bounds() {
        let mut outgoing = Outgoing::default();
        for _ in 0..5 {
            outgoing.add("a".into(), &serde_bytes_like(600_000));
            outgoing.add("b".into(), &1_u8);
        }
        let parcels = outgoing.close();
        assert_eq!(parcels.iter().filter(|(inbox, _)| inbox == "a").count(), 3);
        assert_eq!(parcels.iter().filter(|(inbox, _)| inbox == "b").count(), 1);
        assert!(parcels.iter().all(|(_, parcel)| parcel.len() < 2 * PARCEL_BYTES));
    }

    fn serde_bytes_like(length: usize) -> bytes::Bytes {
        bytes::Bytes::from(vec![0; length])
    }
}
