//! Inboxes: parcels of messages to one reader, in order. It knows nothing of what the messages mean.
//!
//! An inbox is a stream with one reader, which remembers the last entry it has read, over reconnections too, and
//! trims what it has read soon after: what lies in Redis is what nobody has read yet, and what was read a moment ago. So
//! that messages need not wait for the next question, several reads wait in Redis at once ([`Reads`]); each takes what
//! comes after the one before, which a consumer group counts. The group is of one connection and made where the reader
//! stands: a connection that broke without Redis's knowledge takes nothing from the next.
//! An inbox whose reader gives no sign of life goes away by itself.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ::redis::Cmd;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::claims::millis;
use super::reads::Reads;
use super::{RedisQueue, reply};
use crate::codec;
use crate::port::QueueError;
use crate::verdict::INBOX_LEASES;

/// Reads that wait in Redis at once; when half of them are answered, as many more are sent.
const READS: usize = 16;
/// Parcels that one read takes at most.
const PARCELS_A_READ: usize = 32;
/// A parcel is closed when it has grown to this many bytes.
const PARCEL_BYTES: usize = 1 << 20;
/// What was read lies in Redis for about this long. To trim after every read would wake Redis, and the reader for the
/// answer, as often again.
const TRIM_AFTER: Duration = Duration::from_millis(100);
/// A read that waits looks around this often (the time that a lost connection may go unnoticed).
const LONGEST_BLOCK: Duration = Duration::from_secs(5);
/// In a group of one connection there is one consumer.
const CONSUMER: &str = "reader";

/// How far each inbox of this process was read.
#[derive(Debug, Default)]
pub(super) struct Positions(Mutex<HashMap<String, Arc<tokio::sync::Mutex<Position>>>>);

/// How far one inbox was read.
struct Position {
    last: String,
    /// Since when entries up to `last` may lie in Redis although they were read.
    untrimmed: Option<Instant>,
    /// They are being trimmed.
    trimming: Option<BoxFuture<'static, ()>>,
    /// The connection broke since: another Redis may answer, which counts its entries anew.
    unsure: bool,
    /// The reads that wait.
    line: Option<Line>,
    /// The group of the latest line, which goes when the next one begins.
    group: Option<String>,
}

/// Reads of an inbox that wait.
struct Line {
    reads: Reads,
    read: Arc<Cmd>,
}

impl std::fmt::Debug for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Position")
            .field("last", &self.last)
            .field("unsure", &self.unsure)
            .finish_non_exhaustive()
    }
}

impl Position {
    fn new() -> Self {
        Self { last: "0-0".into(), untrimmed: None, trimming: None, unsure: false, line: None, group: None }
    }

    /// When what was read is to be trimmed.
    fn trim_at(&self) -> Option<Instant> {
        self.untrimmed.filter(|_| self.trimming.is_none()).map(|since| since + TRIM_AFTER)
    }
}

impl Positions {
    fn of(&self, inbox: &str) -> Arc<tokio::sync::Mutex<Position>> {
        let mut positions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(position) = positions.get(inbox) {
            return Arc::clone(position);
        }
        let position = Arc::new(tokio::sync::Mutex::new(Position::new()));
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

    /// Appends all parcels in one round trip. Where nobody has made the inbox yet, in another one.
    pub(super) async fn post(&self, action: &'static str, outgoing: Outgoing) -> Result<(), QueueError> {
        let parcels = outgoing.close();
        if parcels.is_empty() {
            return Ok(());
        }
        let mut pipeline = ::redis::pipe();
        for (inbox, parcel) in &parcels {
            self.append(&mut pipeline, inbox, parcel, true);
        }
        let added: Vec<Option<String>> = self.inner.link.pipeline(action, &pipeline).await?;
        let absent: Vec<_> = parcels.iter().zip(added).filter(|(_, added)| added.is_none()).collect();
        if absent.is_empty() {
            return Ok(());
        }
        let mut pipeline = ::redis::pipe();
        for ((inbox, parcel), _) in absent {
            self.append(&mut pipeline, inbox, parcel, false);
            pipeline.cmd("PEXPIRE").arg(inbox).arg(self.inbox_ttl_ms());
        }
        self.inner.link.pipeline::<Vec<::redis::Value>>(action, &pipeline).await.map(drop)
    }

    /// A reader's signs of life keep its inbox; one that does not exist would live for ever if it were made without a
    /// time to live.
    fn append(&self, pipeline: &mut ::redis::Pipeline, inbox: &str, parcel: &[u8], only_to_existing: bool) {
        let add = pipeline.cmd("XADD").arg(inbox);
        if only_to_existing {
            add.arg("NOMKSTREAM");
        }
        add.arg("MAXLEN").arg("~").arg(self.inner.limits.inbox_entries).arg("*").arg("m").arg(parcel);
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
            match self.read_once(inbox, &mut position, deadline).await {
                Ok(messages) if !messages.is_empty() || Instant::now() >= deadline => return Ok(messages),
                Ok(_) => {}
                Err(error) => {
                    position.line = None;
                    position.unsure = true;
                    if !self.inner.link.wait_for_next_try(deadline).await {
                        return Err(self.inner.link.failure(action, error));
                    }
                }
            }
        }
    }

