//! Cases of live sessions.

use std::time::Duration;

use bytes::Bytes;
use queue::ids::{GatewayId, SessionId, WorkerId};
use queue::job::{Timing, WorkError, WorkErrorKind};
use queue::port::{Depth, GatewayRecord, Held, QueueError, QueueLimits, SessionEnd};
use queue::session::{SessionEvent, ToGateway, ToWorker};

use crate::rig::{Kind, LEASE, NOTHING, Rig, SOON, contract, limits, of_session, segment, session, success};

contract!(
    a_session_travels_from_open_to_closed,
    a_heartbeat_keeps_a_session_and_its_state,
    a_heartbeat_of_many_claims_tells_the_lost_ones_alone,
    the_attempt_cap_buries_a_session,
    a_commit_starts_the_count_of_attempts_anew,
    a_segment_committed_twice_is_sent_once,
    a_failed_session_tells_why,
    a_session_cancelled_while_it_waits_is_never_claimed,
    a_session_cancelled_while_it_is_held_is_told_to_the_worker,
    a_full_line_refuses_sessions,
    the_same_session_opened_twice_waits_once,
    session_depth_is_exact_through_all_of_it,
    a_session_ends_with_its_ttl,
    messages_come_in_order_and_once,
    a_session_event_of_an_older_epoch_is_seen_as_such,
);

fn parties() -> (GatewayId, WorkerId, WorkerId) {
    (GatewayId::generate(), WorkerId::generate(), WorkerId::generate())
}

fn audio(session: &SessionId, epoch: u32, at_samples: u64) -> ToWorker {
    ToWorker::Audio {
        session: session.clone(),
        epoch,
        at_samples,
        pcm: Bytes::from(vec![at_samples as u8; 5_120]),
    }
}

async fn a_session_travels_from_open_to_closed(kind: Kind) {
    let rig = Rig::new(kind).await;
    let (gateway, worker, _) = parties();
    let session = rig.open(&gateway).await;
    let claimed = rig.claim_session(&worker).await;
    assert_eq!((&claimed.state.session, claimed.epoch()), (&session, 1));
    let (id, epoch, event) = rig.event(&gateway).await;
    assert_eq!((&id, epoch), (&session.id, 1));
    let SessionEvent::Claimed { worker: owner, resume_at_samples, .. } = event else { panic!("{event:?}") };
    assert_eq!((&owner, resume_at_samples), (&worker, 0));

    let sent = [
        audio(&id, 1, 0),
        audio(&id, 1, 2_560),
        ToWorker::End { session: id.clone(), epoch: 1, at_samples: 5_120 },
    ];
    rig.gateway.send(&owner, &sent).await.unwrap();
    let mut got = Vec::new();
    while got.len() < 3 {
        got.extend(rig.worker.receive(&worker, SOON).await.unwrap());
    }
    assert_eq!(got, sent);

    rig.worker.commit(&worker, &claimed, &segment(0, "good morning", 5_120)).await.unwrap();
    let state = rig.gateway.session(&id).await.unwrap().unwrap();
    assert_eq!(
        (state.committed_samples, state.committed_text.as_str(), state.segments),
        (5_120, "good morning", 1)
    );
    assert_eq!(state.worker, Some(worker.clone()));
    rig.worker.end_session(&worker, &claimed, SessionEnd::Closed { audio_ms: 320 }).await.unwrap();
    let events = rig.messages(&gateway, 2).await;
    let of = |event| ToGateway::Session { session: id.clone(), epoch: 1, event };
    let expected = [
        of(SessionEvent::Final(segment(0, "good morning", 5_120))),
        of(SessionEvent::Closed { audio_ms: 320 }),
    ];
    assert_eq!(events, expected);
    assert_eq!(rig.gateway.session(&id).await.unwrap(), None, "nothing of a session outlives it");
    assert_eq!(rig.gateway.depth().await.unwrap(), Depth::default());
}

