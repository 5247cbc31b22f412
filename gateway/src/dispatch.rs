//! Admitted work onto the queue: a recording becomes a job with a deadline, a live request becomes a session.
//!
//! In: the internal request and its audio. Out: the transcript, or a running [`LiveCall`]. A caller that
//! vanishes takes its work along: the guard of a job that nobody waits for cancels it.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use license_proxy::Usage;
use metrics::{counter, histogram};
use queue::ids::{JobId, SessionId};
use queue::job::{BatchJob, CONTRACT_VERSION, RecognizeOptions, Timing, Transcript};
use queue::port::GatewayPort;
use queue::session::Session;
use tokio::time::Instant;
use tracing::field::Empty;
use tracing::info_span;

use crate::admit::{self, Admitted};
use crate::audio::decode::decode;
use crate::audio::pool::Lease;
use crate::error::Error;
use crate::live::{self, LiveCall};
use crate::request::{Batch, Live, Wanted};
use crate::serve::Gateway;
use crate::session::LiveSession;

/// Cancelling is tried this often.
const CANCEL_ATTEMPTS: u32 = 3;

/// The answer to a recording.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// What was said.
    pub transcript: Transcript,
    /// Where the time went.
    pub timing: Timing,
    /// Bytes of the recording as it came.
    pub bytes: u64,
    /// From the arrival of the body to the answer.
    pub elapsed: Duration,
}

/// Recognizes a recording. `lease` holds the memory of its body.
pub async fn recognize(
    gateway: &Arc<Gateway>,
    admitted: Admitted,
    request: Batch,
    (body, lease): (Bytes, Lease),
) -> Result<Answer, Error> {
    let start = Instant::now();
    let deadline = start + gateway.config.limits.request_timeout_ms;
    let late = || Error::DeadlineExceeded(gateway.config.limits.request_timeout_ms);
    let options = gateway.resolve(&request.wanted)?;
    let bytes = body.len() as u64;
    let max_seconds = gateway.config.limits.max_audio_seconds;
    // These spans are not entered: a line of the log keeps the request's id, and their times count all the same.
    let part = info_span!("decode", bytes);
    let decoding = gateway.pool.run(move || decode(body, request.raw, max_seconds, lease));
    let recording = tokio::time::timeout_at(deadline, decoding).await.map_err(|_| late())??;
    histogram!("gateway_decode_seconds").record(start.elapsed());
    drop(part);

    let job = BatchJob {
        version: CONTRACT_VERSION,
        id: JobId::generate(),
        gateway: gateway.id.clone(),
        options,
        samples: recording.samples(),
        accepted_at_ms: now_ms(),
        deadline_ms: now_ms() + (deadline - Instant::now()).as_millis() as u64,
        traceparent: telemetry::trace::current_traceparent(),
    };
    let mut ticket = gateway.relay.expect_job(&job.id);
    let mut guard = CancelJob { queue: gateway.queue.clone(), job: Some(job.id.clone()) };
    let part = info_span!("submit", job = %job.id, samples = job.samples);
    gateway.queue.submit(&job, recording.pcm).await?;
    drop((part, recording.lease));
    let part = info_span!("await_answer", job = %job.id, queue_ms = Empty, infer_ms = Empty);
    let reply = tokio::time::timeout_at(deadline, ticket.reply()).await.map_err(|_| late())?;
    let reply = reply.ok_or(Error::Internal("the relay forgot a job"))?;
    part.record("queue_ms", reply.timing.queue_ms).record("infer_ms", reply.timing.infer_ms);
    drop(part);
    guard.job = None;
    drop(admitted);

    let transcript = reply.outcome?;
    let elapsed = start.elapsed();
    histogram!("gateway_e2e_latency_seconds", "language" => transcript.language.clone()).record(elapsed);
    histogram!("gateway_queue_wait_seconds").record(f64::from(reply.timing.queue_ms) / 1e3);
    counter!("gateway_audio_ms_total", "kind" => "batch").increment(transcript.audio_ms);
    gateway.license.count(Usage { audio_ms: transcript.audio_ms, requests: 1 });
    Ok(Answer { transcript, timing: reply.timing, bytes, elapsed })
}

/// Opens a live session, or comes back to one.
pub async fn open(gateway: &Arc<Gateway>, admitted: Admitted, request: Live) -> Result<LiveCall, Error> {
    let options = gateway.resolve(&request.wanted)?;
    let (state, ticket) = if let Some(id) = &request.resume {
        let ticket = gateway.relay.follow_session(id);
        let adopted = gateway.queue.adopt_session(id, &gateway.id).await?;
        let state = adopted.ok_or_else(|| Error::SessionNotFound(id.to_string()))?;
        counter!("gateway_sessions_adopted_total").increment(1);
        (LiveSession::resumed(&state), ticket)
    } else {
        let id = SessionId::generate();
        let ticket = gateway.relay.follow_session(&id);
        if let Err(error) = gateway.queue.open_session(&session(gateway, &id, options)).await {
            // After a time-out the queue may hold it all the same: without this it would wait for a slot.
            cancel_session(gateway.queue.clone(), id);
            return Err(error.into());
        }
        (LiveSession::new(id), ticket)
    };
    live::start(gateway.clone(), admitted, &request, (state, ticket))
}

fn session(gateway: &Gateway, id: &SessionId, options: RecognizeOptions) -> Session {
    Session {
        version: CONTRACT_VERSION,
        id: id.clone(),
        gateway: gateway.id.clone(),
        options,
        accepted_at_ms: now_ms(),
        traceparent: telemetry::trace::current_traceparent(),
    }
}

impl Gateway {
    /// What is wanted, in the words of the workers that are known now.
    pub fn resolve(&self, wanted: &Wanted) -> Result<RecognizeOptions, Error> {
        let view = self.view.borrow();
        admit::resolve(wanted, &view.workers, &self.config.model_aliases, &self.config.default_language)
    }
}

/// Cancels a job whose caller is gone.
struct CancelJob {
    queue: Arc<dyn GatewayPort>,
    job: Option<JobId>,
}

impl Drop for CancelJob {
    fn drop(&mut self) {
        let Some(job) = self.job.take() else { return };
        let queue = self.queue.clone();
        counter!("gateway_cancelled_total", "kind" => "batch").increment(1);
        tokio::spawn(async move {
            let done = retry(|| queue.cancel(&job)).await;
            if let Err(e) = done {
                tracing::warn!(%job, error = %e, "failed to cancel a job; its deadline will end it");
            }
        });
    }
}

/// Drops a session whose client is gone.
pub fn cancel_session(queue: Arc<dyn GatewayPort>, session: SessionId) {
    counter!("gateway_cancelled_total", "kind" => "live").increment(1);
    tokio::spawn(async move {
        let done = retry(|| queue.cancel_session(&session)).await;
        if let Err(e) = done {
            tracing::warn!(%session, error = %e, "failed to cancel a session; its worker's idle time-out will end it");
        }
    });
}

async fn retry<E, F: Future<Output = Result<(), E>>>(mut action: impl FnMut() -> F) -> Result<(), E> {
    let mut pause = Duration::from_millis(100);
    for _ in 1..CANCEL_ATTEMPTS {
        if action().await.is_ok() {
            return Ok(());
        }
        tokio::time::sleep(pause).await;
        pause *= 4;
    }
    action().await
}

/// Unix milliseconds.
fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}
