//! The sessions that this worker holds: what the inbox brings for them, and what must be asked of their gateways.
//!
//! Journey: `pull → [sessions] → engine thread`. In: claimed sessions and the messages of the inbox. Out: inputs for
//! the engine, in order and without holes, and requests to gateways. A table without IO; time comes in as an
//! argument. Must not know: Redis, the batcher, words.
//!
//! Audio is numbered by samples: what is there already is skipped, a hole makes the worker ask for a replay,
//! messages of another epoch are dropped. When too much waits for the engine, audio is dropped and asked for
//! again once there is room: so a client that sends faster than real time is slowed down by its gateway's window.

use std::collections::HashMap;
use std::time::Duration;

use queue::ids::{GatewayId, SessionId};
use queue::port::ClaimedSession;
use queue::session::{Epoch, SessionEvent, ToGateway, ToWorker};
use tokio::sync::OwnedSemaphorePermit;
use tracing::Span;
use workers_batch::Occupant;
use workers_engine::SAMPLE_RATE_HZ;

use crate::engine_thread::Input;

/// Samples that may wait for the engine, per session; half of it must be free before more is asked for.
const MAX_PENDING: u64 = 20 * SAMPLE_RATE_HZ as u64;
/// After a replay was asked for, how long to wait before asking again.
const REPLAY_AGAIN: Duration = Duration::from_secs(1);
/// How long messages for a session that is just being claimed are kept, and how many in all.
const EARLY_FOR: Duration = Duration::from_secs(5);
const EARLY_MESSAGES: usize = 4_096;

/// One session.
#[derive(Debug)]
pub struct Entry {
    /// The claim.
    pub claim: ClaimedSession,
    /// Its occupant on the engine.
    pub occupant: Occupant,
    /// Index of its next final segment.
    pub next_segment: u32,
    /// All audio before this position is on the engine or decoded.
    received: u64,
    /// Decoded up to here.
    processed: u64,
    /// Counted for the license up to here.
    metered: u64,
    heard_at: Duration,
    probed_at: Duration,
    replay_asked: Option<Duration>,
    /// Audio was dropped because too much waits.
    stalled: bool,
    flushed_at: Option<u64>,
    ended: bool,
    /// From claimed to over, in the trace of its request.
    pub span: Span,
    /// Its slot; given back when the entry is dropped.
    _permit: OwnedSemaphorePermit,
}

impl Entry {
    /// The gateway that gets its events.
    pub fn gateway(&self) -> &GatewayId {
        &self.claim.state.session.gateway
    }

    /// An event of this session as its gateway gets it.
    pub fn event(&self, event: SessionEvent) -> (GatewayId, ToGateway) {
        let session = self.claim.state.session.id.clone();
        (self.gateway().clone(), ToGateway::Session { session, epoch: self.claim.state.epoch, event })
    }

    /// Milliseconds decoded since this was last asked, for the license.
    pub fn meter_ms(&mut self, processed_samples: u64) -> u64 {
        let per_ms = u64::from(SAMPLE_RATE_HZ) / 1_000;
        let new_ms = processed_samples.saturating_sub(self.metered) / per_ms;
        self.metered += new_ms * per_ms;
        new_ms
    }

    fn replay(&mut self, reason: &'static str, now: Duration) -> Routed {
        self.replay_asked = Some(now);
        crate::metrics::replay(reason);
        Routed::Ask(self.event(SessionEvent::Replay { from_samples: self.received }))
    }
}

/// What a message leads to.
#[derive(Debug)]
pub enum Routed {
    /// Nothing.
    Nothing,
    /// Something for the engine.
    Input(Occupant, Input),
    /// A request to a gateway.
    Ask((GatewayId, ToGateway)),
    /// The client is gone: the session was dropped.
    Cancelled(Box<Entry>),
}

/// What a look at the clock found.
#[derive(Debug, Default)]
pub struct Overdue {
    /// Requests to gateways.
    pub asks: Vec<(GatewayId, ToGateway)>,
    /// Sessions not heard of for too long; still in the table.
    pub idle: Vec<Occupant>,
    /// Gateways not heard of for a while, with their sessions: perhaps gone.
    pub quiet: HashMap<GatewayId, Vec<Occupant>>,
}

