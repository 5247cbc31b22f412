//! Sessions in Redis: open, claim, commit, release, end, adopt.
//!
//! A session is a state (a hash with a TTL) and, while it waits or is held, an entry in the line. Its state has a
//! revision: what was written for one revision is only stored if that is still the current one.

use std::collections::HashMap;

use futures::future::try_join_all;
use tokio::time::Instant;

use super::claims::{Claim, Line, millis};
use super::{RedisQueue, scripts};
use crate::codec;
use crate::ids::{GatewayId, SessionId, WorkerId};
use crate::port::{ClaimedSession, QueueError, SessionEnd};
use crate::session::{Epoch, Segment, Session, SessionEvent, SessionState, ToGateway};
use crate::verdict::{self, DEAD_LETTER_TTL, DeadLetter, GATEWAY_LEASES};

/// Repetitions when a state changed between reading and writing; each time somebody else got ahead.
const RACES: usize = 16;

/// A session's state as stored.
pub(super) struct Stored {
    pub(super) state: SessionState,
    revision: String,
    attempts: u32,
}

impl RedisQueue {
    pub(super) async fn open(&self, session: &Session) -> Result<(), QueueError> {
        let (keys, limits) = (&self.inner.keys, &self.inner.limits);
        let mut call = scripts::OPEN_SESSION.prepare_invoke();
        call.key(keys.sessions()).key(keys.session(&session.id)).key(keys.gateway(&session.gateway));
        call.arg(session.id.as_str()).arg(codec::encode(session)).arg(limits.max_session_depth);
        call.arg(millis(limits.lease)).arg(millis(limits.session_ttl));
        call.arg(millis(limits.lease * GATEWAY_LEASES));
        let (accepted, waiting): (bool, u64) = self.inner.link.script("open a session", &call).await?;
        if accepted { Ok(()) } else { Err(QueueError::Full { waiting, limit: limits.max_session_depth }) }
    }

    /// Forgets a session; says which worker held it under which epoch.
    pub(super) async fn drop_session(
        &self,
        session: &SessionId,
    ) -> Result<Option<(WorkerId, Epoch)>, QueueError> {
        let mut call = scripts::CANCEL_SESSION.prepare_invoke();
        call.key(self.inner.keys.sessions()).key(self.inner.keys.session(session));
        let (worker, epoch): (String, Epoch) = self.inner.link.script("cancel a session", &call).await?;
        Ok(worker.parse().ok().map(|worker| (worker, epoch)))
    }

    pub(super) async fn stored(&self, session: &SessionId) -> Result<Option<Stored>, QueueError> {
        let key = self.inner.keys.session(session);
        let get = ::redis::Cmd::hgetall(&key);
        let fields: HashMap<String, Vec<u8>> = self.inner.link.command("read a session", &get).await?;
        if fields.is_empty() {
            return Ok(None);
        }
        parse(&fields).map(Some).map_err(|detail| QueueError::Decode { key, detail })
    }

    /// Gives a session to a gateway; says also which worker held it.
    pub(super) async fn adopt(
        &self,
        session: &SessionId,
        gateway: &GatewayId,
    ) -> Result<Option<(SessionState, Option<WorkerId>)>, QueueError> {
        let (keys, limits) = (&self.inner.keys, &self.inner.limits);
        for _ in 0..RACES {
            let Some(Stored { mut state, revision, .. }) = self.stored(session).await? else {
                return Ok(None);
            };
            let former = std::mem::replace(&mut state.session.gateway, gateway.clone());
            let parcel = if former == *gateway {
                Vec::new()
            } else {
                event(&state, SessionEvent::Failed(verdict::taken_over(session.as_str())))
            };
            let mut call = scripts::ADOPT_SESSION.prepare_invoke();
            call.key(keys.sessions()).key(keys.session(session)).key(keys.gateway(gateway));
            call.key(keys.to_gateway(&former)).arg(session.as_str()).arg(revision);
            call.arg(codec::encode(&state.session)).arg(parcel).arg(millis(limits.session_ttl));
            call.arg(millis(limits.lease * GATEWAY_LEASES))
                .arg(limits.inbox_entries)
                .arg(self.inbox_ttl_ms());
            let (outcome, worker, epoch): (String, String, Epoch) =
                self.inner.link.script("adopt a session", &call).await?;
            match outcome.as_str() {
                "changed" => {}
                "gone" => return Ok(None),
                _ => {
                    state.worker = None;
                    state.epoch = epoch;
                    return Ok(Some((state, worker.parse().ok())));
                }
            }
        }
        Err(QueueError::ClaimLost { work: session.to_string() })
    }

