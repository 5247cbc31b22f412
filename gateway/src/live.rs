//! The task that runs one live session: client input and worker events in, messages and client events out.
//!
//! All decisions are in [`LiveSession`]; this only moves bytes, and watches the clocks. It never waits for one
//! side only: audio goes to the worker the moment there is room for it, and a client that does not read its
//! results is cut off. Knows no protocol; an edge holds the [`LiveCall`].

mod ears;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use license_proxy::Usage;
use metrics::{counter, histogram};
use queue::ids::SessionId;
use queue::job::Timing;
use queue::session::{SessionEvent, ToWorker};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tracing::{Instrument as _, Span, info_span};

use self::ears::Ears;
use crate::admit::Admitted;
use crate::audio::samples_to_ms;
use crate::dispatch::cancel_session;
use crate::error::Error;
use crate::relay::{Event, OUTAGE_LIMIT, SessionTicket};
use crate::request::Live;
use crate::serve::Gateway;
use crate::session::{LiveEvent, LiveSession, Step};

/// Client messages that may wait for the task; a message is up to 1 MiB, so few.
const INPUTS: usize = 2;
/// How often the clocks are looked at, at most.
const TICK: Duration = Duration::from_secs(1);
/// Longest wait for the queue to tell what it knows of a session.
const INSPECT: Duration = Duration::from_secs(2);
/// A worker that gives no sign of life for so many stall time-outs is given up.
const STALLS: u32 = 4;

/// Largest piece of live audio, bytes.
pub const MAX_CHUNK_BYTES: usize = 1 << 20;

/// What a client says.
#[derive(Debug)]
pub enum Input {
    /// Audio in the encoding of the request.
    Audio(Bytes),
    /// Make everything so far final, and go on.
    Finalize,
    /// I am still here.
    KeepAlive,
    /// The audio is over.
    End,
    /// The client broke the protocol: the session ends with this.
    Broken(Error),
}

/// A running session, as an edge sees it. Dropping `input` without [`Input::End`] means the client vanished.
#[derive(Debug)]
pub struct LiveCall {
    /// The session.
    pub session: SessionId,
    /// What the client says. Waiting for room here is the back-pressure on its socket.
    pub input: mpsc::Sender<Input>,
    /// What the client is told; ends with the session.
    pub events: mpsc::Receiver<LiveEvent>,
    /// Why the session ended, when it was not its natural end.
    pub failed: oneshot::Receiver<Error>,
}

/// Starts the task of an opened session.
pub(crate) fn start(
    gateway: Arc<Gateway>,
    admitted: Admitted,
    request: &Live,
    (state, ticket): (LiveSession, SessionTicket),
) -> Result<LiveCall, Error> {
    let session = ticket.id().clone();
    let (input, inputs) = mpsc::channel(INPUTS);
    let (events, told) = mpsc::channel(gateway.config.limits.max_unread_results.max(1));
    let (failed, outcome) = oneshot::channel();
    let ears = Ears::new(request)?;
    let now = Instant::now();
    let span = Span::current();
    let task = Task {
        client: Client { inputs, events, ears, interim: request.interim, progress: request.progress },
        resume_at: state.committed(),
        state,
        ticket,
        outbox: None,
        clocks: Clocks {
            opened: now,
            waiting: Some(now),
            claimed: now,
            worker: now,
            client: now,
            outage: None,
        },
        queued: Some(info_span!("queue")),
        gateway,
    };
    tokio::spawn(
        async move {
            if let Err(e) = task.run().await {
                // The edge may be gone; then nobody needs the reason.
                drop(failed.send(e));
            }
            drop(admitted);
        }
        .instrument(span),
    );
    Ok(LiveCall { session, input, events: told, failed: outcome })
}

/// The client's side.
struct Client {
    inputs: mpsc::Receiver<Input>,
    events: mpsc::Sender<LiveEvent>,
    ears: Ears,
    interim: bool,
    progress: bool,
}

/// Since when things are as they are.
struct Clocks {
    opened: Instant,
    /// No worker holds the session.
    waiting: Option<Instant>,
    /// A worker got it.
    claimed: Instant,
    /// Last event of a worker.
    worker: Instant,
    /// Last input of the client.
    client: Instant,
    /// The queue is away.
    outage: Option<Instant>,
}

struct Task {
    gateway: Arc<Gateway>,
    state: LiveSession,
    ticket: SessionTicket,
    client: Client,
    outbox: Option<mpsc::Sender<ToWorker>>,
    clocks: Clocks,
    /// The wait for a worker, as a part of the request's trace.
    queued: Option<Span>,
    resume_at: u64,
}

enum Go {
    On,
    Done,
}

