//! What workers answer, to the callers that wait: the gateway's inbox → one bounded channel for each call.
//!
//! One task reads the inbox for all calls and never waits for any of them: a session whose channel is full is
//! cut off, the others do not notice. The way back, gateway → worker, is [`Outboxes`]: one sender task for each
//! worker that takes whatever is there and sends it in one round trip, without ever waiting for more.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use metrics::{counter, histogram};
use queue::ids::{GatewayId, JobId, SessionId, WorkerId};
use queue::job::BatchReply;
use queue::port::GatewayPort;
use queue::session::{Epoch, SessionEvent, ToGateway, ToWorker};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Longest blocking read of the inbox.
const READ_WAIT: Duration = Duration::from_secs(5);
/// Events that may wait for one session's task.
const SESSION_EVENTS: usize = 1_024;
/// Messages that may wait for one worker's sender.
const OUTBOX: usize = 1_024;
/// Messages in one round trip.
const SEND_BATCH: usize = 512;
/// Round trips to one worker under way at once. Audio that comes while another is under way does not wait for its end;
/// were there no bound, every message would become a round trip of its own when Redis is slow.
const SENDS: usize = 4;
/// Pauses between attempts grow from the first to the second.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(500));
/// A message that could not be sent for this long is given up; sessions then find out what happened.
pub const OUTAGE_LIMIT: Duration = Duration::from_mins(1);

/// An event of a session under the epoch of its claim.
pub type Event = (Epoch, SessionEvent);

/// The waiting calls.
#[derive(Debug, Clone, Default)]
pub struct Relay {
    calls: Arc<Mutex<Calls>>,
}

#[derive(Debug, Default)]
struct Calls {
    jobs: HashMap<JobId, oneshot::Sender<BatchReply>>,
    sessions: HashMap<SessionId, (u64, mpsc::Sender<Event>)>,
    /// Number of the next session ticket.
    next: u64,
}

/// A waiting batch call; forgotten when dropped.
#[derive(Debug)]
pub struct JobTicket {
    relay: Relay,
    id: JobId,
    reply: oneshot::Receiver<BatchReply>,
}

/// A running session; forgotten when dropped.
#[derive(Debug)]
pub struct SessionTicket {
    relay: Relay,
    id: SessionId,
    number: u64,
    events: mpsc::Receiver<Event>,
}

impl Relay {
    /// Waits for the reply to a job; call this before the job is submitted.
    pub fn expect_job(&self, id: &JobId) -> JobTicket {
        let (sender, reply) = oneshot::channel();
        self.calls().jobs.insert(id.clone(), sender);
        JobTicket { relay: self.clone(), id: id.clone(), reply }
    }

    /// Follows a session; whoever followed it before is told by the end of its events.
    pub fn follow_session(&self, id: &SessionId) -> SessionTicket {
        let (sender, events) = mpsc::channel(SESSION_EVENTS);
        let mut calls = self.calls();
        calls.next += 1;
        let number = calls.next;
        calls.sessions.insert(id.clone(), (number, sender));
        SessionTicket { relay: self.clone(), id: id.clone(), number, events }
    }

