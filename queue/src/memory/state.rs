//! Everything the memory queue knows, and the steps on batch jobs and inboxes. Pure: time comes in as Unix
//! milliseconds; waiting and locking are the caller's.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use super::line::{EntryId, Line};
use crate::ids::{GatewayId, JobId, SessionId, WorkerId};
use crate::job::{BatchJob, BatchReply, WorkErrorKind};
use crate::observe::ComponentSight;
use crate::port::{ClaimedJob, Depth, GatewayRecord, Held, Lost, QueueError, QueueLimits, WorkerRecord};
use crate::session::{SessionState, ToGateway, ToWorker};
use crate::verdict::{self, DONE_TTL, DeadLetter, GATEWAY_LEASES, INBOX_LEASES, RECEIVE_MAX};

/// A session and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Live {
    pub(super) state: SessionState,
    /// Its entry in the line; `None` while parked (its gateway is gone).
    pub(super) entry: Option<EntryId>,
    pub(super) expires_at_ms: u64,
}

/// Messages for one reader, in order.
#[derive(Debug)]
struct Inbox<M> {
    messages: VecDeque<M>,
    expires_at_ms: u64,
}

/// All state of one deployment.
#[derive(Debug)]
pub(super) struct State {
    pub(super) limits: QueueLimits,
    pub(super) jobs: Line<BatchJob>,
    job_entries: HashMap<JobId, EntryId>,
    audio: HashMap<JobId, (Bytes, u64)>,
    /// Jobs that are over, and until when that is remembered.
    done: HashMap<JobId, u64>,
    pub(super) line: Line<SessionId>,
    pub(super) sessions: HashMap<SessionId, Live>,
    gateways: HashMap<GatewayId, u64>,
    workers: HashMap<WorkerId, (WorkerRecord, u64)>,
    gateway_records: HashMap<GatewayId, (GatewayRecord, u64)>,
    /// Counts changes of registrations.
    registered: u64,
    to_gateways: HashMap<GatewayId, Inbox<ToGateway>>,
    to_workers: HashMap<WorkerId, Inbox<ToWorker>>,
    pub(super) dead: VecDeque<DeadLetter>,
    /// Counts what others may wait for: messages delivered.
    pub(super) moves: u64,
    swept_at_ms: u64,
}

impl State {
    pub(super) fn new(limits: QueueLimits) -> Self {
        let lease_ms = limits.lease.as_millis() as u64;
        Self {
            limits,
            jobs: Line::new(lease_ms),
            job_entries: HashMap::new(),
            audio: HashMap::new(),
            done: HashMap::new(),
            line: Line::new(lease_ms),
            sessions: HashMap::new(),
            gateways: HashMap::new(),
            workers: HashMap::new(),
            gateway_records: HashMap::new(),
            registered: 0,
            to_gateways: HashMap::new(),
            to_workers: HashMap::new(),
            dead: VecDeque::new(),
            moves: 0,
            swept_at_ms: 0,
        }
    }

    /// Drops what outlived its TTL; called before every step.
    pub(super) fn sweep(&mut self, now_ms: u64) {
        if std::mem::replace(&mut self.swept_at_ms, now_ms) == now_ms {
            return;
        }
        self.audio.retain(|_, (_, until)| *until > now_ms);
        self.done.retain(|_, until| *until > now_ms);
        self.gateways.retain(|_, until| *until > now_ms);
        self.workers.retain(|_, (_, until)| *until > now_ms);
        self.gateway_records.retain(|_, (_, until)| *until > now_ms);
        self.to_gateways.retain(|_, inbox| inbox.expires_at_ms > now_ms);
        self.to_workers.retain(|_, inbox| inbox.expires_at_ms > now_ms);
        self.jobs.forget_unclaimed_before(now_ms.saturating_sub(millis(self.limits.batch_ttl)));
        self.line.forget_unclaimed_before(now_ms.saturating_sub(millis(self.limits.session_ttl)));
        let jobs = &self.jobs;
        self.job_entries.retain(|_, entry| jobs.contains(*entry));
        let line = &mut self.line;
        self.sessions.retain(|_, live| {
            let lives = live.expires_at_ms > now_ms;
            if let Some(entry) = live.entry.filter(|_| !lives) {
                line.remove(entry);
            }
            lives
        });
    }

