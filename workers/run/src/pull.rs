//! Claims work, only as much as there are free slots for.
//!
//! Journey: `Redis → [pull] → sessions, jobs → engine thread`. In: permits (free slots) and the gate. Out: occupants on
//! the engine. Work that cannot be served here is answered at once with the reason. Must not know: words, replies.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use queue::job::{BatchReply, CONTRACT_VERSION, RecognizeOptions, Timing, WorkError, WorkErrorKind};
use queue::port::{ClaimedJob, ClaimedSession, SessionEnd};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use workers_batch::endpoint::Rules;
use workers_batch::{NewJob, NewStream};
use workers_engine::SlotOptions;

use crate::clock::unix_ms;
use crate::engine_thread::{Command, Input};
use crate::jobs::JobEntry;
use crate::metrics::Kind;
use crate::queue_health::BackOff;
use crate::sessions::Routed;
use crate::worker::{Gate, Shared};

/// One blocking claim; a drain waits for it.
const WAIT: Duration = Duration::from_secs(1);
/// Claims in one call.
const AT_ONCE: usize = 32;

/// Claims sessions until the worker drains.
pub(crate) async fn sessions(shared: Arc<Shared>) {
    let mut back_off = BackOff::default();
    while let Some(mut permits) = admission(&shared, &shared.stream_permits).await {
        let claimed = shared.port.claim_sessions(shared.id(), permits.len(), WAIT).await;
        shared.health.note(&claimed);
        match claimed {
            Ok(claimed) => {
                back_off = BackOff::default();
                for claim in claimed {
                    let Some(permit) = permits.pop() else { break };
                    take_session(&shared, claim, permit).await;
                }
            }
            Err(error) => {
                tracing::debug!(reason = error.reason(), %error, "claiming sessions failed");
                back_off.wait(&shared.draining).await;
            }
        }
    }
}

/// Claims batch jobs until the worker drains.
pub(crate) async fn jobs(shared: Arc<Shared>) {
    let mut back_off = BackOff::default();
    while let Some(mut permits) = admission(&shared, &shared.job_permits).await {
        // How long a recording is shows only after the claim: near the bound one is taken at a time.
        let held = shared.jobs().samples();
        if held >= shared.config.job_samples {
            drop(permits);
            tokio::select! {
                () = shared.less.notified() => {}
                () = shared.draining.cancelled() => return,
            }
            continue;
        }
        if held * 2 >= shared.config.job_samples {
            permits.truncate(1);
        }
        let claimed = shared.port.claim_jobs(shared.id(), permits.len(), WAIT).await;
        shared.health.note(&claimed);
        match claimed {
            Ok(claimed) => {
                back_off = BackOff::default();
                let taken =
                    claimed.into_iter().filter_map(|claim| Some(take_job(&shared, claim, permits.pop()?)));
                futures::future::join_all(taken).await;
            }
            Err(error) => {
                tracing::debug!(reason = error.reason(), %error, "claiming jobs failed");
                back_off.wait(&shared.draining).await;
            }
        }
    }
}

/// Waits until new work may be taken and there is a free slot; takes more free ones along. `None` when draining.
async fn admission(shared: &Shared, free: &Arc<Semaphore>) -> Option<Vec<OwnedSemaphorePermit>> {
    let mut gate = shared.gate.clone();
    let enter = async {
        let first = free.clone().acquire_owned().await.ok()?;
        // A gate whose owner is gone stays as it was.
        if gate.wait_for(|gate| *gate == Gate::Open).await.is_err() {
            std::future::pending::<()>().await;
        }
        let more = std::iter::from_fn(|| free.clone().try_acquire_owned().ok());
        Some(std::iter::once(first).chain(more.take(AT_ONCE - 1)).collect())
    };
    tokio::select! {
        biased;
        () = shared.draining.cancelled() => None,
        permits = enter => permits,
    }
}

async fn take_session(shared: &Shared, claim: ClaimedSession, permit: OwnedSemaphorePermit) {
    if shared.draining.is_cancelled() {
        let released = shared.port.release_session(shared.id(), &claim).await;
        return shared.health.note(&released);
    }
    let session = &claim.state.session;
    if let Err(error) = check(shared, session.version, &session.options) {
        crate::metrics::finished(Some(error.kind.reason()));
        let end = || shared.port.end_session(shared.id(), &claim, SessionEnd::Failed(error.clone()));
        let ended = shared.health.insist(&shared.stopped, end).await;
        return log_failure(ended.err().as_ref());
    }
    let options = &session.options;
    let lookahead = options.lookahead.map_or(shared.info.default_lookahead, |l| l as usize);
    let stream = NewStream {
        options: SlotOptions { lookahead, chunks_per_step: 1 },
        rules: Rules { endpointing_ms: options.endpointing_ms, ..Rules::default() },
        start_samples: claim.state.committed_samples,
    };
    crate::metrics::claimed(Kind::Stream, unix_ms().saturating_sub(session.accepted_at_ms) as f32);
    let (id, epoch) = (session.id.clone(), claim.state.epoch);
    let occupant = shared.engine.occupant();
    // With room for the command first, opening and the inputs that the inbox brings keep their order.
    let Some(room) = shared.engine.reserve().await else { return };
    {
        let mut sessions = shared.sessions();
        let mut inputs: Vec<Input> = Vec::new();
        for routed in sessions.insert(claim, occupant, permit, shared.engine.now()) {
            match routed {
                Routed::Input(_, input) => inputs.push(input),
                Routed::Cancelled(entry) => shared.engine.close(entry.occupant),
                // What is missing is asked for again by the next message or the next look at the clock.
                Routed::Ask(_) | Routed::Nothing => {}
            }
        }
        let place = sessions.get_mut(occupant).and_then(|entry| telemetry::trace::place(&entry.span));
        room.send(Command::OpenStream(occupant, stream, inputs, place));
    }
    shared.show_active();
    tracing::info!(session = %id, epoch, "session claimed");
}

