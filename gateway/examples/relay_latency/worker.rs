//! A worker that claims every session and answers every chunk at once: what is left is the way there and back. Like a real
//! one it makes text final every few seconds, so that the gateway holds no more audio than it does in service.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use queue::ids::{GatewayId, SessionId, WorkerId};
use queue::job::Timing;
use queue::port::{ClaimedSession, Held, QueueLimits, SessionEnd, WorkerPort as _, WorkerRecord};
use queue::redis::RedisQueue;
use queue::session::{FinalReason, Segment, SessionEvent, ToGateway, ToWorker};
use tokio::sync::mpsc;

type Sessions = Arc<std::sync::Mutex<HashMap<SessionId, Arc<ClaimedSession>>>>;

/// Audio of a sentence, samples: 4 s.
const SENTENCE_SAMPLES: u64 = 64_000;

/// Claims sessions and answers every chunk at once.
pub(crate) async fn echo(queue: RedisQueue, slots: usize) {
    let id = WorkerId::generate();
    let record = WorkerRecord {
        model: "echo".to_owned(),
        languages: vec!["en".to_owned()],
        slots: slots as u32,
        ..WorkerRecord::ready(id.clone(), "asr")
    };
    let sessions: Sessions = Arc::default();
    let (claims, held, beat) = (queue.clone(), sessions.clone(), (queue.clone(), sessions.clone()));
    let claimer = id.clone();
    let lock = |s: &Sessions| s.lock().expect("nobody panics holding it").clone();
    let claiming = async move {
        loop {
            let new = claims.claim_sessions(&claimer, 64, Duration::from_secs(5)).await.unwrap_or_default();
            let new = new.into_iter().map(|c| (c.state.session.id.clone(), Arc::new(c)));
            held.lock().expect("nobody panics holding it").extend(new);
        }
    };
    let beating = async move {
        let mut tick = tokio::time::interval(QueueLimits::default().lease / 4);
        loop {
            tick.tick().await;
            let sessions = lock(&beat.1).into_values().map(|s| s.claim.clone()).collect();
            drop(beat.0.heartbeat(&record, &Held { jobs: Vec::new(), sessions }).await);
        }
    };
    // As in the real worker, what reads the inbox does not wait for what answers.
    let (answers, mut ready) = mpsc::channel::<Vec<(GatewayId, ToGateway)>>(64);
    let publisher = queue.clone();
    let publishing = async move {
        while let Some(events) = ready.recv().await {
            drop(publisher.publish(&events).await);
        }
    };
    let answering = async move {
        loop {
            let messages = queue.receive(&id, Duration::from_secs(5)).await.unwrap_or_default();
            let mut events = Vec::new();
            for message in messages {
                let known =
                    |s: &SessionId| sessions.lock().expect("nobody panics holding it").get(s).cloned();
                match message {
                    ToWorker::Audio { session, epoch, at_samples, pcm } => {
                        let Some(claim) = known(&session) else { continue };
                        let processed_samples = at_samples + pcm.len() as u64 / 2;
                        if let Some(segment) = sentence(&session, at_samples, processed_samples) {
                            let (queue, id, claim) = (queue.clone(), id.clone(), claim.clone());
                            tokio::spawn(async move { drop(queue.commit(&id, &claim, &segment).await) });
                        }
                        let timing = Timing::default();
                        let event = SessionEvent::Update { processed_samples, partial: None, timing };
                        events.push((
                            claim.state.session.gateway.clone(),
                            ToGateway::Session { session, epoch, event },
                        ));
                    }
                    ToWorker::End { session, .. } => {
                        let Some(claim) = known(&session) else { continue };
                        drop(queue.end_session(&id, &claim, SessionEnd::Closed { audio_ms: 0 }).await);
                    }
                    _ => {}
                }
            }
            if !events.is_empty() {
                drop(answers.send(events).await);
            }
        }
    };
    tokio::join!(claiming, beating, answering, publishing);
}

/// The sentence that ends within this audio, if one does. All sessions begin together here, but people do not end their
/// sentences together: each session's first one is cut short by a time of its own.
fn sentence(session: &SessionId, from: u64, to: u64) -> Option<Segment> {
    let mut hasher = DefaultHasher::new();
    session.hash(&mut hasher);
    let said_before = hasher.finish() % SENTENCE_SAMPLES;
    let index = (from + said_before) / SENTENCE_SAMPLES;
    ((to + said_before) / SENTENCE_SAMPLES > index).then(|| Segment {
        index: index as u32,
        text: String::new(),
        words: Vec::new(),
        start_ms: (index * SENTENCE_SAMPLES).saturating_sub(said_before) / 16,
        end_ms: to / 16,
        committed_samples: to,
        reason: FinalReason::Endpoint,
        language: "en".to_owned(),
    })
}