    pub(super) fn submit(&mut self, job: &BatchJob, audio: Bytes, now_ms: u64) -> Result<(), QueueError> {
        if self.job_entries.contains_key(&job.id) || self.done.contains_key(&job.id) {
            return Ok(());
        }
        let (waiting, _) = self.jobs.waiting(now_ms);
        if waiting >= self.limits.max_batch_depth {
            return Err(QueueError::Full { waiting, limit: self.limits.max_batch_depth });
        }
        self.gateway_lives(&job.gateway, now_ms);
        self.audio.insert(job.id.clone(), (audio, now_ms + millis(self.limits.batch_ttl)));
        let entry = self.jobs.push(job.clone(), 0, now_ms);
        self.job_entries.insert(job.id.clone(), entry);
        Ok(())
    }

    pub(super) fn cancel(&mut self, job: &JobId, now_ms: u64) {
        let entry = self.job_entries.remove(job).and_then(|id| self.jobs.remove(id));
        if entry.is_some() {
            self.done.insert(job.clone(), now_ms + millis(DONE_TTL));
        }
        self.audio.remove(job);
        if let Some(worker) = entry.as_ref().and_then(|e| e.holder()) {
            self.tell_worker(worker, ToWorker::CancelBatch { job: job.clone() }, now_ms);
        }
    }

    pub(super) fn claim_jobs(&mut self, worker: &WorkerId, max: usize, now_ms: u64) -> Vec<ClaimedJob> {
        let mut claimed = Vec::new();
        while claimed.len() < max {
            let Some(taken) = self.jobs.take(worker, now_ms) else { break };
            let Some(error) = verdict::judge(&taken.work, taken.attempt, now_ms, &self.limits) else {
                claimed.push(ClaimedJob {
                    job: taken.work,
                    attempt: taken.attempt,
                    claim: taken.id.to_string(),
                });
                continue;
            };
            if error.kind == WorkErrorKind::AttemptsExhausted {
                self.bury(taken.work.id.as_str(), taken.attempt - 1, taken.from.as_ref(), now_ms);
            }
            let reply = verdict::refusal(&taken.work, error, now_ms);
            self.answer(taken.id, &taken.work, reply, now_ms);
        }
        claimed
    }

    pub(super) fn audio(&self, job: &JobId) -> Option<Bytes> {
        self.audio.get(job).map(|(audio, _)| audio.clone())
    }

    pub(super) fn complete(&mut self, worker: &WorkerId, job: &ClaimedJob, reply: BatchReply, now_ms: u64) {
        let entry = parse(&job.claim);
        if self.jobs.held(entry, worker).is_some() {
            self.answer(entry, &job.job, reply, now_ms);
        }
    }

    pub(super) fn release_job(&mut self, worker: &WorkerId, job: &ClaimedJob, now_ms: u64) {
        let entry = parse(&job.claim);
        if self.jobs.held(entry, worker).is_none() {
            return;
        }
        if let Some(old) = self.jobs.remove(entry) {
            let again = self.jobs.push(old.work, old.attempts, now_ms);
            self.job_entries.insert(job.job.id.clone(), again);
        }
    }

    pub(super) fn heartbeat(&mut self, record: &WorkerRecord, held: &Held, now_ms: u64) -> Lost {
        let lease = millis(self.limits.lease);
        let before = self.workers.insert(record.id.clone(), (record.clone(), now_ms + lease));
        self.registered += u64::from(before.is_none_or(|(before, _)| before != *record));
        let keep = millis(self.limits.lease * INBOX_LEASES);
        if let Some(inbox) = self.to_workers.get_mut(&record.id) {
            inbox.expires_at_ms = now_ms + keep;
        }
        let mut lost = Lost::default();
        for claim in &held.jobs {
            if !self.jobs.renew(parse(claim), &record.id, now_ms) {
                lost.jobs.push(claim.clone());
            }
        }
        for claim in &held.sessions {
            if self.line.renew(parse(claim), &record.id, now_ms) {
                self.keep_session(parse(claim), now_ms);
            } else {
                lost.sessions.push(claim.clone());
            }
        }
        lost
    }

    pub(super) fn unregister(&mut self, worker: &WorkerId) {
        self.registered += u64::from(self.workers.remove(worker).is_some());
        self.to_workers.remove(worker);
    }

    pub(super) fn workers(&self) -> Vec<WorkerRecord> {
        let mut records: Vec<_> = self.workers.values().map(|(record, _)| record.clone()).collect();
        records.sort_by(|a, b| a.id.cmp(&b.id));
        records
    }

    pub(super) fn heartbeat_gateway(&mut self, record: &GatewayRecord, now_ms: u64) {
        self.gateway_lives(&record.id, now_ms);
        let until = now_ms + millis(self.limits.lease * GATEWAY_LEASES);
        let before = self.gateway_records.insert(record.id.clone(), (record.clone(), until));
        self.registered += u64::from(before.is_none_or(|(before, _)| before != *record));
    }

    /// Work that was queued and registrations that changed, ever.
    pub(super) fn changes(&self) -> u64 {
        self.jobs.pushed() + self.line.pushed() + self.registered
    }

