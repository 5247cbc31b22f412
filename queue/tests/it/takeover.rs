//! Cases of sessions that change hands: from worker to worker, from gateway to gateway.

use queue::ids::{GatewayId, SessionId, WorkerId};
use queue::job::WorkErrorKind;
use queue::port::{Depth, GatewayRecord, QueueError, QueueLimits, SessionEnd};
use queue::session::{SessionEvent, ToGateway, ToWorker};

use crate::rig::{Kind, LEASE, NOTHING, Rig, SOON, contract, limits, of_session, segment};

contract!(
    a_dead_workers_session_resumes_from_its_commit,
    a_released_session_is_claimed_at_once_under_the_next_epoch,
    drains_do_not_use_up_attempts,
    a_commit_after_the_claim_was_lost_says_so,
    ends_after_the_claim_was_lost_do_nothing,
    another_gateway_adopts_a_session,
    a_client_that_comes_back_to_its_own_gateway_goes_on,
    an_adopted_session_that_never_was_is_none,
    a_waiting_session_of_a_gone_gateway_is_parked_until_it_is_adopted,
);

fn parties() -> (GatewayId, WorkerId, WorkerId) {
    (GatewayId::generate(), WorkerId::generate(), WorkerId::generate())
}

async fn a_dead_workers_session_resumes_from_its_commit(kind: Kind) {
    let rig = Rig::new(kind).await;
    let (gateway, a, b) = parties();
    rig.open(&gateway).await;
    let first = rig.claim_session(&a).await;
    rig.worker.commit(&a, &first, &segment(0, "what was said", 16_000)).await.unwrap();
    rig.gateway.heartbeat_gateway(&GatewayRecord::idle(gateway.clone())).await.unwrap();
    let second = rig.claim_session(&b).await;
    assert_eq!(second.epoch(), 2);
    assert_eq!((second.state.committed_samples, second.state.segments), (16_000, 1));
    assert_eq!(second.state.committed_text, "what was said");
    let events = rig.messages(&gateway, 3).await;
    let ToGateway::Session {
        epoch: 2, event: SessionEvent::Claimed { worker, resume_at_samples, .. }, ..
    } = &events[2]
    else {
        panic!("{events:?}")
    };
    assert_eq!((worker, *resume_at_samples), (&b, 16_000));
    let lost = rig.beat(&a, of_session(&first)).await;
    assert_eq!(lost.sessions, [first.claim]);
}

async fn a_released_session_is_claimed_at_once_under_the_next_epoch(kind: Kind) {
    let rig = Rig::with(kind, QueueLimits { lease: SOON * 6, ..limits() }).await;
    let (gateway, a, b) = parties();
    let session = rig.open(&gateway).await;
    let claimed = rig.claim_session(&a).await;
    rig.worker.release_session(&a, &claimed).await.unwrap();
    assert_eq!(rig.gateway.session(&session.id).await.unwrap().unwrap().worker, None);
    assert_eq!(rig.gateway.depth().await.unwrap().sessions, 1);
    let again = rig.claim_session(&b).await;
    assert_eq!(again.epoch(), 2);
    let events = rig.messages(&gateway, 3).await;
    assert!(
        matches!(&events[1], ToGateway::Session { epoch: 1, event: SessionEvent::Released, .. }),
        "{events:?}"
    );
    assert!(
        matches!(&events[2], ToGateway::Session { epoch: 2, event: SessionEvent::Claimed { .. }, .. }),
        "{events:?}"
    );
    rig.worker.release_session(&a, &claimed).await.unwrap();
    assert_eq!(
        rig.beat(&b, of_session(&again)).await,
        queue::port::Lost::default(),
        "a void claim releases nothing"
    );
}

async fn drains_do_not_use_up_attempts(kind: Kind) {
    let rig = Rig::with(kind, QueueLimits { max_attempts: 2, lease: SOON * 6, ..limits() }).await;
    let (gateway, a, b) = parties();
    rig.open(&gateway).await;
    for (round, worker) in [&a, &b].into_iter().cycle().take(8).enumerate() {
        let claimed = rig.claim_session(worker).await;
        assert_eq!(claimed.epoch() as usize, round + 1);
        rig.worker.release_session(worker, &claimed).await.unwrap();
    }
}

async fn a_commit_after_the_claim_was_lost_says_so(kind: Kind) {
    let rig = Rig::new(kind).await;
    let (gateway, a, b) = parties();
    let session = rig.open(&gateway).await;
    let lost = rig.claim_session(&a).await;
    rig.gateway.heartbeat_gateway(&GatewayRecord::idle(gateway.clone())).await.unwrap();
    let taken = rig.claim_session(&b).await;
    let error = rig.worker.commit(&a, &lost, &segment(0, "from the dead", 10)).await.unwrap_err();
    assert!(matches!(&error, QueueError::ClaimLost { work } if work == session.id.as_str()), "{error}");
    rig.worker.commit(&b, &taken, &segment(0, "from the living", 10)).await.unwrap();
    let state = rig.gateway.session(&session.id).await.unwrap().unwrap();
    assert_eq!(state.committed_text, "from the living");
}