impl Task {
    async fn run(mut self) -> Result<(), Error> {
        let outcome = self.serve().await;
        let usage = Usage { audio_ms: samples_to_ms(self.state.processed() - self.resume_at), requests: 1 };
        counter!("gateway_audio_ms_total", "kind" => "live").increment(usage.audio_ms);
        self.gateway.license.count(usage);
        let reason = outcome.as_ref().map_or_else(Error::reason, |()| "Ended");
        let (session, claims) = (self.ticket.id(), self.state.epoch());
        tracing::info!(%session, audio_ms = usage.audio_ms, claims, reason, "a live session ended");
        match &outcome {
            // The worker ended it, or another call follows it now: it is not ours to cancel.
            Ok(()) | Err(Error::Work(_) | Error::SessionTaken | Error::SessionLost) => {}
            Err(_) => cancel_session(self.gateway.queue.clone(), self.ticket.id().clone()),
        }
        outcome
    }

    async fn serve(&mut self) -> Result<(), Error> {
        self.client.tell(LiveEvent::Started { resume_at_ms: samples_to_ms(self.resume_at) })?;
        let limits = &self.gateway.config.limits;
        let shortest = limits.queue_timeout_ms.min(limits.idle_timeout_ms).min(limits.stall_timeout_ms);
        let period = TICK.min(shortest / 4).max(Duration::from_millis(1));
        let mut tick = tokio::time::interval(period);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let blocked = self.send_ready();
            let go = tokio::select! {
                event = self.ticket.next() => self.on_event(event)?,
                input = self.client.inputs.recv(), if self.state.has_room() => self.on_input(input)?,
                () = self.client.events.closed() => return Err(Error::ClientGone),
                () = room(self.outbox.as_ref()), if blocked => Go::On,
                () = self.gateway.expired.cancelled() => return Err(Error::Draining),
                _ = tick.tick() => self.on_tick(Instant::now()).await?,
            };
            if matches!(go, Go::Done) {
                return Ok(());
            }
        }
    }

    /// Sends what is ready, as far as the worker's outbox has room; true when it has none.
    fn send_ready(&mut self) -> bool {
        while self.state.has_message() {
            let Some(worker) = self.state.worker() else { return false };
            let outbox = self.outbox.get_or_insert_with(|| self.gateway.outboxes.to(worker));
            if outbox.is_closed() {
                // The sender's task is gone: the next round starts another one.
                self.outbox = None;
                continue;
            }
            let Ok(place) = outbox.try_reserve() else { return true };
            if let Some(message) = self.state.next_message() {
                place.send(message);
            }
        }
        false
    }

    fn on_event(&mut self, event: Option<Event>) -> Result<Go, Error> {
        let Some((epoch, event)) = event else {
            let taken = self.ticket.is_superseded();
            return Err(if taken { Error::SessionTaken } else { Error::Internal("the session fell behind") });
        };
        let now = Instant::now();
        self.clocks.worker = now;
        let before = self.state.epoch();
        let (queue_ms, timing) = match &event {
            SessionEvent::Claimed { queue_ms, .. } => (*queue_ms, None),
            SessionEvent::Update { timing, .. } => (0.0, Some(*timing)),
            _ => (0.0, None),
        };
        let decoded = self.state.processed();
        let step = self.state.on_event(epoch, event);
        if self.state.epoch() != before {
            self.outbox = None;
            self.clocks.waiting = None;
            self.clocks.claimed = now;
            self.queued = None;
            histogram!("gateway_session_claim_seconds").record(self.clocks.opened.elapsed());
            histogram!("gateway_queue_wait_seconds").record(f64::from(queue_ms) / 1e3);
            if before > 0 {
                counter!("gateway_sessions_resumed_total").increment(1);
                tracing::info!(session = %self.ticket.id(), epoch, "another worker took the session over");
            }
        } else if self.state.worker().is_none() && self.clocks.waiting.is_none() {
            self.outbox = None;
            self.clocks.waiting = Some(now);
            self.queued = Some(info_span!("queue"));
        }
        if let Some(timing) = timing.filter(|_| self.state.processed() > decoded) {
            self.measure_overhead(timing, now);
        }
        for came in self.state.take_decoded() {
            histogram!("gateway_chunk_latency_seconds").record(now - came);
        }
        match step {
            Step::Nothing => Ok(Go::On),
            Step::Tell(event) => self.client.tell(event),
            Step::TellAll(events) => {
                events.into_iter().try_for_each(|e| self.client.tell(e).map(drop))?;
                Ok(Go::On)
            }
            Step::Failed(e) => Err(e.into()),
        }
    }

    /// What the way of a chunk took beside its wait and its step in the worker. Left out is what would tell of the
    /// client: chunks from before the claim, those that only a finalize or the end completed, and backlogs.
    fn measure_overhead(&self, timing: Timing, now: Instant) {
        let came = self.state.completed_by().filter(|came| *came >= self.clocks.claimed);
        let Some(came) = came.filter(|_| !self.state.is_waiting()) else { return };
        let worked = f64::from(timing.queue_ms + timing.infer_ms) / 1e3;
        histogram!("gateway_chunk_overhead_seconds").record(((now - came).as_secs_f64() - worked).max(0.0));
    }

    fn on_input(&mut self, input: Option<Input>) -> Result<Go, Error> {
        let now = Instant::now();
        self.clocks.client = now;
        match input.ok_or(Error::ClientGone)? {
            Input::Audio(bytes) => {
                counter!("gateway_chunks_total").increment(1);
                self.state.push(self.client.ears.hear(&bytes)?, now);
            }
            Input::Finalize => {
                if let Some(answer) = self.state.finalize() {
                    return self.client.tell(answer);
                }
            }
            Input::KeepAlive => {}
            Input::Broken(e) => return Err(e),
            Input::End => {
                self.state.push(self.client.ears.finish()?, now);
                self.state.end();
            }
        }
        Ok(Go::On)
    }

    async fn on_tick(&mut self, now: Instant) -> Result<Go, Error> {
        if !self.gateway.view.borrow().queue_up {
            let since = *self.clocks.outage.get_or_insert(now);
            return if now - since > OUTAGE_LIMIT { Err(Error::QueueUnavailable(None)) } else { Ok(Go::On) };
        }
        if self.clocks.outage.take().is_some() {
            // What did not happen while the queue was away is nobody's fault.
            self.clocks.worker = now;
            self.clocks.waiting = self.clocks.waiting.map(|_| now);
        }
        let limits = &self.gateway.config.limits;
        let idle = limits.idle_timeout_ms;
        if !self.state.is_ended() && self.state.has_room() && now - self.clocks.client > idle {
            return Err(Error::IdleTimeout(idle));
        }
        let patience = self.patience();
        if self.clocks.waiting.is_some_and(|since| now - since > patience) {
            return Err(Error::QueueTimeout(patience));
        }
        let silent = now - self.clocks.worker;
        if self.clocks.waiting.is_none() && self.state.is_waiting() && silent > limits.stall_timeout_ms {
            self.inspect(silent).await?;
        }
        Ok(Go::On)
    }

    /// Longest wait for a worker: longer while none is ready, since then one has to start first.
    fn patience(&self) -> Duration {
        let limits = &self.gateway.config.limits;
        if self.gateway.view.borrow().worker_ready() {
            limits.queue_timeout_ms
        } else {
            limits.queue_timeout_ms.max(limits.worker_start_timeout_ms)
        }
    }

    /// The worker is silent: what does the queue know?
    async fn inspect(&mut self, silent: Duration) -> Result<(), Error> {
        let question = self.gateway.queue.session(self.ticket.id());
        let Ok(Ok(known)) = tokio::time::timeout(INSPECT, question).await else { return Ok(()) };
        let state = known.ok_or(Error::SessionLost)?;
        match state.worker {
            // The message that told of the new claim got lost.
            Some(worker) if state.epoch > self.state.epoch() => {
                let resume_at_samples = state.committed_samples;
                let claimed = SessionEvent::Claimed { worker, resume_at_samples, queue_ms: 0.0 };
                self.on_event(Some((state.epoch, claimed))).map(drop)
            }
            _ if silent > self.gateway.config.limits.stall_timeout_ms * STALLS => Err(Error::SessionLost),
            _ => Ok(()),
        }
    }
}

impl Client {
    /// Tells the client, as far as it wants to know.
    fn tell(&self, event: LiveEvent) -> Result<Go, Error> {
        let go = if matches!(event, LiveEvent::Ended { .. }) { Go::Done } else { Go::On };
        match event {
            LiveEvent::Partial { processed_ms, timing, .. } => {
                if self.interim {
                    self.queue(event)?;
                }
                if self.progress {
                    self.queue(LiveEvent::Progress { processed_ms, timing })?;
                }
            }
            LiveEvent::Progress { .. } if !self.progress => {}
            event => self.queue(event)?,
        }
        Ok(go)
    }

    fn queue(&self, event: LiveEvent) -> Result<(), Error> {
        match self.events.try_send(event) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(_)) => Err(Error::SlowClient(self.events.max_capacity())),
            Err(TrySendError::Closed(_)) => Err(Error::ClientGone),
        }
    }
}

async fn room(outbox: Option<&mpsc::Sender<ToWorker>>) {
    if let Some(outbox) = outbox {
        // Only that there is room matters; the loop takes it.
        drop(outbox.reserve().await);
    }
}
