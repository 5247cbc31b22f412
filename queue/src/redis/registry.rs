//! Who is there and how much waits: heartbeats, registrations, depth.

use super::claims::{Line, millis};
use super::sessions::{entry_of, session_of};
use super::{RedisQueue, reply, scripts};
use crate::codec;
use crate::ids::{GatewayId, WorkerId};
use crate::port::{Depth, GatewayRecord, Held, Lost, QueueError, WorkerRecord};
use crate::verdict::{DeadLetter, GATEWAY_LEASES};

/// Claims that one script renews: a tenth of a millisecond of Redis's time.
const CLAIMS_A_SCRIPT: usize = 16;

impl RedisQueue {
    /// Renews registration and claims, some of them at a time: while a script runs, Redis does nothing else, and audio
    /// waits.
    pub(super) async fn beat(&self, record: &WorkerRecord, held: &Held) -> Result<Lost, QueueError> {
        // A claim that is not ours is lost; it must not shift the others.
        let (sessions, foreign): (Vec<_>, Vec<_>) =
            held.sessions.iter().partition(|claim| session_of(claim).is_some());
        let mut lost = Lost { jobs: Vec::new(), sessions: foreign.into_iter().cloned().collect() };
        let mut parts: Vec<(&[String], &[&String])> = Vec::new();
        parts.extend(held.jobs.chunks(CLAIMS_A_SCRIPT).map(|jobs| (jobs, [].as_slice())));
        parts.extend(sessions.chunks(CLAIMS_A_SCRIPT).map(|sessions| ([].as_slice(), sessions)));
        if parts.is_empty() {
            parts.push((&[], &[]));
        }
        for (jobs, sessions) in parts {
            let still = self.renew(record, jobs, sessions).await?;
            let (jobs_still, sessions_still) = still.split_at(jobs.len().min(still.len()));
            lost.jobs.extend(not_held(jobs.iter(), jobs_still));
            lost.sessions.extend(not_held(sessions.iter().copied(), sessions_still));
        }
        Ok(lost)
    }

    /// Runs the script `heartbeat`; says of each claim, jobs first, whether it is still held.
    async fn renew(
        &self,
        record: &WorkerRecord,
        jobs: &[String],
        sessions: &[&String],
    ) -> Result<Vec<bool>, QueueError> {
        let (keys, limits) = (&self.inner.keys, &self.inner.limits);
        let mut call = scripts::HEARTBEAT.prepare_invoke();
        call.key(keys.jobs()).key(keys.sessions()).key(keys.worker(&record.id)).key(keys.workers());
        call.key(keys.to_worker(&record.id)).key(keys.changes());
        call.arg(record.id.as_str()).arg(codec::encode(record)).arg(millis(limits.lease));
        call.arg(self.inbox_ttl_ms()).arg(millis(limits.batch_ttl)).arg(millis(limits.session_ttl));
        call.arg(jobs.len());
        for claim in jobs {
            call.arg(claim);
        }
        for claim in sessions {
            call.arg(entry_of(claim));
            if let Some(session) = session_of(claim) {
                call.key(keys.session(&session));
            }
        }
        self.inner.link.script("send a heartbeat", &call).await
    }

    pub(super) async fn remove(&self, worker: &WorkerId) -> Result<(), QueueError> {
        let keys = &self.inner.keys;
        let inbox = keys.to_worker(worker);
        let mut call = scripts::UNREGISTER.prepare_invoke();
        call.key(keys.jobs()).key(keys.sessions()).key(keys.worker(worker)).key(keys.workers()).key(&inbox);
        call.key(keys.changes()).arg(worker.as_str()).arg(self.inbox_ttl_ms());
        self.inner.link.script::<()>("unregister a worker", &call).await?;
        self.inner.positions.forget(&inbox);
        self.lock_reclaimed().retain(|(_, of), _| of != worker);
        Ok(())
    }