    pub(super) fn sight(&self, now_ms: u64) -> ComponentSight {
        let mut gateways: Vec<_> = self.gateway_records.values().map(|(record, _)| record.clone()).collect();
        gateways.sort_by(|a, b| a.id.cmp(&b.id));
        ComponentSight {
            component: "asr",
            depth: self.depth(now_ms),
            held_jobs: self.jobs.held_entries(now_ms),
            held_sessions: self.line.held_entries(now_ms),
            workers: self.workers(),
            gateways,
        }
    }

    pub(super) fn gateway_lives(&mut self, gateway: &GatewayId, now_ms: u64) {
        self.gateways.insert(gateway.clone(), now_ms + millis(self.limits.lease * GATEWAY_LEASES));
        let keep = millis(self.limits.lease * INBOX_LEASES);
        if let Some(inbox) = self.to_gateways.get_mut(gateway) {
            inbox.expires_at_ms = now_ms + keep;
        }
    }

    pub(super) fn gateway_alive(&self, gateway: &GatewayId) -> bool {
        self.gateways.contains_key(gateway)
    }

    pub(super) fn depth(&self, now_ms: u64) -> Depth {
        let age = |since: Option<u64>| since.map_or(0, |at| now_ms.saturating_sub(at));
        let (batch, batch_oldest) = self.jobs.waiting(now_ms);
        let (sessions, session_oldest) = self.line.waiting(now_ms);
        Depth { batch, sessions, batch_oldest_ms: age(batch_oldest), session_oldest_ms: age(session_oldest) }
    }

    pub(super) fn tell_gateway(&mut self, gateway: &GatewayId, message: ToGateway, now_ms: u64) {
        self.moves += 1;
        let expires_at_ms = now_ms + millis(self.limits.lease * INBOX_LEASES);
        deliver(&mut self.to_gateways, gateway, message, (expires_at_ms, self.limits.inbox_entries));
    }

    pub(super) fn tell_worker(&mut self, worker: &WorkerId, message: ToWorker, now_ms: u64) {
        self.moves += 1;
        let expires_at_ms = now_ms + millis(self.limits.lease * INBOX_LEASES);
        deliver(&mut self.to_workers, worker, message, (expires_at_ms, self.limits.inbox_entries));
    }

    pub(super) fn read_gateway(&mut self, gateway: &GatewayId) -> Vec<ToGateway> {
        self.to_gateways.get_mut(gateway).map(Inbox::drain).unwrap_or_default()
    }

    pub(super) fn read_worker(&mut self, worker: &WorkerId) -> Vec<ToWorker> {
        self.to_workers.get_mut(worker).map(Inbox::drain).unwrap_or_default()
    }

    pub(super) fn bury(&mut self, work: &str, attempts: u32, last: Option<&WorkerId>, now_ms: u64) {
        if self.dead.len() as u64 >= self.limits.dead_letters {
            self.dead.pop_front();
        }
        let last_worker = last.map(ToString::to_string).unwrap_or_default();
        self.dead.push_back(DeadLetter { work: work.to_owned(), attempts, last_worker, at_ms: now_ms });
    }

    fn answer(&mut self, entry: EntryId, job: &BatchJob, reply: BatchReply, now_ms: u64) {
        self.jobs.remove(entry);
        self.job_entries.remove(&job.id);
        self.audio.remove(&job.id);
        self.done.insert(job.id.clone(), now_ms + millis(DONE_TTL));
        self.tell_gateway(&job.gateway, ToGateway::Batch(reply), now_ms);
    }
}

impl<M> Inbox<M> {
    fn drain(&mut self) -> Vec<M> {
        let some = self.messages.len().min(RECEIVE_MAX);
        self.messages.drain(..some).collect()
    }
}

fn deliver<K: Clone + Eq + std::hash::Hash, M>(
    inboxes: &mut HashMap<K, Inbox<M>>,
    reader: &K,
    message: M,
    (expires_at_ms, entries): (u64, u64),
) {
    let inbox =
        inboxes.entry(reader.clone()).or_insert_with(|| Inbox { messages: VecDeque::new(), expires_at_ms });
    inbox.expires_at_ms = expires_at_ms;
    if inbox.messages.len() as u64 >= entries {
        inbox.messages.pop_front();
    }
    inbox.messages.push_back(message);
}

/// The entry a claim names; a claim that is not ours names entry 0, which never exists.
pub(super) fn parse(claim: &str) -> EntryId {
    claim.parse().unwrap_or(0)
}

pub(super) fn millis(duration: Duration) -> u64 {
    duration.as_millis() as u64
}