    pub(super) async fn claim_live(
        &self,
        worker: &WorkerId,
        max: usize,
        deadline: Instant,
    ) -> Result<Vec<ClaimedSession>, QueueError> {
        loop {
            let claims = self.claim(Line::Sessions, worker, max, deadline).await?;
            // Together, so that they share round trips.
            let taken = try_join_all(claims.into_iter().map(|claim| self.take(worker, claim))).await?;
            let taken: Vec<_> = taken.into_iter().flatten().collect();
            if !taken.is_empty() || Instant::now() >= deadline {
                return Ok(taken);
            }
        }
    }

    pub(super) async fn commit_segment(
        &self,
        worker: &WorkerId,
        session: &ClaimedSession,
        segment: &Segment,
    ) -> Result<(), QueueError> {
        let (keys, state) = (&self.inner.keys, &session.state);
        let (entry, id) = (entry_of(&session.claim), &state.session.id);
        let mut call = scripts::COMMIT.prepare_invoke();
        call.key(keys.sessions()).key(keys.session(id)).key(keys.to_gateway(&state.session.gateway));
        call.arg(worker.as_str()).arg(entry).arg(segment.index).arg(segment.committed_samples);
        call.arg(&segment.text).arg(event(state, SessionEvent::Final(segment.clone())));
        call.arg(millis(self.inner.limits.session_ttl));
        call.arg(self.inner.limits.inbox_entries).arg(self.inbox_ttl_ms());
        let committed: bool = self.inner.link.script("commit a segment", &call).await?;
        if committed { Ok(()) } else { Err(QueueError::ClaimLost { work: id.to_string() }) }
    }

    pub(super) async fn release_live(
        &self,
        worker: &WorkerId,
        session: &ClaimedSession,
    ) -> Result<(), QueueError> {
        let (keys, state) = (&self.inner.keys, &session.state);
        let id = &state.session.id;
        let mut call = scripts::RELEASE_SESSION.prepare_invoke();
        call.key(keys.sessions()).key(keys.session(id)).key(keys.to_gateway(&state.session.gateway));
        call.arg(worker.as_str()).arg(entry_of(&session.claim)).arg(id.as_str());
        call.arg(event(state, SessionEvent::Released)).arg(millis(self.inner.limits.session_ttl));
        call.arg(self.inner.limits.inbox_entries).arg(self.inbox_ttl_ms());
        self.inner.link.script("release a session", &call).await
    }

    pub(super) async fn end_live(
        &self,
        worker: &WorkerId,
        session: &ClaimedSession,
        end: SessionEnd,
    ) -> Result<(), QueueError> {
        let parcel = match end {
            SessionEnd::Closed { audio_ms } => event(&session.state, SessionEvent::Closed { audio_ms }),
            SessionEnd::Failed(error) => event(&session.state, SessionEvent::Failed(error)),
            SessionEnd::Cancelled => Vec::new(),
        };
        self.end(worker, entry_of(&session.claim), &session.state, (parcel, None)).await
    }

    /// Makes a claim good: a session to serve, or nothing when there is none behind it any more.
    async fn take(&self, worker: &WorkerId, mut claim: Claim) -> Result<Option<ClaimedSession>, QueueError> {
        let id =
            claim.entry.take("session").and_then(|id| String::from_utf8(id).ok()?.parse::<SessionId>().ok());
        let entry = claim.entry.id.clone();
        for _ in 0..RACES {
            let stored = match &id {
                Some(id) => self.stored(id).await?,
                None => None,
            };
            let Some(stored) = stored else {
                self.discard(Line::Sessions, worker, &entry).await?;
                return Ok(None);
            };
            if stored.attempts >= self.inner.limits.max_attempts {
                self.bury_session(worker, &claim, &stored).await?;
                return Ok(None);
            }
            let mut state = stored.state;
            state.epoch += 1;
            state.worker = Some(worker.clone());
            match self.own(&state, worker, &claim, &stored.revision).await?.as_str() {
                "changed" => {}
                "taken" => {
                    let claim = format!("{entry}/{}", state.session.id);
                    return Ok(Some(ClaimedSession { state, claim }));
                }
                _ => return Ok(None),
            }
        }
        // Somebody changes it faster than it can be claimed: leave it to the next claim after the lease.
        Ok(None)
    }

