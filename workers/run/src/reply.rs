//! Carries what steps brought back to the gateways.
//!
//! Journey: `engine thread → [reply] → Redis`. In: ticks, in order. Out: updates of all sessions in one call, then
//! commits and answers, then what must follow them. A tick is finished before the next one begins, so the order of
//! each session is kept. While the queue is away it insists, and the engine pauses behind it.
//! Must not know: audio, slots.

use std::sync::Arc;

use futures::future::join_all;
use queue::ids::GatewayId;
use queue::job::{BatchReply, Timing, Transcript, Word, WorkError, WorkErrorKind};
use queue::port::{ClaimedSession, QueueError, SessionEnd};
use queue::session::{FinalReason, Partial, Segment, SessionEvent, ToGateway};
use tokio::sync::mpsc;
use workers_batch::{CutReason, Event, Occupant, SegmentText, Spoken, What};

use crate::clock::unix_ms;
use crate::engine_thread::Tick;
use crate::jobs::JobEntry;
use crate::metrics::{JobTimes, Kind};
use crate::sessions::Routed;
use crate::worker::Shared;

/// What one tick must send, in this order.
#[derive(Default)]
struct Outbox {
    updates: Vec<(GatewayId, ToGateway)>,
    commits: Vec<(Occupant, ClaimedSession, Segment)>,
    answers: Vec<(JobEntry, BatchReply)>,
    after: Vec<(GatewayId, ToGateway)>,
    ends: Vec<(ClaimedSession, SessionEnd)>,
}

/// Carries until the engine thread is gone or the worker stops.
pub(crate) async fn carry(shared: Arc<Shared>, mut ticks: mpsc::Receiver<Tick>) {
    loop {
        let tick = tokio::select! {
            biased;
            () = shared.stopped.cancelled() => return,
            tick = ticks.recv() => tick,
        };
        let Some(tick) = tick else { return };
        let mut outbox = Outbox::default();
        for event in tick.events {
            sort(&shared, event, &mut outbox);
        }
        send(&shared, outbox).await;
    }
}

async fn send(shared: &Shared, outbox: Outbox) {
    publish(shared, &outbox.updates).await;
    let commits = join_all(outbox.commits.iter().map(|c| commit(shared, c)));
    let answers = join_all(outbox.answers.iter().map(|(entry, reply)| answer(shared, entry, reply)));
    futures::future::join(commits, answers).await;
    publish(shared, &outbox.after).await;
    join_all(outbox.ends.iter().map(|(claim, end)| finish(shared, claim, end))).await;
    if !outbox.answers.is_empty() || !outbox.ends.is_empty() {
        drop(outbox);
        shared.tell_less();
    }
}

/// Finds whom an event is for, and what it says on the wire. Events of those that are gone lead to nothing.
fn sort(shared: &Shared, event: Event, outbox: &mut Outbox) {
    let occupant = event.occupant;
    match event.what {
        What::Transcript { .. } | What::Expired => return sort_job(shared, event, outbox),
        What::Failed { .. } if shared.jobs().contains(occupant) => return sort_job(shared, event, outbox),
        _ => {}
    }
    let mut sessions = shared.sessions();
    if let What::Update { processed_samples, waited, .. } = &event.what {
        crate::metrics::chunk(*waited);
        if let Some(Routed::Ask(ask)) = sessions.processed(occupant, *processed_samples, shared.engine.now())
        {
            outbox.updates.push(ask);
        }
    }
    let Some(entry) = sessions.get_mut(occupant) else { return };
    match event.what {
        What::Update { processed_samples, partial, waited, took } => {
            shared.meter.audio_ms(entry.meter_ms(processed_samples));
            let timing = Timing { queue_ms: ms(waited), infer_ms: ms(took) };
            let partial = partial.map(|spoken| Partial { words: words(&spoken), text: spoken.text });
            outbox.updates.push(entry.event(SessionEvent::Update { processed_samples, partial, timing }));
        }
        What::Speech { started, at_ms } => {
            outbox.updates.push(entry.event(SessionEvent::Speech { started, at_ms }));
        }
        What::Final(text) => {
            let segment = segment(text, entry.next_segment, &entry.claim.state.session.options.language);
            entry.next_segment += 1;
            outbox.commits.push((occupant, entry.claim.clone(), segment));
        }
        What::Flushed { at_samples } => outbox.after.push(entry.event(SessionEvent::Flushed { at_samples })),
        What::Ended { at_samples } => {
            let audio_ms = at_samples * 1_000 / u64::from(workers_engine::SAMPLE_RATE_HZ);
            end(shared, sessions.remove(occupant), SessionEnd::Closed { audio_ms }, outbox);
        }
        What::Failed { detail } => {
            let error = engine_error("this session", &detail);
            end(shared, sessions.remove(occupant), SessionEnd::Failed(error), outbox);
        }
        What::Transcript { .. } | What::Expired => {}
    }
}