    pub(super) async fn list_workers(&self) -> Result<Vec<WorkerRecord>, QueueError> {
        let action = "list workers";
        let keys = &self.inner.keys;
        let all = ::redis::Cmd::zrange(keys.workers(), 0, -1);
        let ids: Vec<String> = self.inner.link.command(action, &all).await?;
        let ids: Vec<WorkerId> = ids.iter().filter_map(|id| id.parse().ok()).collect();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut get = ::redis::cmd("MGET");
        for id in &ids {
            get.arg(keys.worker(id));
        }
        // A registration that ran out is nil.
        let found: Vec<Option<Vec<u8>>> = self.inner.link.command(action, &get).await?;
        let mut records: Vec<WorkerRecord> =
            found.into_iter().flatten().filter_map(|record| codec::decode(&record).ok()).collect();
        records.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(records)
    }

    pub(super) async fn beat_gateway(&self, record: &GatewayRecord) -> Result<(), QueueError> {
        let id = &record.id;
        for keys in self.registries() {
            let mut call = scripts::HEARTBEAT_GATEWAY.prepare_invoke();
            call.key(keys.gateway(id)).key(keys.to_gateway(id)).key(keys.gateway_record(id));
            call.key(keys.gateways()).key(keys.changes()).arg(id.as_str()).arg(codec::encode(record));
            call.arg(millis(self.inner.limits.lease * GATEWAY_LEASES)).arg(self.inbox_ttl_ms());
            self.inner.link.script::<()>("send a gateway's heartbeat", &call).await?;
        }
        Ok(())
    }

    /// A sign of life without a registration: reading is one.
    pub(super) async fn keep_gateway(&self, gateway: &GatewayId) -> Result<(), QueueError> {
        let mut pipeline = ::redis::pipe();
        let alive = millis(self.inner.limits.lease * GATEWAY_LEASES);
        for keys in self.registries() {
            pipeline.cmd("SET").arg(keys.gateway(gateway)).arg("1").arg("PX").arg(alive).ignore();
            pipeline.cmd("PEXPIRE").arg(keys.to_gateway(gateway)).arg(self.inbox_ttl_ms()).ignore();
        }
        self.inner.link.pipeline("keep a gateway's inbox", &pipeline).await
    }

    pub(super) async fn read_depth(&self) -> Result<Depth, QueueError> {
        let (keys, limits) = (&self.inner.keys, &self.inner.limits);
        let mut call = scripts::DEPTH.prepare_invoke();
        call.key(keys.jobs()).key(keys.sessions()).arg(millis(limits.lease));
        call.arg(millis(limits.batch_ttl)).arg(millis(limits.session_ttl));
        let (batch, sessions, batch_oldest_ms, session_oldest_ms): (u64, u64, u64, u64) =
            self.inner.link.script("read the queue's depth", &call).await?;
        Ok(Depth { batch, sessions, batch_oldest_ms, session_oldest_ms })
    }

    pub(super) async fn read_dead_letters(&self) -> Result<Vec<DeadLetter>, QueueError> {
        let mut range = ::redis::cmd("XRANGE");
        range.arg(self.inner.keys.dead()).arg("-").arg("+");
        let rows = self.inner.link.command("read the dead letters", &range).await?;
        let letters = reply::entries(rows).into_iter().filter_map(|mut entry| entry.take("letter"));
        Ok(letters.filter_map(|letter| codec::decode(&letter).ok()).collect())
    }

    pub(super) async fn exists(&self, action: &'static str, key: &str) -> Result<bool, QueueError> {
        self.inner.link.command(action, &::redis::Cmd::exists(key)).await
    }

    /// Drops an entry that stands for nothing any more.
    pub(super) async fn discard(&self, line: Line, worker: &WorkerId, entry: &str) -> Result<(), QueueError> {
        let mut call = scripts::DISCARD.prepare_invoke();
        call.key(self.stream(line)).arg(worker.as_str()).arg(entry);
        self.inner.link.script("drop an entry", &call).await
    }
}

fn not_held<'a>(claims: impl Iterator<Item = &'a String>, still: &[bool]) -> Vec<String> {
    let mut still = still.iter();
    claims.filter(|_| still.next() != Some(&true)).cloned().collect()
}