    /// The answer to the first read that waits; nothing at the deadline. What was read meanwhile is trimmed beside it.
    async fn read_once<T: DeserializeOwned>(
        &self,
        inbox: &str,
        position: &mut Position,
        deadline: Instant,
    ) -> Result<Vec<T>, ::redis::RedisError> {
        if position.unsure {
            self.make_sure(inbox, position).await?;
        }
        if position.line.is_none() {
            position.line = Some(self.line_up(inbox, position).await?);
        }
        let answer = loop {
            let trim_at = position.trim_at();
            if trim_at.is_some_and(|at| at <= Instant::now()) {
                self.trim(inbox, position);
            }
            let Some(line) = position.line.as_mut() else { return Ok(Vec::new()) };
            let until = trim_at.unwrap_or(deadline).min(deadline);
            tokio::select! {
                biased;
                answer = line.reads.next(until) => match answer {
                    Some(answer) => break answer,
                    None if until < deadline => {}
                    None => {
                        // Whoever waits so briefly may not come again soon.
                        if position.untrimmed.is_some() {
                            self.trim(inbox, position);
                            if let Some(trimming) = position.trimming.take() {
                                trimming.await;
                            }
                        }
                        return Ok(Vec::new());
                    }
                },
                () = done(&mut position.trimming) => position.trimming = None,
            }
        };
        let Some(line) = position.line.as_mut() else { return Ok(Vec::new()) };
        let node = line.reads.node();
        self.inner.link.heed(&node, &answer).await;
        let answer = answer?;
        if line.reads.len() <= READS / 2 {
            line.reads.ask(&line.read, READS - line.reads.len());
        }
        Ok(position.take(inbox, answer))
    }

    /// Lets reads wait from where the reader stands on.
    async fn line_up(&self, inbox: &str, position: &mut Position) -> Result<Line, ::redis::RedisError> {
        let mut reads = self.inner.link.reads(LONGEST_BLOCK).await?;
        let group = uuid::Uuid::now_v7().simple().to_string();
        let mut pipeline = ::redis::pipe();
        pipeline.cmd("XGROUP").arg("CREATE").arg(inbox).arg(&group).arg(&position.last).arg("MKSTREAM");
        pipeline.cmd("PEXPIRE").arg(inbox).arg(self.inbox_ttl_ms());
        if let Some(former) = &position.group {
            pipeline.cmd("XGROUP").arg("DESTROY").arg(inbox).arg(former);
        }
        let prepared = reads.prepare(&pipeline).await;
        let node = reads.node();
        self.inner.link.heed(&node, &prepared).await;
        prepared?;
        let mut read = ::redis::cmd("XREADGROUP");
        read.arg("GROUP").arg(&group).arg(CONSUMER).arg("COUNT").arg(PARCELS_A_READ);
        read.arg("BLOCK").arg(millis(LONGEST_BLOCK)).arg("NOACK").arg("STREAMS").arg(inbox).arg(">");
        let read = Arc::new(read);
        position.group = Some(group);
        reads.ask(&read, READS);
        Ok(Line { reads, read })
    }

    /// Begins to trim what was read, if nobody does already.
    fn trim(&self, inbox: &str, position: &mut Position) {
        if position.trimming.is_some() {
            return;
        }
        position.untrimmed = None;
        let mut trim = ::redis::cmd("XTRIM");
        trim.arg(inbox).arg("MINID").arg(after(&position.last));
        let queue = self.clone();
        position.trimming = Some(
            async move {
                // Where that fails, the next one trims as well.
                drop(queue.inner.link.command::<::redis::Value>("trim an inbox", &trim).await);
            }
            .boxed(),
        );
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

impl Position {
    /// The messages of an answer.
    fn take<T: DeserializeOwned>(&mut self, inbox: &str, answer: ::redis::Value) -> Vec<T> {
        let mut messages = Vec::new();
        for mut entry in reply::read_entries(answer) {
            self.untrimmed.get_or_insert_with(Instant::now);
            match codec::unpack::<T>(&entry.take("m").unwrap_or_default()) {
                Ok(parcel) => {
                    if parcel.skipped > 0 {
                        tracing::warn!(inbox, skipped = parcel.skipped, "messages of unknown kinds skipped");
                    }
                    messages.extend(parcel.messages);
                }
                Err(error) => tracing::warn!(inbox, entry = entry.id, %error, "unreadable parcel skipped"),
            }
            self.last = entry.id;
        }
        messages
    }
}

/// The end of what is being done; never, where nothing is.
async fn done(work: &mut Option<BoxFuture<'static, ()>>) {
    match work {
        Some(work) => work.await,
        None => std::future::pending().await,
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