    /// Runs the script `take_session`; says what became of it.
    async fn own(
        &self,
        state: &SessionState,
        worker: &WorkerId,
        claim: &Claim,
        revision: &str,
    ) -> Result<String, QueueError> {
        let (keys, limits, session) = (&self.inner.keys, &self.inner.limits, &state.session);
        let queue_ms = super::unix_ms().saturating_sub(claim.entry.added_at_ms()) as f32;
        let resume_at_samples = state.committed_samples;
        let claimed = SessionEvent::Claimed { worker: worker.clone(), resume_at_samples, queue_ms };
        let mut call = scripts::TAKE_SESSION.prepare_invoke();
        call.key(keys.sessions()).key(keys.session(&session.id));
        call.key(keys.gateway(&session.gateway)).key(keys.to_gateway(&session.gateway));
        call.arg(worker.as_str()).arg(&claim.entry.id).arg(revision).arg(state.epoch);
        call.arg(event(state, claimed)).arg(millis(limits.session_ttl));
        call.arg(limits.inbox_entries).arg(self.inbox_ttl_ms());
        self.inner.link.script("claim a session", &call).await
    }

    async fn bury_session(
        &self,
        worker: &WorkerId,
        claim: &Claim,
        stored: &Stored,
    ) -> Result<(), QueueError> {
        let work = stored.state.session.id.to_string();
        let error = verdict::exhausted(&work, stored.attempts);
        let letter = DeadLetter {
            work,
            attempts: stored.attempts,
            last_worker: claim.former_holder.clone(),
            at_ms: super::unix_ms(),
        };
        let parcel = event(&stored.state, SessionEvent::Failed(error));
        self.end(worker, &claim.entry.id, &stored.state, (parcel, Some(letter))).await
    }

    async fn end(
        &self,
        worker: &WorkerId,
        entry: &str,
        state: &SessionState,
        (parcel, letter): (Vec<u8>, Option<DeadLetter>),
    ) -> Result<(), QueueError> {
        let (keys, limits, session) = (&self.inner.keys, &self.inner.limits, &state.session);
        let mut call = scripts::END_SESSION.prepare_invoke();
        call.key(keys.sessions()).key(keys.session(&session.id));
        call.key(keys.to_gateway(&session.gateway)).key(keys.dead());
        call.arg(worker.as_str()).arg(entry).arg(parcel);
        call.arg(limits.inbox_entries).arg(self.inbox_ttl_ms());
        call.arg(letter.as_ref().map(codec::encode).unwrap_or_default());
        call.arg(limits.dead_letters).arg(millis(DEAD_LETTER_TTL));
        self.inner.link.script("end a session", &call).await
    }
}

/// A claim of a session names its entry and the session (`1700000000000-0/ses-…`), since a heartbeat, which
/// only has the claim, keeps both alive.
pub(super) fn entry_of(claim: &str) -> &str {
    claim.split_once('/').map_or(claim, |(entry, _)| entry)
}

/// The session that a claim names.
pub(super) fn session_of(claim: &str) -> Option<SessionId> {
    claim.split_once('/').and_then(|(_, session)| session.parse().ok())
}

fn event(state: &SessionState, event: SessionEvent) -> Vec<u8> {
    let (session, epoch) = (state.session.id.clone(), state.epoch);
    codec::pack([&ToGateway::Session { session, epoch, event }])
}

fn parse(fields: &HashMap<String, Vec<u8>>) -> Result<Stored, String> {
    let bytes = |name: &str| fields.get(name).ok_or_else(|| format!("the field {name} is missing"));
    let text = |name: &str| {
        let text = std::str::from_utf8(bytes(name)?);
        text.map(str::to_owned).map_err(|_| format!("the field {name} is not text"))
    };
    let state = SessionState {
        session: codec::decode(bytes("opened")?).map_err(|e| e.to_string())?,
        epoch: number("epoch", &text("epoch")?)?,
        worker: text("worker")?.parse().ok(),
        committed_samples: number("committed_samples", &text("committed_samples")?)?,
        committed_text: text("committed_text")?,
        segments: number("segments", &text("segments")?)?,
    };
    Ok(Stored { state, revision: text("revision")?, attempts: number("attempts", &text("attempts")?)? })
}

fn number<T: std::str::FromStr>(name: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("the field {name} is not a number: {text:?}"))
}