/// How long is too long.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Nothing heard of a session: it fails.
    pub idle: Duration,
    /// Nothing heard of a session: its gateway is asked whether something was lost.
    pub probe: Duration,
    /// Nothing heard of a session: its gateway's heartbeat is looked at.
    pub quiet: Duration,
}

/// All sessions of the worker.
#[derive(Debug, Default)]
pub struct Sessions {
    by_id: HashMap<SessionId, Entry>,
    by_occupant: HashMap<Occupant, SessionId>,
    /// Messages that came before the answer to the claim did: both travel at once.
    early: HashMap<SessionId, (Duration, Vec<ToWorker>)>,
    early_messages: usize,
}

impl Sessions {
    /// Adds a claimed session; gives what came for it already.
    pub fn insert(
        &mut self,
        claim: ClaimedSession,
        occupant: Occupant,
        permit: OwnedSemaphorePermit,
        now: Duration,
    ) -> Vec<Routed> {
        let id = claim.state.session.id.clone();
        let at = claim.state.committed_samples;
        let next_segment = claim.state.segments;
        // An older claim of the same session on this worker is void.
        let former = self.remove_id(&id);
        let entry = Entry {
            span: crate::trace::session(&claim),
            claim,
            occupant,
            next_segment,
            received: at,
            processed: at,
            metered: at,
            heard_at: now,
            probed_at: now,
            replay_asked: None,
            stalled: false,
            flushed_at: None,
            ended: false,
            _permit: permit,
        };
        self.by_occupant.insert(occupant, id.clone());
        self.by_id.insert(id.clone(), entry);
        let early = self.early.remove(&id).map_or_else(Vec::new, |(_, messages)| messages);
        self.early_messages -= early.len();
        let former = former.map(|e| Routed::Cancelled(Box::new(e)));
        former.into_iter().chain(early.into_iter().map(|m| self.route(m, now))).collect()
    }

    /// What a message of the inbox leads to.
    pub fn route(&mut self, message: ToWorker, now: Duration) -> Routed {
        let Some((session, epoch)) = address(&message) else { return Routed::Nothing };
        let Some(entry) = self.by_id.get_mut(session) else {
            self.keep_early(message, now);
            return Routed::Nothing;
        };
        if epoch != entry.claim.state.epoch {
            if epoch > entry.claim.state.epoch {
                self.keep_early(message, now);
            }
            return Routed::Nothing;
        }
        entry.heard_at = now;
        match message {
            ToWorker::Audio { at_samples, pcm, .. } => audio(entry, at_samples, &pcm, now),
            ToWorker::Flush { at_samples, .. } => flush(entry, at_samples, now),
            ToWorker::End { at_samples, .. } => end(entry, at_samples, now),
            ToWorker::Cancel { session, .. } => {
                self.remove_id(&session).map_or(Routed::Nothing, |e| Routed::Cancelled(Box::new(e)))
            }
            ToWorker::CancelBatch { .. } => Routed::Nothing,
        }
    }

    /// Notes how far a session is decoded; may ask for audio that was dropped before.
    pub fn processed(&mut self, occupant: Occupant, samples: u64, now: Duration) -> Option<Routed> {
        let entry = self.get_mut(occupant)?;
        entry.processed = samples;
        if entry.stalled && entry.received.saturating_sub(samples) < MAX_PENDING / 2 {
            entry.stalled = false;
            return Some(entry.replay("flow", now));
        }
        None
    }

    /// The session of an occupant.
    pub fn get_mut(&mut self, occupant: Occupant) -> Option<&mut Entry> {
        self.by_id.get_mut(self.by_occupant.get(&occupant)?)
    }

    /// Removes the session of an occupant.
    pub fn remove(&mut self, occupant: Occupant) -> Option<Entry> {
        let id = self.by_occupant.remove(&occupant)?;
        self.by_id.remove(&id)
    }

    /// The session with a claim of this name.
    pub fn by_claim(&self, claim: &str) -> Option<Occupant> {
        self.by_id.values().find(|e| e.claim.claim == claim).map(|e| e.occupant)
    }