fn end(shared: &Shared, entry: Option<crate::sessions::Entry>, end: SessionEnd, outbox: &mut Outbox) {
    let Some(entry) = entry else { return };
    let reason = if let SessionEnd::Failed(error) = &end { Some(error.kind.reason()) } else { None };
    crate::metrics::finished(reason);
    shared.meter.requests(1);
    entry.span.record("reason", reason);
    tracing::info!(session = %entry.claim.state.session.id, reason, "session over");
    outbox.ends.push((entry.claim, end));
}

fn sort_job(shared: &Shared, event: Event, outbox: &mut Outbox) {
    let Some(entry) = shared.jobs().remove(event.occupant) else { return };
    let job = &entry.claim.job;
    let audio_ms = job.samples * 1_000 / u64::from(workers_engine::SAMPLE_RATE_HZ);
    let mut timing = Timing { queue_ms: entry.queue_ms, infer_ms: 0.0 };
    let outcome = match event.what {
        What::Transcript { spoken, took, .. } => {
            timing.infer_ms = ms(took);
            Ok(Transcript {
                words: words(&spoken),
                text: spoken.text,
                model: shared.served.model.clone(),
                language: job.options.language.clone(),
                audio_ms,
            })
        }
        What::Expired => Err(WorkError {
            kind: WorkErrorKind::DeadlineExceeded,
            message: format!(
                "failed to finish job {} in time: its deadline passed on the engine; retry later, send shorter \
                 audio or add workers",
                job.id
            ),
        }),
        What::Failed { detail } => Err(engine_error(job.id.as_str(), &detail)),
        _ => return,
    };
    let reason = outcome.as_ref().err().map(|e| e.kind.reason());
    crate::metrics::finished(reason);
    shared.meter.requests(1);
    if reason.is_none() {
        shared.meter.audio_ms(audio_ms);
        let claimed_ms = shared.engine.now().saturating_sub(entry.claimed_at).as_millis() as u64;
        let e2e_ms = unix_ms().saturating_sub(job.accepted_at_ms);
        let times = JobTimes { audio_ms, infer_ms: timing.infer_ms, claimed_ms, e2e_ms };
        crate::metrics::job(&job.options.language, times);
    }
    entry.span.record("reason", reason);
    tracing::info!(job = %job.id, audio_ms, infer_ms = timing.infer_ms, reason, "job over");
    let reply = BatchReply { job: job.id.clone(), outcome, timing };
    outbox.answers.push((entry, reply));
}

async fn publish(shared: &Shared, events: &[(GatewayId, ToGateway)]) {
    if events.is_empty() {
        return;
    }
    let published = shared.health.insist(&shared.stopped, || shared.port.publish(events)).await;
    log_failure("publish events", published.err().as_ref());
}

async fn commit(shared: &Shared, (occupant, claim, segment): &(Occupant, ClaimedSession, Segment)) {
    let commit = || shared.port.commit(shared.id(), claim, segment);
    match shared.health.insist(&shared.stopped, commit).await {
        Ok(()) => {}
        Err(error @ QueueError::ClaimLost { .. }) => {
            tracing::info!(%error, "another worker has the session");
            if shared.drop_session(*occupant).is_some() {
                crate::metrics::lost(Kind::Stream);
            }
        }
        Err(error) => log_failure("commit a segment", Some(&error)),
    }
}

async fn answer(shared: &Shared, entry: &JobEntry, reply: &BatchReply) {
    let complete = || shared.port.complete(shared.id(), &entry.claim, reply.clone());
    let completed = shared.health.insist(&shared.stopped, complete).await;
    log_failure("answer a job", completed.err().as_ref());
}

async fn finish(shared: &Shared, claim: &ClaimedSession, end: &SessionEnd) {
    let finish = || shared.port.end_session(shared.id(), claim, end.clone());
    let finished = shared.health.insist(&shared.stopped, finish).await;
    log_failure("end a session", finished.err().as_ref());
}

fn log_failure(what: &'static str, error: Option<&QueueError>) {
    if let Some(error) = error {
        tracing::warn!(reason = error.reason(), %error, "failed to {what}");
    }
}

fn engine_error(what: &str, detail: &str) -> WorkError {
    WorkError {
        kind: WorkErrorKind::Engine,
        message: format!(
            "failed to recognize {what}: {detail}; retry, and see the worker's log when it happens again"
        ),
    }
}

fn segment(text: SegmentText, index: u32, language: &str) -> Segment {
    Segment {
        index,
        words: words(&text.spoken),
        text: text.spoken.text,
        start_ms: text.start_ms,
        end_ms: text.end_ms,
        committed_samples: text.committed_samples,
        reason: match text.reason {
            CutReason::Endpoint | CutReason::Silence => FinalReason::Endpoint,
            CutReason::Flush => FinalReason::Flush,
            CutReason::End => FinalReason::End,
            CutReason::MaxUtterance => FinalReason::MaxUtterance,
        },
        language: language.to_owned(),
    }
}

fn words(spoken: &Spoken) -> Vec<Word> {
    let word = |w: &workers_batch::SpokenWord| Word {
        word: w.word.clone(),
        start_ms: w.start_ms,
        end_ms: w.end_ms,
        confidence: w.confidence,
    };
    spoken.words.iter().map(word).collect()
}

fn ms(duration: std::time::Duration) -> f32 {
    duration.as_secs_f32() * 1_000.0
}