async fn a_heartbeat_keeps_a_session_and_its_state(kind: Kind) {
    let rig = Rig::with(kind, QueueLimits { session_ttl: LEASE * 2, ..limits() }).await;
    let (gateway, a, b) = parties();
    let session = rig.open(&gateway).await;
    let claimed = rig.claim_session(&a).await;
    let beats = async {
        let mut beat = tokio::time::interval(LEASE / 5);
        for _ in 0..20 {
            beat.tick().await;
            assert_eq!(rig.beat(&a, of_session(&claimed)).await, queue::port::Lost::default());
        }
    };
    let (stolen, ()) = tokio::join!(rig.worker.claim_sessions(&b, 1, LEASE * 7 / 2), beats);
    assert_eq!(stolen.unwrap(), []);
    assert!(rig.gateway.session(&session.id).await.unwrap().is_some());
}

async fn a_heartbeat_of_many_claims_tells_the_lost_ones_alone(kind: Kind) {
    let rig = Rig::with(kind, QueueLimits { lease: SOON, ..limits() }).await;
    let (gateway, worker, _) = parties();
    for _ in 0..40 {
        rig.open(&gateway).await;
        rig.submit(&gateway).await;
    }
    let (mut held, mut gone) = (Held::default(), Held::default());
    while held.sessions.len() < 40 {
        let claimed = rig.worker.claim_sessions(&worker, 40, SOON).await.unwrap();
        held.sessions.extend(claimed.iter().map(|session| session.claim.clone()));
        for session in claimed.into_iter().step_by(7) {
            gone.sessions.push(session.claim.clone());
            rig.worker.end_session(&worker, &session, SessionEnd::Cancelled).await.unwrap();
        }
    }
    while held.jobs.len() < 40 {
        let claimed = rig.worker.claim_jobs(&worker, 40, SOON).await.unwrap();
        held.jobs.extend(claimed.iter().map(|job| job.claim.clone()));
        for job in claimed.into_iter().step_by(7) {
            gone.jobs.push(job.claim.clone());
            let reply = success(&job.job, "heard");
            rig.worker.complete(&worker, &job, reply).await.unwrap();
        }
    }
    let lost = rig.beat(&worker, held).await;
    assert_eq!((lost.jobs, lost.sessions), (gone.jobs, gone.sessions));
}

async fn the_attempt_cap_buries_a_session(kind: Kind) {
    let rig = Rig::with(kind, QueueLimits { max_attempts: 2, ..limits() }).await;
    let (gateway, a, b) = parties();
    let session = rig.open(&gateway).await;
    rig.claim_session(&a).await;
    rig.gateway.heartbeat_gateway(&GatewayRecord::idle(gateway.clone())).await.unwrap();
    rig.claim_session(&b).await;
    rig.gateway.heartbeat_gateway(&GatewayRecord::idle(gateway.clone())).await.unwrap();
    assert_eq!(rig.worker.claim_sessions(&a, 1, LEASE * 2).await.unwrap(), []);
    let last = rig.messages(&gateway, 3).await.pop().unwrap();
    let ToGateway::Session { event: SessionEvent::Failed(error), epoch: 2, .. } = last else {
        panic!("{last:?}")
    };
    assert_eq!(error.kind, WorkErrorKind::AttemptsExhausted);
    let letters = rig.dead_letters().await;
    assert_eq!((letters[0].work.as_str(), letters[0].attempts), (session.id.as_str(), 2));
    assert_eq!(rig.gateway.session(&session.id).await.unwrap(), None);
    assert_eq!(rig.gateway.depth().await.unwrap(), Depth::default());
}

async fn a_commit_starts_the_count_of_attempts_anew(kind: Kind) {
    let rig = Rig::with(kind, QueueLimits { max_attempts: 1, ..limits() }).await;
    let (gateway, a, b) = parties();
    rig.open(&gateway).await;
    let first = rig.claim_session(&a).await;
    rig.worker.commit(&a, &first, &segment(0, "progress", 100)).await.unwrap();
    rig.gateway.heartbeat_gateway(&GatewayRecord::idle(gateway.clone())).await.unwrap();
    assert_eq!(rig.claim_session(&b).await.epoch(), 2);
}

async fn a_segment_committed_twice_is_sent_once(kind: Kind) {
    let rig = Rig::new(kind).await;
    let (gateway, worker, _) = parties();
    let session = rig.open(&gateway).await;
    let claimed = rig.claim_session(&worker).await;
    for (index, text, until) in [(0, "one", 10), (0, "one", 10), (1, "", 20), (2, "two", 30), (1, "", 20)] {
        rig.worker.commit(&worker, &claimed, &segment(index, text, until)).await.unwrap();
    }
    let state = rig.gateway.session(&session.id).await.unwrap().unwrap();
    assert_eq!((state.committed_text.as_str(), state.segments, state.committed_samples), ("one two", 3, 30));
    let events = rig.messages(&gateway, 4).await;
    assert_eq!(events.len(), 4, "{events:?}");
    assert!(rig.gateway.receive(&gateway, NOTHING).await.unwrap().is_empty());
}