    /// All occupants.
    pub fn occupants(&self) -> Vec<Occupant> {
        self.by_occupant.keys().copied().collect()
    }

    /// Names of all claims.
    pub fn claims(&self) -> Vec<String> {
        self.by_id.values().map(|e| e.claim.claim.clone()).collect()
    }

    /// Sessions held.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// No session is held.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Looks at the clock.
    pub fn overdue(&mut self, patience: Patience, now: Duration) -> Overdue {
        let kept = &mut self.early_messages;
        self.early.retain(|_, (since, messages)| {
            let keep = now < *since + EARLY_FOR;
            *kept -= if keep { 0 } else { messages.len() };
            keep
        });
        let mut overdue = Overdue::default();
        for entry in self.by_id.values_mut() {
            let silent = now.saturating_sub(entry.heard_at);
            // After its end a session is quiet by right: what is left is the engine's to do.
            if entry.ended {
                continue;
            }
            if silent >= patience.idle {
                overdue.idle.push(entry.occupant);
            } else if silent >= patience.probe && now >= entry.probed_at + patience.probe && !entry.stalled {
                entry.probed_at = now;
                if let Routed::Ask(ask) = entry.replay("probe", now) {
                    overdue.asks.push(ask);
                }
            }
            if silent >= patience.quiet {
                overdue.quiet.entry(entry.gateway().clone()).or_default().push(entry.occupant);
            }
        }
        overdue
    }

    fn remove_id(&mut self, session: &SessionId) -> Option<Entry> {
        let entry = self.by_id.remove(session)?;
        self.by_occupant.remove(&entry.occupant);
        Some(entry)
    }

    fn keep_early(&mut self, message: ToWorker, now: Duration) {
        if self.early_messages >= EARLY_MESSAGES {
            return;
        }
        if let Some((session, _)) = address(&message) {
            self.early_messages += 1;
            self.early.entry(session.clone()).or_insert_with(|| (now, Vec::new())).1.push(message);
        }
    }
}

fn address(message: &ToWorker) -> Option<(&SessionId, Epoch)> {
    match message {
        ToWorker::Audio { session, epoch, .. }
        | ToWorker::Flush { session, epoch, .. }
        | ToWorker::End { session, epoch, .. }
        | ToWorker::Cancel { session, epoch } => Some((session, *epoch)),
        ToWorker::CancelBatch { .. } => None,
    }
}

fn audio(entry: &mut Entry, at: u64, pcm: &[u8], now: Duration) -> Routed {
    let end = at + (pcm.len() / 2) as u64;
    if entry.ended || end <= entry.received || entry.stalled {
        return Routed::Nothing;
    }
    if at > entry.received {
        return gap(entry, now);
    }
    if entry.received.saturating_sub(entry.processed) > MAX_PENDING {
        entry.stalled = true;
        return Routed::Nothing;
    }
    let skip = (entry.received - at) as usize * 2;
    let samples = pcm[skip..].chunks_exact(2).map(|s| i16::from_le_bytes([s[0], s[1]])).collect();
    entry.received = end;
    entry.replay_asked = None;
    Routed::Input(entry.occupant, Input::Audio(samples))
}

fn flush(entry: &mut Entry, at: u64, now: Duration) -> Routed {
    if entry.ended || entry.flushed_at.is_some_and(|last| at <= last) || entry.stalled {
        return Routed::Nothing;
    }
    if at > entry.received {
        return gap(entry, now);
    }
    entry.flushed_at = Some(at);
    Routed::Input(entry.occupant, Input::Flush)
}

fn end(entry: &mut Entry, at: u64, now: Duration) -> Routed {
    if entry.ended || entry.stalled {
        return Routed::Nothing;
    }
    if at > entry.received {
        return gap(entry, now);
    }
    entry.ended = true;
    Routed::Input(entry.occupant, Input::End)
}

/// Something before this message was lost: asks once, and again when the answer does not come.
fn gap(entry: &mut Entry, now: Duration) -> Routed {
    match entry.replay_asked {
        Some(asked) if now < asked + REPLAY_AGAIN => Routed::Nothing,
        _ => entry.replay("gap", now),
    }
}

#[cfg(test)]
#[path = "sessions_tests.rs"]
mod tests;
