//! The heartbeat: keeps registration and claims, finds what was lost or forgotten, reads the queue's depth.
//!
//! Journey: beside all others, every quarter of a lease. Must not know: audio, words.

use std::sync::Arc;

use futures::future::join_all;
use queue::ids::GatewayId;
use queue::job::{WorkError, WorkErrorKind};
use queue::port::{Held, Lost, SessionEnd, WorkerPhase, WorkerRecord};
use tokio::time::MissedTickBehavior;
use workers_batch::Occupant;

use crate::metrics::Kind;
use crate::worker::Shared;

/// Beats until the worker stops.
pub(crate) async fn keep(shared: Arc<Shared>) {
    let mut every = tokio::time::interval(shared.config.lease / 4);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = every.tick() => {}
            () = shared.stopped.cancelled() => return,
        }
        once(&shared).await;
        look_around(&shared).await;
    }
}

/// One heartbeat.
pub(crate) async fn once(shared: &Shared) {
    let held = Held { jobs: shared.jobs().claims(), sessions: shared.sessions().claims() };
    let beat = shared.port.heartbeat(&record(shared), &held).await;
    shared.health.note(&beat);
    match beat {
        Ok(lost) => drop_lost(shared, &lost),
        Err(error) => tracing::debug!(reason = error.reason(), %error, "the heartbeat failed"),
    }
    let depth = shared.port.depth().await;
    if let Ok(depth) = depth {
        crate::metrics::depth(depth);
    }
}

fn record(shared: &Shared) -> WorkerRecord {
    let draining = shared.draining.is_cancelled();
    WorkerRecord {
        model: shared.served.model.clone(),
        languages: shared.served.languages.clone(),
        slots: shared.config.limits.streams as u32,
        active_streams: shared.sessions().len() as u32,
        active_requests: shared.jobs().len() as u32,
        draining,
        batch_slots: shared.config.limits.jobs as u32,
        phase: if draining { WorkerPhase::Draining } else { WorkerPhase::Ready },
        ..shared.about.record(shared.id(), shared.config.component)
    }
}

fn drop_lost(shared: &Shared, lost: &Lost) {
    for claim in &lost.sessions {
        let occupant = shared.sessions().by_claim(claim);
        if let Some(entry) = occupant.and_then(|o| shared.drop_session(o)) {
            tracing::warn!(session = %entry.claim.state.session.id, "another worker has the session");
            crate::metrics::lost(Kind::Stream);
        }
    }
    for claim in &lost.jobs {
        let occupant = shared.jobs().by_claim(claim);
        if let Some(entry) = occupant.and_then(|o| shared.drop_job(o)) {
            tracing::warn!(job = %entry.claim.job.id, "another worker has the job");
            crate::metrics::lost(Kind::Batch);
        }
    }
}

/// Sessions that went quiet: something may be lost, the gateway may be gone, the client may have forgotten them.
async fn look_around(shared: &Shared) {
    if shared.health.away() {
        // Nobody can be heard now.
        return;
    }
    let overdue = shared.sessions().overdue(shared.config.patience, shared.engine.now());
    if !overdue.asks.is_empty() {
        let published = shared.port.publish(&overdue.asks).await;
        shared.health.note(&published);
    }
    join_all(overdue.idle.into_iter().map(|o| time_out(shared, o))).await;
    join_all(overdue.quiet.into_iter().map(|(gateway, quiet)| visit(shared, gateway, quiet))).await;
}

async fn time_out(shared: &Shared, occupant: Occupant) {
    let Some(entry) = shared.drop_session(occupant) else { return };
    let session = &entry.claim.state.session.id;
    let seconds = shared.config.patience.idle.as_secs();
    tracing::info!(%session, seconds, "nothing heard of the session; it is closed");
    crate::metrics::finished(Some(WorkErrorKind::IdleTimeout.reason()));
    let error = WorkError {
        kind: WorkErrorKind::IdleTimeout,
        message: format!("session {session} was closed: no audio came for {seconds} s; open a new one"),
    };
    let end = || shared.port.end_session(shared.id(), &entry.claim, SessionEnd::Failed(error.clone()));
    if let Err(error) = shared.health.insist(&shared.stopped, end).await {
        tracing::warn!(reason = error.reason(), %error, "failed to end a session");
    }
}

/// A gateway that is gone gives no more audio: its sessions go back, where they wait for their clients.
async fn visit(shared: &Shared, gateway: GatewayId, quiet: Vec<Occupant>) {
    match shared.port.gateway_alive(&gateway).await {
        Ok(false) => {}
        Ok(true) => return,
        Err(error) => return shared.health.note::<()>(&Err(error)),
    }
    for occupant in quiet {
        let Some(entry) = shared.drop_session(occupant) else { continue };
        tracing::warn!(%gateway, session = %entry.claim.state.session.id, "the gateway is gone; its session waits for its client");
        let release = || shared.port.release_session(shared.id(), &entry.claim);
        if let Err(error) = shared.health.insist(&shared.stopped, release).await {
            tracing::warn!(reason = error.reason(), %error, "failed to release a session");
        }
    }
}
