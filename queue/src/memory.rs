//! The queue in memory: all ports without Redis, for tests and as the proof that the contract can be kept.
//!
//! The steps are pure (`state` and `sessions`, on `line`); this file adds the lock, the clock and the
//! waiting. The clock is tokio's, so a test may pause and advance it.

mod line;
mod sessions;
mod state;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::Instant;

use self::state::State;
use crate::ids::{GatewayId, JobId, SessionId, WorkerId};
use crate::job::{BatchJob, BatchReply};
use crate::observe::{Mark, ObserverPort, Sight};
use crate::port::{
    ClaimedJob, ClaimedSession, Depth, GatewayPort, GatewayRecord, Held, Lost, QueueError, QueueLimits,
    SessionEnd, WorkerPort, WorkerRecord,
};
use crate::session::{Segment, Session, SessionState, ToGateway, ToWorker};
use crate::verdict::DeadLetter;

/// The queue of one deployment, in this process. Clones share it.
#[derive(Debug, Clone)]
pub struct MemoryQueue {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Told after every step; whoever waits looks again.
    changed: Notify,
    started: Instant,
    started_at_ms: u64,
}

impl MemoryQueue {
    /// An empty queue with these bounds.
    pub fn new(limits: QueueLimits) -> Self {
        let started_at_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let shared = Shared {
            state: Mutex::new(State::new(limits)),
            changed: Notify::new(),
            started: Instant::now(),
            started_at_ms: started_at_ms as u64,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Now in Unix milliseconds by the clock that this queue goes by (tokio's, which tests may pause).
    pub fn now_ms(&self) -> u64 {
        self.shared.started_at_ms + self.shared.started.elapsed().as_millis() as u64
    }

    /// The dead letters, oldest first.
    #[expect(clippy::unused_async, reason = "the same signature as the Redis queue's")]
    pub async fn dead_letters(&self) -> Result<Vec<DeadLetter>, QueueError> {
        Ok(self.lock().0.dead.iter().cloned().collect())
    }

    fn lock(&self) -> (MutexGuard<'_, State>, u64) {
        let now_ms = self.now_ms();
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.sweep(now_ms);
        (state, now_ms)
    }

    /// One step that others may wait for.
    fn step<T>(&self, step: impl FnOnce(&mut State, u64) -> T) -> T {
        let (mut state, now_ms) = self.lock();
        let result = step(&mut state, now_ms);
        drop(state);
        self.shared.changed.notify_waiters();
        result
    }

    /// Repeats a step until it gives something or the wait runs out; looks again after every change and
    /// whenever a claim may have lapsed.
    async fn until_some<T>(&self, wait: Duration, step: impl Fn(&mut State, u64) -> Vec<T>) -> Vec<T> {
        let deadline = Instant::now() + wait;
        loop {
            let changed = self.shared.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let (found, lapse, now_ms, moved) = {
                let (mut state, now_ms) = self.lock();
                let before = state.moves;
                let found = step(&mut state, now_ms);
                let lapses = [state.jobs.next_lapse_ms(), state.line.next_lapse_ms()];
                (found, lapses.into_iter().flatten().min(), now_ms, state.moves != before)
            };
            if moved {
                self.shared.changed.notify_waiters();
            }
            if !found.is_empty() || Instant::now() >= deadline {
                return found;
            }
            if moved {
                // That was our own doing (such as a refused job's reply): `changed` is spent, start over.
                continue;
            }
            let lapse = lapse.filter(|at| *at > now_ms).map(|at| Duration::from_millis(at - now_ms));
            let until = lapse.map_or(deadline, |after| deadline.min(Instant::now() + after));
            // Running out is as good as being told: the loop looks at the state and at the deadline.
            let _ = tokio::time::timeout_at(until, changed).await;
        }
    }
}

#[async_trait]
impl GatewayPort for MemoryQueue {
    async fn submit(&self, job: &BatchJob, audio: Bytes) -> Result<(), QueueError> {
        self.step(|state, now| state.submit(job, audio, now))
    }

    async fn cancel(&self, job: &JobId) -> Result<(), QueueError> {
        self.step(|state, now| state.cancel(job, now));
        Ok(())
    }

    async fn open_session(&self, session: &Session) -> Result<(), QueueError> {
        self.step(|state, now| state.open_session(session, now))
    }

    async fn cancel_session(&self, session: &SessionId) -> Result<(), QueueError> {
        self.step(|state, now| state.cancel_session(session, now));
        Ok(())
    }

    async fn session(&self, session: &SessionId) -> Result<Option<SessionState>, QueueError> {
        Ok(self.lock().0.sessions.get(session).map(|live| live.state.clone()))
    }

    async fn adopt_session(
        &self,
        session: &SessionId,
        gateway: &GatewayId,
    ) -> Result<Option<SessionState>, QueueError> {
        Ok(self.step(|state, now| state.adopt_session(session, gateway, now)))
    }

    async fn send(&self, worker: &WorkerId, messages: &[ToWorker]) -> Result<(), QueueError> {
        self.step(|state, now| {
            for message in messages {
                state.tell_worker(worker, message.clone(), now);
            }
        });
        Ok(())
    }

    async fn receive(&self, gateway: &GatewayId, wait: Duration) -> Result<Vec<ToGateway>, QueueError> {
        let found = self.until_some(wait, |state, now| {
            state.gateway_lives(gateway, now);
            state.read_gateway(gateway)
        });
        Ok(found.await)
    }

    async fn depth(&self) -> Result<Depth, QueueError> {
        let (state, now) = self.lock();
        Ok(state.depth(now))
    }

    async fn workers(&self) -> Result<Vec<WorkerRecord>, QueueError> {
        Ok(self.lock().0.workers())
    }

    async fn heartbeat_gateway(&self, record: &GatewayRecord) -> Result<(), QueueError> {
        self.step(|state, now| state.heartbeat_gateway(record, now));
        Ok(())
    }
}

#[async_trait]
impl ObserverPort for MemoryQueue {
    async fn observe(&self) -> Result<Sight, QueueError> {
        let (state, now) = self.lock();
        let mark = Mark(vec![state.changes().to_string()]);
        Ok(Sight { components: vec![state.sight(now)], mark })
    }

    async fn changed(&self, since: &Mark, wait: Duration) -> Result<bool, QueueError> {
        let seen = since.0.first().and_then(|count| count.parse::<u64>().ok());
        let newer = |state: &mut State, _| Vec::from_iter((seen != Some(state.changes())).then_some(()));
        Ok(!self.until_some(wait, newer).await.is_empty())
    }
}

#[async_trait]
impl WorkerPort for MemoryQueue {
    async fn claim_jobs(
        &self,
        worker: &WorkerId,
        max: usize,
        wait: Duration,
    ) -> Result<Vec<ClaimedJob>, QueueError> {
        Ok(self.until_some(wait, |state, now| state.claim_jobs(worker, max, now)).await)
    }

    async fn audio(&self, job: &JobId) -> Result<Option<Bytes>, QueueError> {
        Ok(self.lock().0.audio(job))
    }

    async fn complete(
        &self,
        worker: &WorkerId,
        job: &ClaimedJob,
        reply: BatchReply,
    ) -> Result<(), QueueError> {
        self.step(|state, now| state.complete(worker, job, reply, now));
        Ok(())
    }

    async fn release_job(&self, worker: &WorkerId, job: &ClaimedJob) -> Result<(), QueueError> {
        self.step(|state, now| state.release_job(worker, job, now));
        Ok(())
    }

    async fn claim_sessions(
        &self,
        worker: &WorkerId,
        max: usize,
        wait: Duration,
    ) -> Result<Vec<ClaimedSession>, QueueError> {
        Ok(self.until_some(wait, |state, now| state.claim_sessions(worker, max, now)).await)
    }

    async fn receive(&self, worker: &WorkerId, wait: Duration) -> Result<Vec<ToWorker>, QueueError> {
        Ok(self.until_some(wait, |state, _| state.read_worker(worker)).await)
    }

    async fn publish(&self, events: &[(GatewayId, ToGateway)]) -> Result<(), QueueError> {
        self.step(|state, now| {
            for (gateway, event) in events {
                state.tell_gateway(gateway, event.clone(), now);
            }
        });
        Ok(())
    }

    async fn commit(
        &self,
        worker: &WorkerId,
        session: &ClaimedSession,
        segment: &Segment,
    ) -> Result<(), QueueError> {
        self.step(|state, now| state.commit(worker, session, segment, now))
    }

    async fn release_session(&self, worker: &WorkerId, session: &ClaimedSession) -> Result<(), QueueError> {
        self.step(|state, now| state.release_session(worker, session, now));
        Ok(())
    }

    async fn end_session(
        &self,
        worker: &WorkerId,
        session: &ClaimedSession,
        end: SessionEnd,
    ) -> Result<(), QueueError> {
        self.step(|state, now| state.end_session(worker, session, end, now));
        Ok(())
    }

    async fn heartbeat(&self, record: &WorkerRecord, held: &Held) -> Result<Lost, QueueError> {
        Ok(self.step(|state, now| state.heartbeat(record, held, now)))
    }

    async fn unregister(&self, worker: &WorkerId) -> Result<(), QueueError> {
        self.step(|state, _| state.unregister(worker));
        Ok(())
    }

    async fn gateway_alive(&self, gateway: &GatewayId) -> Result<bool, QueueError> {
        Ok(self.lock().0.gateway_alive(gateway))
    }

    async fn depth(&self) -> Result<Depth, QueueError> {
        GatewayPort::depth(self).await
    }
}
