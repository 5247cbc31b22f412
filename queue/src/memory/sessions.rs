//! The memory queue's steps on sessions. Pure: time comes in as Unix milliseconds.

use super::state::{Live, State, millis, parse};
use crate::ids::{GatewayId, SessionId, WorkerId};
use crate::port::{ClaimedSession, QueueError, SessionEnd};
use crate::session::{Segment, Session, SessionEvent, SessionState, ToGateway, ToWorker};
use crate::verdict;

impl State {
    pub(super) fn open_session(&mut self, session: &Session, now_ms: u64) -> Result<(), QueueError> {
        if self.sessions.contains_key(&session.id) {
            return Ok(());
        }
        let (waiting, _) = self.line.waiting(now_ms);
        if waiting >= self.limits.max_session_depth {
            return Err(QueueError::Full { waiting, limit: self.limits.max_session_depth });
        }
        self.gateway_lives(&session.gateway, now_ms);
        let entry = self.line.push(session.id.clone(), 0, now_ms);
        let state = SessionState {
            session: session.clone(),
            epoch: 0,
            worker: None,
            committed_samples: 0,
            committed_text: String::new(),
            segments: 0,
        };
        let expires_at_ms = now_ms + millis(self.limits.session_ttl);
        self.sessions.insert(session.id.clone(), Live { state, entry: Some(entry), expires_at_ms });
        Ok(())
    }

    pub(super) fn cancel_session(&mut self, session: &SessionId, now_ms: u64) {
        let Some(live) = self.sessions.remove(session) else { return };
        self.drop_claim(&live, now_ms);
    }

    pub(super) fn adopt_session(
        &mut self,
        session: &SessionId,
        gateway: &GatewayId,
        now_ms: u64,
    ) -> Option<SessionState> {
        let mut live = self.sessions.get(session)?.clone();
        let previous = std::mem::replace(&mut live.state.session.gateway, gateway.clone());
        if previous != *gateway {
            let event = SessionEvent::Failed(verdict::taken_over(session.as_str()));
            self.tell(&previous, &live.state, event, now_ms);
        }
        self.gateway_lives(gateway, now_ms);
        self.drop_claim(&live, now_ms);
        live.state.worker = None;
        live.entry = Some(self.line.push(session.clone(), 0, now_ms));
        live.expires_at_ms = now_ms + millis(self.limits.session_ttl);
        let state = live.state.clone();
        self.sessions.insert(session.clone(), live);
        Some(state)
    }

    pub(super) fn claim_sessions(
        &mut self,
        worker: &WorkerId,
        max: usize,
        now_ms: u64,
    ) -> Vec<ClaimedSession> {
        let mut claimed = Vec::new();
        while claimed.len() < max {
            let Some(taken) = self.line.take(worker, now_ms) else { break };
            let Some(live) = self.sessions.get(&taken.work).cloned().filter(|l| l.entry == Some(taken.id))
            else {
                self.line.remove(taken.id);
                continue;
            };
            let gateway = live.state.session.gateway.clone();
            if !self.gateway_alive(&gateway) {
                self.park(taken.id, &taken.work);
                continue;
            }
            if taken.attempt > self.limits.max_attempts {
                self.line.remove(taken.id);
                self.sessions.remove(&taken.work);
                self.bury(taken.work.as_str(), taken.attempt - 1, taken.from.as_ref(), now_ms);
                let error = verdict::exhausted(taken.work.as_str(), taken.attempt - 1);
                self.tell(&gateway, &live.state, SessionEvent::Failed(error), now_ms);
                continue;
            }
            let queue_ms = now_ms.saturating_sub(taken.queued_at_ms) as f32;
            let state = self.own(worker, live, now_ms);
            let resume_at_samples = state.committed_samples;
            let event = SessionEvent::Claimed { worker: worker.clone(), resume_at_samples, queue_ms };
            self.tell(&gateway, &state, event, now_ms);
            claimed.push(ClaimedSession { state, claim: taken.id.to_string() });
        }
        claimed
    }