async fn ends_after_the_claim_was_lost_do_nothing(kind: Kind) {
    let rig = Rig::new(kind).await;
    let (gateway, a, b) = parties();
    let session = rig.open(&gateway).await;
    let lost = rig.claim_session(&a).await;
    rig.gateway.heartbeat_gateway(&GatewayRecord::idle(gateway.clone())).await.unwrap();
    let taken = rig.claim_session(&b).await;
    rig.worker.end_session(&a, &lost, SessionEnd::Closed { audio_ms: 1 }).await.unwrap();
    rig.worker.release_session(&a, &lost).await.unwrap();
    assert!(rig.gateway.session(&session.id).await.unwrap().is_some());
    assert_eq!(rig.beat(&b, of_session(&taken)).await, queue::port::Lost::default());
    assert_eq!(rig.messages(&gateway, 2).await.len(), 2, "two claims and nothing else");
    assert!(rig.gateway.receive(&gateway, NOTHING).await.unwrap().is_empty());
}

async fn another_gateway_adopts_a_session(kind: Kind) {
    let rig = Rig::new(kind).await;
    let (first, worker, other) = parties();
    let second = GatewayId::generate();
    let session = rig.open(&first).await;
    let claimed = rig.claim_session(&worker).await;
    rig.worker.commit(&worker, &claimed, &segment(0, "so far", 777)).await.unwrap();
    let state = rig.gateway.adopt_session(&session.id, &second).await.unwrap().unwrap();
    assert_eq!((&state.session.gateway, state.committed_samples), (&second, 777));
    let told = rig.worker.receive(&worker, SOON).await.unwrap();
    assert_eq!(told, [ToWorker::Cancel { session: session.id.clone(), epoch: 1 }]);
    let error = rig.worker.commit(&worker, &claimed, &segment(1, "late", 999)).await.unwrap_err();
    assert_eq!(error.reason(), "ClaimLost");
    let again = rig.claim_session(&other).await;
    assert_eq!((again.epoch(), &again.state.session.gateway), (2, &second));
    let (_, epoch, event) = rig.event(&second).await;
    assert!(matches!(event, SessionEvent::Claimed { resume_at_samples: 777, .. }) && epoch == 2);
    // The former gateway, should it live, learns that the session is no longer its own.
    let last = rig.messages(&first, 3).await.pop().unwrap();
    let ToGateway::Session { event: SessionEvent::Failed(error), .. } = last else { panic!("{last:?}") };
    assert_eq!(error.kind, WorkErrorKind::Cancelled);
}

async fn a_client_that_comes_back_to_its_own_gateway_goes_on(kind: Kind) {
    let rig = Rig::new(kind).await;
    let (gateway, worker, _) = parties();
    let session = rig.open(&gateway).await;
    rig.claim_session(&worker).await;
    rig.gateway.adopt_session(&session.id, &gateway).await.unwrap().unwrap();
    assert_eq!(rig.gateway.depth().await.unwrap().sessions, 1);
    assert_eq!(rig.claim_session(&worker).await.epoch(), 2);
    let events = rig.messages(&gateway, 2).await;
    assert!(
        events.iter().all(|e| matches!(e, ToGateway::Session { event: SessionEvent::Claimed { .. }, .. }))
    );
}

async fn an_adopted_session_that_never_was_is_none(kind: Kind) {
    let rig = Rig::new(kind).await;
    let (gateway, worker, _) = parties();
    let nobody = SessionId::generate();
    assert_eq!(rig.gateway.adopt_session(&nobody, &gateway).await.unwrap(), None);
    assert_eq!(rig.gateway.session(&nobody).await.unwrap(), None);
    rig.gateway.cancel_session(&nobody).await.unwrap();
    assert_eq!(rig.worker.claim_sessions(&worker, 1, NOTHING).await.unwrap(), []);
}

async fn a_waiting_session_of_a_gone_gateway_is_parked_until_it_is_adopted(kind: Kind) {
    let rig = Rig::new(kind).await;
    let (gateway, worker, _) = parties();
    let session = rig.open(&gateway).await;
    let mut look = tokio::time::interval(LEASE / 10);
    let gone = async {
        while rig.worker.gateway_alive(&gateway).await.unwrap() {
            look.tick().await;
        }
    };
    tokio::time::timeout(SOON, gone).await.expect("a silent gateway is gone after some leases");
    assert_eq!(rig.worker.claim_sessions(&worker, 1, NOTHING).await.unwrap(), []);
    assert_eq!(rig.gateway.depth().await.unwrap(), Depth::default());
    assert!(rig.gateway.session(&session.id).await.unwrap().is_some(), "its client may come back");
    let second = GatewayId::generate();
    rig.gateway.adopt_session(&session.id, &second).await.unwrap().unwrap();
    assert_eq!(rig.claim_session(&worker).await.state.session.gateway, second);
}