async fn a_failed_session_tells_why(kind: Kind) {
    let rig = Rig::new(kind).await;
    let (gateway, worker, _) = parties();
    rig.open(&gateway).await;
    let claimed = rig.claim_session(&worker).await;
    let error = WorkError { kind: WorkErrorKind::Engine, message: "failed to decode".into() };
    rig.worker.end_session(&worker, &claimed, SessionEnd::Failed(error.clone())).await.unwrap();
    let last = rig.messages(&gateway, 2).await.pop().unwrap();
    assert!(matches!(last, ToGateway::Session { event: SessionEvent::Failed(e), .. } if e == error));
}

async fn a_session_cancelled_while_it_waits_is_never_claimed(kind: Kind) {
    let rig = Rig::new(kind).await;
    let (gateway, worker, _) = parties();
    let session = rig.open(&gateway).await;
    rig.gateway.cancel_session(&session.id).await.unwrap();
    assert_eq!(rig.worker.claim_sessions(&worker, 1, NOTHING).await.unwrap(), []);
    assert_eq!(rig.gateway.session(&session.id).await.unwrap(), None);
    assert_eq!(rig.gateway.depth().await.unwrap(), Depth::default());
}

async fn a_session_cancelled_while_it_is_held_is_told_to_the_worker(kind: Kind) {
    let rig = Rig::new(kind).await;
    let (gateway, worker, other) = parties();
    let session = rig.open(&gateway).await;
    let claimed = rig.claim_session(&worker).await;
    rig.gateway.cancel_session(&session.id).await.unwrap();
    let told = rig.worker.receive(&worker, SOON).await.unwrap();
    assert_eq!(told, [ToWorker::Cancel { session: session.id.clone(), epoch: 1 }]);
    assert_eq!(rig.beat(&worker, of_session(&claimed)).await.sessions, std::slice::from_ref(&claimed.claim));
    let error = rig.worker.commit(&worker, &claimed, &segment(0, "unheard", 1)).await.unwrap_err();
    assert_eq!(error.reason(), "ClaimLost");
    rig.worker.end_session(&worker, &claimed, SessionEnd::Cancelled).await.unwrap();
    assert_eq!(rig.worker.claim_sessions(&other, 1, LEASE * 2).await.unwrap(), []);
}

async fn a_full_line_refuses_sessions(kind: Kind) {
    let rig = Rig::with(kind, QueueLimits { max_session_depth: 1, ..limits() }).await;
    let (gateway, worker, _) = parties();
    rig.open(&gateway).await;
    let error = rig.gateway.open_session(&session(&gateway)).await.unwrap_err();
    assert!(matches!(error, QueueError::Full { waiting: 1, limit: 1 }), "{error}");
    let claimed = rig.claim_session(&worker).await;
    rig.open(&gateway).await;
    // Giving back is never refused.
    rig.worker.release_session(&worker, &claimed).await.unwrap();
    assert_eq!(rig.gateway.depth().await.unwrap().sessions, 2);
}

async fn the_same_session_opened_twice_waits_once(kind: Kind) {
    let rig = Rig::new(kind).await;
    let (gateway, worker, _) = parties();
    let session = rig.open(&gateway).await;
    rig.gateway.open_session(&session).await.unwrap();
    assert_eq!(rig.gateway.depth().await.unwrap().sessions, 1);
    rig.claim_session(&worker).await;
    assert_eq!(rig.worker.claim_sessions(&worker, 1, NOTHING).await.unwrap(), []);
}