    pub(super) fn commit(
        &mut self,
        worker: &WorkerId,
        session: &ClaimedSession,
        segment: &Segment,
        now_ms: u64,
    ) -> Result<(), QueueError> {
        let id = &session.state.session.id;
        let keep = now_ms + millis(self.limits.session_ttl);
        let lost = || QueueError::ClaimLost { work: id.to_string() };
        let entry = self.line.held(parse(&session.claim), worker).ok_or_else(lost)?;
        let live = self.sessions.get_mut(id).ok_or_else(lost)?;
        let state = &mut live.state;
        if segment.index < state.segments {
            return Ok(());
        }
        entry.attempts = 0;
        if !segment.text.is_empty() {
            if !state.committed_text.is_empty() {
                state.committed_text.push(' ');
            }
            state.committed_text.push_str(&segment.text);
        }
        state.segments = segment.index + 1;
        state.committed_samples = segment.committed_samples;
        live.expires_at_ms = keep;
        let state = state.clone();
        let gateway = state.session.gateway.clone();
        self.tell(&gateway, &state, SessionEvent::Final(segment.clone()), now_ms);
        Ok(())
    }

    pub(super) fn release_session(&mut self, worker: &WorkerId, session: &ClaimedSession, now_ms: u64) {
        let (id, entry) = (&session.state.session.id, parse(&session.claim));
        if self.line.held(entry, worker).is_none() {
            return;
        }
        // An orderly return is not the session's fault: it does not count as an attempt.
        let attempts = self.line.remove(entry).map_or(0, |e| e.attempts.saturating_sub(1));
        let again = self.line.push(id.clone(), attempts, now_ms);
        let keep = now_ms + millis(self.limits.session_ttl);
        let Some(live) = self.sessions.get_mut(id) else { return };
        live.entry = Some(again);
        live.state.worker = None;
        live.expires_at_ms = keep;
        let state = live.state.clone();
        let gateway = state.session.gateway.clone();
        self.tell(&gateway, &state, SessionEvent::Released, now_ms);
    }

    pub(super) fn end_session(
        &mut self,
        worker: &WorkerId,
        session: &ClaimedSession,
        end: SessionEnd,
        now_ms: u64,
    ) {
        let entry = parse(&session.claim);
        if self.line.held(entry, worker).is_none() {
            return;
        }
        self.line.remove(entry);
        let Some(live) = self.sessions.remove(&session.state.session.id) else { return };
        let event = match end {
            SessionEnd::Closed { audio_ms } => SessionEvent::Closed { audio_ms },
            SessionEnd::Failed(error) => SessionEvent::Failed(error),
            SessionEnd::Cancelled => return,
        };
        self.tell(&live.state.session.gateway.clone(), &live.state, event, now_ms);
    }

    pub(super) fn keep_session(&mut self, entry: u64, now_ms: u64) {
        let keep = now_ms + millis(self.limits.session_ttl);
        if let Some(live) = self.sessions.values_mut().find(|l| l.entry == Some(entry)) {
            live.expires_at_ms = keep;
        }
    }

    /// Records a new owner under the next epoch.
    fn own(&mut self, worker: &WorkerId, mut live: Live, now_ms: u64) -> SessionState {
        live.state.epoch += 1;
        live.state.worker = Some(worker.clone());
        live.expires_at_ms = now_ms + millis(self.limits.session_ttl);
        let state = live.state.clone();
        self.sessions.insert(state.session.id.clone(), live);
        state
    }

    /// Takes a session out of the line but keeps its state, so that its client can come back by id.
    fn park(&mut self, entry: u64, session: &SessionId) {
        self.line.remove(entry);
        if let Some(live) = self.sessions.get_mut(session) {
            live.entry = None;
            live.state.worker = None;
        }
    }

    /// Takes a session out of the line and tells the worker that holds it.
    fn drop_claim(&mut self, live: &Live, now_ms: u64) {
        let entry = live.entry.and_then(|id| self.line.remove(id));
        if let Some(worker) = entry.as_ref().and_then(|e| e.holder()) {
            let (session, epoch) = (live.state.session.id.clone(), live.state.epoch);
            self.tell_worker(worker, ToWorker::Cancel { session, epoch }, now_ms);
        }
    }

    fn tell(&mut self, gateway: &GatewayId, state: &SessionState, event: SessionEvent, now_ms: u64) {
        let (session, epoch) = (state.session.id.clone(), state.epoch);
        self.tell_gateway(gateway, ToGateway::Session { session, epoch, event }, now_ms);
    }
}
