//! The end of a worker: asked for (drain), or forced by a dead engine (abandon).
//!
//! Journey: `ready → work → [drain] → exit`. A drain takes no new work, lets live sessions and jobs finish, and hands
//! back what is left before the time is up, so that another worker goes on from the last commit.
//! Must not know: signals.

use std::time::Duration;

use futures::future::join_all;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use workers_batch::Occupant;

use crate::engine_thread::EngineExit;
use crate::worker::{Shared, WorkerError};

/// Kept for handing back what is left.
const RESERVE: Duration = Duration::from_secs(2);

/// Drains. The engine may still die meanwhile.
pub(crate) async fn drain(
    shared: &Shared,
    pullers: &mut JoinSet<()>,
    exit: oneshot::Receiver<EngineExit>,
) -> Result<(), WorkerError> {
    let (streams, jobs) = (shared.sessions().len(), shared.jobs().len());
    let timeout = shared.config.drain_timeout;
    tracing::info!(streams, jobs, timeout_ms = timeout.as_millis() as u64, "draining: no new work is taken");
    shared.draining.cancel();
    crate::beat::once(shared).await;
    let finish = async {
        while pullers.join_next().await.is_some() {}
        idle(shared).await;
    };
    let dead = tokio::select! {
        () = finish => None,
        () = tokio::time::sleep(timeout.saturating_sub(RESERVE.min(timeout / 4))) => None,
        exit = exit => exit.ok(),
    };
    if let Some(EngineExit::Fatal { detail, suspects }) = dead {
        abandon(shared, pullers, &suspects).await;
        return Err(WorkerError::Engine { detail });
    }
    hand_back(shared, pullers, &[]).await;
    tracing::info!("drained");
    Ok(())
}

/// Hands everything back at once, but for the suspects: their claims run out, which counts as an attempt, so that
/// work which kills engines ends in the dead letters.
pub(crate) async fn abandon(shared: &Shared, pullers: &mut JoinSet<()>, suspects: &[Occupant]) {
    shared.draining.cancel();
    hand_back(shared, pullers, suspects).await;
}

async fn hand_back(shared: &Shared, pullers: &mut JoinSet<()>, suspects: &[Occupant]) {
    let give = async {
        while pullers.join_next().await.is_some() {}
        let (sessions, jobs) = (shared.sessions().occupants(), shared.jobs().occupants());
        let kept = |o: &Occupant| !suspects.contains(o);
        let sessions = join_all(sessions.into_iter().filter(kept).map(|o| release_session(shared, o)));
        let jobs = join_all(jobs.into_iter().filter(kept).map(|o| release_job(shared, o)));
        futures::future::join(sessions, jobs).await;
        if let Err(error) = shared.port.unregister(shared.id()).await {
            tracing::warn!(reason = error.reason(), %error, "failed to unregister; the record runs out by itself");
        }
    };
    // A queue that is away must not keep the worker: its claims run out by themselves.
    if tokio::time::timeout(RESERVE, give).await.is_err() {
        tracing::warn!("failed to hand back all work in time; its claims run out by themselves");
    }
    pullers.abort_all();
}

async fn release_session(shared: &Shared, occupant: Occupant) {
    let Some(entry) = shared.drop_session(occupant) else { return };
    tracing::info!(session = %entry.claim.state.session.id, "session handed back");
    if let Err(error) = shared.port.release_session(shared.id(), &entry.claim).await {
        tracing::warn!(reason = error.reason(), %error, "failed to hand back a session");
    }
}

async fn release_job(shared: &Shared, occupant: Occupant) {
    let Some(entry) = shared.drop_job(occupant) else { return };
    tracing::info!(job = %entry.claim.job.id, "job handed back");
    if let Err(error) = shared.port.release_job(shared.id(), &entry.claim).await {
        tracing::warn!(reason = error.reason(), %error, "failed to hand back a job");
    }
}

/// Waits until nothing is held.
async fn idle(shared: &Shared) {
    loop {
        let less = shared.less.notified();
        tokio::pin!(less);
        less.as_mut().enable();
        if shared.idle() {
            return;
        }
        less.await;
    }
}