async fn session_depth_is_exact_through_all_of_it(kind: Kind) {
    let rig = Rig::with(kind, QueueLimits { lease: SOON * 6, ..limits() }).await;
    let (gateway, a, b) = parties();
    let depth = || async { rig.gateway.depth().await.unwrap() };
    let first = rig.open(&gateway).await;
    let second = rig.open(&gateway).await;
    rig.open(&gateway).await;
    assert_eq!((depth().await.sessions, depth().await.batch), (3, 0));
    let one = rig.claim_session(&a).await;
    let two = rig.claim_session(&b).await;
    assert_eq!((&one.state.session.id, &two.state.session.id), (&first.id, &second.id));
    assert_eq!(depth().await.sessions, 1);
    rig.worker.release_session(&a, &one).await.unwrap();
    assert_eq!(depth().await.sessions, 2);
    rig.gateway.adopt_session(&second.id, &gateway).await.unwrap().unwrap();
    assert_eq!(depth().await.sessions, 3);
    rig.gateway.cancel_session(&second.id).await.unwrap();
    assert_eq!(depth().await.sessions, 2);
    for worker in [&a, &b] {
        let claimed = rig.claim_session(worker).await;
        rig.worker.end_session(worker, &claimed, SessionEnd::Closed { audio_ms: 0 }).await.unwrap();
    }
    assert_eq!(depth().await, Depth::default());
    rig.open(&gateway).await;
    let mut aged = tokio::time::interval(Duration::from_millis(5));
    while depth().await.session_oldest_ms < 50 {
        aged.tick().await;
    }
    rig.claim_session(&a).await;
    assert_eq!(depth().await, Depth::default());
}

async fn a_session_ends_with_its_ttl(kind: Kind) {
    let rig = Rig::with(kind, QueueLimits { session_ttl: Duration::from_millis(200), ..limits() }).await;
    let (gateway, worker, _) = parties();
    let session = rig.open(&gateway).await;
    let mut look = tokio::time::interval(Duration::from_millis(20));
    let gone = async {
        while rig.gateway.session(&session.id).await.unwrap().is_some()
            || rig.gateway.depth().await.unwrap().sessions > 0
        {
            look.tick().await;
        }
    };
    tokio::time::timeout(SOON, gone).await.expect("a session nobody keeps must go");
    assert_eq!(rig.worker.claim_sessions(&worker, 1, NOTHING).await.unwrap(), []);
}

async fn messages_come_in_order_and_once(kind: Kind) {
    let rig = Rig::new(kind).await;
    let (gateway, worker, _) = parties();
    let id = SessionId::generate();
    let sent: Vec<ToWorker> = (0..300).map(|i| audio(&id, 1, i)).collect();
    for some in sent.chunks(7) {
        rig.gateway.send(&worker, some).await.unwrap();
    }
    rig.gateway.send(&worker, &[]).await.unwrap();
    let mut got = Vec::new();
    while got.len() < sent.len() {
        let more = rig.worker.receive(&worker, SOON).await.unwrap();
        assert!(!more.is_empty());
        got.extend(more);
    }
    assert!(got == sent);
    assert!(rig.worker.receive(&worker, NOTHING).await.unwrap().is_empty());

    let other = GatewayId::generate();
    let event = |i: u64| ToGateway::Session {
        session: id.clone(),
        epoch: 1,
        event: SessionEvent::Update { processed_samples: i, partial: None, timing: Timing::default() },
    };
    let both: Vec<_> =
        (0..50).flat_map(|i| [(gateway.clone(), event(i)), (other.clone(), event(i))]).collect();
    rig.worker.publish(&both).await.unwrap();
    rig.worker.publish(&[]).await.unwrap();
    for to in [&gateway, &other] {
        assert_eq!(rig.messages(to, 50).await, (0..50).map(event).collect::<Vec<_>>());
    }
}

async fn a_session_event_of_an_older_epoch_is_seen_as_such(kind: Kind) {
    let rig = Rig::with(kind, QueueLimits { lease: SOON * 6, ..limits() }).await;
    let (gateway, a, b) = parties();
    rig.open(&gateway).await;
    let old = rig.claim_session(&a).await;
    rig.worker.release_session(&a, &old).await.unwrap();
    let new = rig.claim_session(&b).await;
    let stale = ToGateway::Session {
        session: old.state.session.id.clone(),
        epoch: old.epoch(),
        event: SessionEvent::Replay { from_samples: 0 },
    };
    rig.worker.publish(&[(gateway.clone(), stale.clone())]).await.unwrap();
    let events = rig.messages(&gateway, 4).await;
    assert_eq!(events[3], stale);
    assert!(old.epoch() < new.epoch());
}