async fn take_job(shared: &Shared, claim: ClaimedJob, permit: OwnedSemaphorePermit) {
    if shared.draining.is_cancelled() {
        let released = shared.port.release_job(shared.id(), &claim).await;
        return shared.health.note(&released);
    }
    let queue_ms = unix_ms().saturating_sub(claim.job.accepted_at_ms) as f32;
    crate::metrics::claimed(Kind::Batch, queue_ms);
    tracing::info!(job = %claim.job.id, attempt = claim.attempt, "job claimed");
    let occupant = shared.engine.occupant();
    let job = claim.job.clone();
    let span = crate::trace::job(&claim, queue_ms);
    let place = telemetry::trace::place(&span);
    let entry = JobEntry { claim: claim.clone(), queue_ms, claimed_at: shared.engine.now(), permit, span };
    // Held from here on, so that the heartbeat keeps the claim while the audio travels.
    shared.jobs().insert(occupant, entry);
    shared.show_active();
    let prepared = match check(shared, job.version, &job.options) {
        Ok(()) => audio(shared, &claim).await,
        Err(error) => Err(error),
    };
    let samples = match prepared {
        Ok(samples) => samples,
        Err(error) => {
            if shared.drop_job(occupant).is_some() {
                refuse(shared, &claim, error, queue_ms).await;
            }
            return;
        }
    };
    let left_ms = job.deadline_ms.saturating_sub(unix_ms());
    let lookahead = job
        .options
        .lookahead
        .map_or_else(|| shared.info.lookaheads.iter().copied().max().unwrap_or(0), |l| l as usize);
    let new = NewJob {
        options: SlotOptions { lookahead, chunks_per_step: shared.config.job_chunks },
        samples,
        expires: Some(shared.engine.now() + Duration::from_millis(left_ms)),
    };
    let Some(room) = shared.engine.reserve().await else { return };
    // Cancelled meanwhile: then nothing of it may reach the engine.
    if shared.jobs().contains(occupant) {
        room.send(Command::OpenJob(occupant, new, place));
    }
}

async fn audio(shared: &Shared, claim: &ClaimedJob) -> Result<Vec<i16>, WorkError> {
    let id = &claim.job.id;
    let found = shared.health.insist(&shared.stopped, || shared.port.audio(id)).await;
    let lost = |why: &str| WorkError {
        kind: WorkErrorKind::AudioLost,
        message: format!("failed to read the audio of job {id}: {why}; send the request again"),
    };
    match found {
        // Hours of samples take long enough to keep others of this thread waiting, heartbeats among them.
        Ok(Some(pcm)) => {
            tokio::task::spawn_blocking(move || decode(&pcm)).await.map_err(|e| lost(&e.to_string()))
        }
        Ok(None) => Err(lost("it is no longer in the queue")),
        Err(error) => Err(lost(&error.to_string())),
    }
}

fn decode(pcm: &Bytes) -> Vec<i16> {
    pcm.chunks_exact(2).map(|s| i16::from_le_bytes([s[0], s[1]])).collect()
}

fn check(shared: &Shared, version: u32, options: &RecognizeOptions) -> Result<(), WorkError> {
    if version > CONTRACT_VERSION {
        return Err(WorkError {
            kind: WorkErrorKind::UnsupportedOption,
            message: format!(
                "failed to read work of contract version {version}: this worker reads up to {CONTRACT_VERSION}; \
                 update the workers before the gateway"
            ),
        });
    }
    shared.served.check(options)
}

async fn refuse(shared: &Shared, claim: &ClaimedJob, error: WorkError, queue_ms: f32) {
    crate::metrics::finished(Some(error.kind.reason()));
    let reply = BatchReply {
        job: claim.job.id.clone(),
        outcome: Err(error),
        timing: Timing { queue_ms, infer_ms: 0.0 },
    };
    let complete = || shared.port.complete(shared.id(), claim, reply.clone());
    let completed = shared.health.insist(&shared.stopped, complete).await;
    log_failure(completed.err().as_ref());
}

fn log_failure(error: Option<&queue::port::QueueError>) {
    if let Some(error) = error {
        tracing::warn!(reason = error.reason(), %error, "failed to answer work");
    }
}