    /// Reads the inbox until stopped.
    pub async fn run(self, queue: Arc<dyn GatewayPort>, gateway: GatewayId, stop: CancellationToken) {
        let mut pause = BACKOFF.0;
        loop {
            let read = tokio::select! {
                () = stop.cancelled() => return,
                read = queue.receive(&gateway, READ_WAIT) => read,
            };
            match read {
                Ok(messages) => {
                    pause = BACKOFF.0;
                    self.deliver(messages);
                }
                Err(e) => {
                    tracing::warn!(error = %e, reason = e.reason(), "failed to read the gateway's inbox; trying again");
                    counter!("gateway_queue_errors_total", "reason" => e.reason()).increment(1);
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = tokio::time::sleep(pause) => pause = (pause * 2).min(BACKOFF.1),
                    }
                }
            }
        }
    }

    /// Hands messages to their calls, without waiting for any.
    pub fn deliver(&self, messages: Vec<ToGateway>) {
        let mut calls = self.calls();
        for message in messages {
            match message {
                ToGateway::Batch(reply) => match calls.jobs.remove(&reply.job) {
                    // The caller may have gone in this moment: then nobody needs the reply.
                    Some(caller) => drop(caller.send(reply)),
                    None => counter!("gateway_late_replies_total").increment(1),
                },
                ToGateway::Session { session, epoch, event } => {
                    let Some((_, caller)) = calls.sessions.get(&session) else { continue };
                    if let Err(mpsc::error::TrySendError::Full(_)) = caller.try_send((epoch, event)) {
                        tracing::warn!(%session, "a session does not take its events; cutting it off");
                        calls.sessions.remove(&session);
                    }
                }
            }
        }
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        // Nothing in here can be left half done by a panic.
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl JobTicket {
    /// The reply.
    pub async fn reply(&mut self) -> Option<BatchReply> {
        (&mut self.reply).await.ok()
    }
}

impl Drop for JobTicket {
    fn drop(&mut self) {
        self.relay.calls().jobs.remove(&self.id);
    }
}

impl SessionTicket {
    /// The session.
    pub fn id(&self) -> &SessionId {
        &self.id
    }

    /// The next event; `None` when another call follows the session, or this one did not keep up.
    pub async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    /// Another call follows the session by now.
    pub fn is_superseded(&self) -> bool {
        self.relay.calls().sessions.get(&self.id).is_some_and(|(number, _)| *number != self.number)
    }
}

impl Drop for SessionTicket {
    fn drop(&mut self) {
        let mut calls = self.relay.calls();
        if calls.sessions.get(&self.id).is_some_and(|(number, _)| *number == self.number) {
            calls.sessions.remove(&self.id);
        }
    }
}

/// Sender tasks, one for each worker in use.
#[derive(Clone)]
pub struct Outboxes {
    queue: Arc<dyn GatewayPort>,
    senders: Arc<Mutex<HashMap<WorkerId, mpsc::WeakSender<ToWorker>>>>,
}

impl Outboxes {
    /// No sender yet.
    pub fn new(queue: Arc<dyn GatewayPort>) -> Self {
        Self { queue, senders: Arc::default() }
    }

    /// The way to a worker; its task ends when the last of its users is gone.
    pub fn to(&self, worker: &WorkerId) -> mpsc::Sender<ToWorker> {
        let mut senders = self.senders.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = senders.get(worker).and_then(mpsc::WeakSender::upgrade) {
            return sender;
        }
        let (sender, messages) = mpsc::channel(OUTBOX);
        senders.insert(worker.clone(), sender.downgrade());
        let registry = Arc::downgrade(&self.senders);
        tokio::spawn(send_all(self.queue.clone(), worker.clone(), messages, registry));
        sender
    }
}

type Registry = Mutex<HashMap<WorkerId, mpsc::WeakSender<ToWorker>>>;

async fn send_all(
    queue: Arc<dyn GatewayPort>,
    worker: WorkerId,
    mut messages: mpsc::Receiver<ToWorker>,
    registry: Weak<Registry>,
) {
    let mut under_way = FuturesUnordered::new();
    loop {
        let mut batch = Vec::new();
        tokio::select! {
            biased;
            Some(()) = under_way.next() => {}
            count = messages.recv_many(&mut batch, SEND_BATCH), if under_way.len() < SENDS => {
                if count == 0 {
                    break;
                }
                under_way.push(send_batch(queue.as_ref(), &worker, batch));
            }
        }
    }
    while under_way.next().await.is_some() {}
    // All users are gone; a new one may have come meanwhile with a sender of its own.
    if let Some(registry) = registry.upgrade() {
        let mut senders = registry.lock().unwrap_or_else(PoisonError::into_inner);
        if senders.get(&worker).is_some_and(|s| s.upgrade().is_none()) {
            senders.remove(&worker);
        }
    }
}

/// Sends a batch, or gives it up.
async fn send_batch(queue: &dyn GatewayPort, worker: &WorkerId, batch: Vec<ToWorker>) {
    let start = std::time::Instant::now();
    if let Err(e) = send(queue, worker, &batch).await {
        tracing::warn!(%worker, error = %e, "failed to reach a worker's inbox; giving its messages up");
        counter!("gateway_messages_lost_total").increment(batch.len() as u64);
    }
    histogram!("gateway_queue_send_seconds").record(start.elapsed());
}

/// Sends with bounded retries. A batch that arrived although the answer was lost is sent twice: workers skip audio
/// they have. Batches leave in order; one that is tried again may arrive behind the next, and a worker that finds audio
/// missing asks for it.
async fn send(
    queue: &dyn GatewayPort,
    worker: &WorkerId,
    batch: &[ToWorker],
) -> Result<(), queue::port::QueueError> {
    let start = tokio::time::Instant::now();
    let mut pause = BACKOFF.0;
    loop {
        match queue.send(worker, batch).await {
            Ok(()) => return Ok(()),
            Err(e) if start.elapsed() + pause > OUTAGE_LIMIT => return Err(e),
            Err(e) => {
                counter!("gateway_queue_errors_total", "reason" => e.reason()).increment(1);
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(BACKOFF.1);
            }
        }
    }
}
