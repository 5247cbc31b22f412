//! Cases of batch jobs.

use std::time::Duration;

use bytes::Bytes;
use queue::ids::{GatewayId, WorkerId};
use queue::job::WorkErrorKind;
use queue::port::{Depth, Held, QueueError, QueueLimits};
use queue::session::ToWorker;

use crate::rig::{Kind, LEASE, NOTHING, Rig, SOON, contract, job, limits, now_ms, of_job, record, success};

contract!(
    a_job_is_claimed_with_its_audio_and_answered,
    jobs_are_claimed_in_order,
    two_workers_share_the_jobs,
    a_waiting_worker_is_woken_by_a_job,
    a_heartbeat_keeps_a_claim,
    a_dead_workers_job_goes_to_another,
    the_attempt_cap_buries_a_job,
    a_released_job_is_claimed_at_once,
    a_job_cancelled_before_its_claim_is_never_claimed,
    a_job_cancelled_after_its_claim_is_told_to_the_worker,
    a_late_job_is_answered_and_never_claimed,
    a_job_completed_after_the_claim_was_lost_is_not_answered_twice,
    a_full_line_refuses,
    the_same_job_submitted_twice_runs_once,
    depth_is_exact_through_all_of_it,
    a_dead_workers_jobs_count_as_waiting,
    audio_ends_with_its_ttl,
    audio_of_many_parts_comes_back_whole,
    an_empty_recording_is_not_a_lost_one,
    many_jobs_are_claimed_at_once_up_to_the_maximum,
);

fn parties() -> (GatewayId, WorkerId, WorkerId) {
    (GatewayId::generate(), WorkerId::generate(), WorkerId::generate())
}

async fn a_job_is_claimed_with_its_audio_and_answered(kind: Kind) {
    let rig = Rig::new(kind).await;
    let (gateway, worker, _) = parties();
    let job = rig.submit(&gateway).await;
    let claimed = rig.claim_job(&worker).await;
    assert_eq!((&claimed.job, claimed.attempt), (&job, 1));
    assert_eq!(rig.worker.audio(&job.id).await.unwrap(), Some(Bytes::from_static(b"sound")));
    rig.worker.complete(&worker, &claimed, success(&job, "hello")).await.unwrap();
    assert_eq!(rig.reply(&gateway).await, success(&job, "hello"));
    assert_eq!(rig.worker.audio(&job.id).await.unwrap(), None, "audio goes with the answer");
    assert!(rig.gateway.receive(&gateway, NOTHING).await.unwrap().is_empty(), "answered once");
    assert!(rig.worker.claim_jobs(&worker, 1, NOTHING).await.unwrap().is_empty(), "and forgotten");
}

async fn jobs_are_claimed_in_order(kind: Kind) {
    let rig = Rig::new(kind).await;
    let (gateway, worker, _) = parties();
    let mut submitted = Vec::new();
    for _ in 0..20 {
        submitted.push(rig.submit(&gateway).await.id);
    }
    let mut claimed = Vec::new();
    while claimed.len() < 20 {
        let more = rig.worker.claim_jobs(&worker, 7, SOON).await.unwrap();
        assert!(more.len() <= 7);
        claimed.extend(more.into_iter().map(|c| c.job.id));
    }
    assert_eq!(claimed, submitted);
}

async fn two_workers_share_the_jobs(kind: Kind) {
    let rig = Rig::new(kind).await;
    let (gateway, a, b) = parties();
    for _ in 0..10 {
        rig.submit(&gateway).await;
    }
    let mut seen = Vec::new();
    for worker in [&a, &b].into_iter().cycle().take(10) {
        seen.push(rig.claim_job(worker).await.job.id);
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 10, "each job goes to one worker");
}

async fn a_waiting_worker_is_woken_by_a_job(kind: Kind) {
    // With a long lease nothing but the job itself can wake it.
    let rig = Rig::with(kind, QueueLimits { lease: SOON * 6, ..limits() }).await;
    let (gateway, worker, _) = parties();
    let started = std::time::Instant::now();
    let claim = rig.worker.claim_jobs(&worker, 1, SOON * 3);
    let submit = async {
        tokio::task::yield_now().await;
        rig.submit(&gateway).await
    };
    let (claimed, job) = tokio::join!(claim, submit);
    assert_eq!(claimed.unwrap()[0].job, job);
    assert!(started.elapsed() < SOON);
}

async fn a_heartbeat_keeps_a_claim(kind: Kind) {
    let rig = Rig::new(kind).await;
    let (gateway, a, b) = parties();
    rig.submit(&gateway).await;
    let claimed = rig.claim_job(&a).await;
    let beats = async {
        let mut beat = tokio::time::interval(LEASE / 5);
        for _ in 0..15 {
            beat.tick().await;
            let lost = rig.beat(&a, of_job(&claimed)).await;
            assert_eq!(lost, queue::port::Lost::default());
        }
    };
    let thief = rig.worker.claim_jobs(&b, 1, LEASE * 5 / 2);
    let (stolen, ()) = tokio::join!(thief, beats);
    assert_eq!(stolen.unwrap(), []);
}

async fn a_dead_workers_job_goes_to_another(kind: Kind) {
    let rig = Rig::new(kind).await;
    let (gateway, a, b) = parties();
    let job = rig.submit(&gateway).await;
    let lost = rig.claim_job(&a).await;
    let taken = rig.claim_job(&b).await;
    assert_eq!((&taken.job, taken.attempt), (&job, 2));
    assert_eq!(rig.beat(&a, of_job(&lost)).await.jobs, [lost.claim], "the first worker learns of it");
    assert_eq!(rig.beat(&b, of_job(&taken)).await.jobs, [""; 0]);
    rig.worker.complete(&b, &taken, success(&job, "late but whole")).await.unwrap();
    assert_eq!(rig.reply(&gateway).await.outcome.unwrap().text, "late but whole");
}

async fn the_attempt_cap_buries_a_job(kind: Kind) {
    let rig = Rig::with(kind, QueueLimits { max_attempts: 2, ..limits() }).await;
    let (gateway, a, b) = parties();
    let job = rig.submit(&gateway).await;
    assert_eq!(rig.claim_job(&a).await.attempt, 1);
    assert_eq!(rig.claim_job(&b).await.attempt, 2);
    assert_eq!(rig.worker.claim_jobs(&a, 1, LEASE * 3).await.unwrap(), []);
    assert_eq!(rig.failure(&gateway).await, (job.id.clone(), WorkErrorKind::AttemptsExhausted));
    let letters = rig.dead_letters().await;
    assert_eq!(letters.len(), 1);
    assert_eq!((letters[0].work.as_str(), letters[0].attempts), (job.id.as_str(), 2));
    assert_eq!(letters[0].last_worker, b.as_str());
    assert_eq!(rig.worker.audio(&job.id).await.unwrap(), None);
    assert_eq!(rig.gateway.depth().await.unwrap(), Depth::default());
}

async fn a_released_job_is_claimed_at_once(kind: Kind) {
    let rig = Rig::with(kind, QueueLimits { lease: SOON * 6, ..limits() }).await;
    let (gateway, a, b) = parties();
    let job = rig.submit(&gateway).await;
    let claimed = rig.claim_job(&a).await;
    rig.worker.release_job(&a, &claimed).await.unwrap();
    assert_eq!(rig.gateway.depth().await.unwrap().batch, 1);
    let again = rig.claim_job(&b).await;
    assert_eq!((&again.job, again.attempt), (&job, 2), "attempts are counted on");
    // The first worker's claim is void.
    rig.worker.release_job(&a, &claimed).await.unwrap();
    rig.worker.complete(&a, &claimed, success(&job, "too late")).await.unwrap();
    rig.worker.complete(&b, &again, success(&job, "right")).await.unwrap();
    assert_eq!(rig.reply(&gateway).await.outcome.unwrap().text, "right");
    assert_eq!(rig.gateway.depth().await.unwrap(), Depth::default());
}

async fn a_job_cancelled_before_its_claim_is_never_claimed(kind: Kind) {
    let rig = Rig::new(kind).await;
    let (gateway, worker, _) = parties();
    let job = rig.submit(&gateway).await;
    rig.gateway.cancel(&job.id).await.unwrap();
    assert_eq!(rig.worker.audio(&job.id).await.unwrap(), None);
    assert_eq!(rig.worker.claim_jobs(&worker, 1, NOTHING).await.unwrap(), []);
    assert_eq!(rig.gateway.depth().await.unwrap(), Depth::default());
    assert!(rig.gateway.receive(&gateway, NOTHING).await.unwrap().is_empty());
}

async fn a_job_cancelled_after_its_claim_is_told_to_the_worker(kind: Kind) {
    let rig = Rig::new(kind).await;
    let (gateway, worker, other) = parties();
    let job = rig.submit(&gateway).await;
    let claimed = rig.claim_job(&worker).await;
    rig.gateway.cancel(&job.id).await.unwrap();
    let told = rig.worker.receive(&worker, SOON).await.unwrap();
    assert_eq!(told, [ToWorker::CancelBatch { job: job.id.clone() }]);
    assert_eq!(rig.beat(&worker, of_job(&claimed)).await.jobs, std::slice::from_ref(&claimed.claim));
    rig.worker.complete(&worker, &claimed, success(&job, "unheard")).await.unwrap();
    assert!(rig.gateway.receive(&gateway, NOTHING).await.unwrap().is_empty(), "no reply follows");
    assert_eq!(rig.worker.claim_jobs(&other, 1, LEASE * 2).await.unwrap(), []);
    rig.gateway.cancel(&job.id).await.unwrap();
}

async fn a_late_job_is_answered_and_never_claimed(kind: Kind) {
    let rig = Rig::new(kind).await;
    let (gateway, worker, _) = parties();
    let mut late = job(&gateway);
    late.deadline_ms = now_ms() - 1;
    rig.gateway.submit(&late, Bytes::from_static(b"sound")).await.unwrap();
    let good = rig.submit(&gateway).await;
    assert_eq!(rig.claim_job(&worker).await.job, good);
    assert_eq!(rig.failure(&gateway).await, (late.id.clone(), WorkErrorKind::DeadlineExceeded));
    assert_eq!(rig.worker.audio(&late.id).await.unwrap(), None);
    assert!(rig.dead_letters().await.is_empty(), "being late is not the job's fault");
}

async fn a_job_completed_after_the_claim_was_lost_is_not_answered_twice(kind: Kind) {
    let rig = Rig::new(kind).await;
    let (gateway, a, b) = parties();
    let job = rig.submit(&gateway).await;
    let lost = rig.claim_job(&a).await;
    let taken = rig.claim_job(&b).await;
    rig.worker.complete(&a, &lost, success(&job, "from the dead")).await.unwrap();
    rig.worker.complete(&b, &taken, success(&job, "from the living")).await.unwrap();
    rig.worker.complete(&b, &taken, success(&job, "again")).await.unwrap();
    assert_eq!(rig.reply(&gateway).await.outcome.unwrap().text, "from the living");
    assert!(rig.gateway.receive(&gateway, NOTHING).await.unwrap().is_empty());
}

async fn a_full_line_refuses(kind: Kind) {
    let rig = Rig::with(kind, QueueLimits { max_batch_depth: 2, ..limits() }).await;
    let (gateway, worker, _) = parties();
    rig.submit(&gateway).await;
    rig.submit(&gateway).await;
    let refused = job(&gateway);
    let error = rig.gateway.submit(&refused, Bytes::from_static(b"sound")).await.unwrap_err();
    assert!(matches!(error, QueueError::Full { waiting: 2, limit: 2 }), "{error}");
    assert_eq!(rig.worker.audio(&refused.id).await.unwrap(), None, "nothing of it is kept");
    rig.claim_job(&worker).await;
    rig.gateway.submit(&refused, Bytes::from_static(b"sound")).await.unwrap();
    let big = Bytes::from(vec![0; 3 << 20]);
    let error = rig.gateway.submit(&job(&gateway), big).await.unwrap_err();
    assert!(matches!(error, QueueError::Full { waiting: 2, limit: 2 }), "{error}");
}

async fn the_same_job_submitted_twice_runs_once(kind: Kind) {
    let rig = Rig::new(kind).await;
    let (gateway, worker, _) = parties();
    let job = rig.submit(&gateway).await;
    rig.gateway.submit(&job, Bytes::from_static(b"sound")).await.unwrap();
    assert_eq!(rig.gateway.depth().await.unwrap().batch, 1);
    let claimed = rig.claim_job(&worker).await;
    rig.gateway.submit(&job, Bytes::from_static(b"sound")).await.unwrap();
    assert_eq!(rig.worker.audio(&job.id).await.unwrap(), Some(Bytes::from_static(b"sound")));
    rig.worker.complete(&worker, &claimed, success(&job, "once")).await.unwrap();
    rig.gateway.submit(&job, Bytes::from_static(b"sound")).await.unwrap();
    assert_eq!(rig.worker.claim_jobs(&worker, 1, NOTHING).await.unwrap(), []);
    assert_eq!(rig.worker.audio(&job.id).await.unwrap(), None, "a late repetition leaves nothing behind");
}

async fn depth_is_exact_through_all_of_it(kind: Kind) {
    let rig = Rig::with(kind, QueueLimits { lease: SOON * 6, ..limits() }).await;
    let (gateway, a, b) = parties();
    let depth = || async { rig.gateway.depth().await.unwrap() };
    assert_eq!(depth().await, Depth::default());
    let first = rig.submit(&gateway).await;
    let second = rig.submit(&gateway).await;
    let third = rig.submit(&gateway).await;
    assert_eq!(depth().await.batch, 3);
    let one = rig.claim_job(&a).await;
    assert_eq!(depth().await.batch, 2);
    let two = rig.claim_job(&b).await;
    assert_eq!((&one.job.id, &two.job.id), (&first.id, &second.id));
    rig.worker.complete(&a, &one, success(&first, "")).await.unwrap();
    assert_eq!(depth().await.batch, 1);
    rig.worker.release_job(&b, &two).await.unwrap();
    assert_eq!(depth().await.batch, 2);
    rig.gateway.cancel(&third.id).await.unwrap();
    assert_eq!(depth().await.batch, 1);
    let two = rig.claim_job(&a).await;
    assert_eq!(depth().await, Depth::default());
    rig.gateway.cancel(&two.job.id).await.unwrap();
    assert_eq!(depth().await, Depth::default());
    // The age is that of the oldest one that waits, and grows while it waits.
    rig.submit(&gateway).await;
    let mut aged = tokio::time::interval(Duration::from_millis(5));
    while depth().await.batch_oldest_ms < 60 {
        aged.tick().await;
    }
    rig.submit(&gateway).await;
    assert!(depth().await.batch_oldest_ms >= 60);
    rig.claim_job(&a).await;
    assert!(depth().await.batch_oldest_ms < 60, "the one that waits now is younger");
}

async fn a_dead_workers_jobs_count_as_waiting(kind: Kind) {
    let rig = Rig::new(kind).await;
    let (gateway, a, _) = parties();
    rig.submit(&gateway).await;
    rig.claim_job(&a).await;
    assert_eq!(rig.gateway.depth().await.unwrap().batch, 0);
    let mut look = tokio::time::interval(LEASE / 10);
    let lapsed = async {
        while rig.gateway.depth().await.unwrap().batch == 0 {
            look.tick().await;
        }
    };
    tokio::time::timeout(SOON, lapsed).await.expect("a scaler must see that somebody is needed");
    assert!(rig.gateway.depth().await.unwrap().batch_oldest_ms >= LEASE.as_millis() as u64);
}

async fn audio_ends_with_its_ttl(kind: Kind) {
    let batch_ttl = Duration::from_millis(200);
    let rig = Rig::with(kind, QueueLimits { batch_ttl, ..limits() }).await;
    let (gateway, worker, _) = parties();
    let claimed = rig.submit(&gateway).await;
    let claimed = (claimed, rig.claim_job(&worker).await).0;
    let mut look = tokio::time::interval(Duration::from_millis(20));
    let gone = async {
        while rig.worker.audio(&claimed.id).await.unwrap().is_some() {
            look.tick().await;
        }
    };
    tokio::time::timeout(SOON, gone).await.expect("audio must not outlive its TTL");
    // So does a job that nobody claimed.
    let unclaimed = rig.submit(&gateway).await;
    let mut look = tokio::time::interval(Duration::from_millis(20));
    let gone = async {
        while rig.gateway.depth().await.unwrap().batch > 0 {
            look.tick().await;
        }
    };
    tokio::time::timeout(SOON, gone).await.expect("a job must not outlive its TTL");
    assert_eq!(rig.worker.audio(&unclaimed.id).await.unwrap(), None);
}

async fn audio_of_many_parts_comes_back_whole(kind: Kind) {
    let rig = Rig::new(kind).await;
    let (gateway, worker, _) = parties();
    for megabytes in [1, 8, 9] {
        let job = job(&gateway);
        let audio: Bytes = (0..(megabytes << 20) + 3).map(|i: u32| (i % 251) as u8).collect();
        rig.gateway.submit(&job, audio.clone()).await.unwrap();
        let claimed = rig.claim_job(&worker).await;
        assert!(rig.worker.audio(&job.id).await.unwrap() == Some(audio), "{megabytes} MiB");
        rig.worker.complete(&worker, &claimed, success(&job, "")).await.unwrap();
    }
}

async fn an_empty_recording_is_not_a_lost_one(kind: Kind) {
    let rig = Rig::new(kind).await;
    let (gateway, worker, _) = parties();
    let job = job(&gateway);
    rig.gateway.submit(&job, Bytes::new()).await.unwrap();
    rig.claim_job(&worker).await;
    assert_eq!(rig.worker.audio(&job.id).await.unwrap(), Some(Bytes::new()));
}

async fn many_jobs_are_claimed_at_once_up_to_the_maximum(kind: Kind) {
    let rig = Rig::new(kind).await;
    let (gateway, a, b) = parties();
    for _ in 0..5 {
        rig.submit(&gateway).await;
    }
    assert_eq!(rig.worker.claim_jobs(&a, 3, SOON).await.unwrap().len(), 3);
    assert_eq!(rig.worker.claim_jobs(&a, 0, NOTHING).await.unwrap(), []);
    assert_eq!(rig.worker.claim_jobs(&a, 3, SOON).await.unwrap().len(), 2);
    // A dead worker's five come back two by two.
    let mut taken = Vec::new();
    while taken.len() < 5 {
        let more = rig.worker.claim_jobs(&b, 2, SOON).await.unwrap();
        assert!((1..=2).contains(&more.len()), "{more:?}");
        taken.extend(more);
        let held = Held { jobs: taken.iter().map(|c| c.claim.clone()).collect(), sessions: Vec::new() };
        rig.worker.heartbeat(&record(&b), &held).await.unwrap();
    }
    assert!(taken.iter().all(|c| c.attempt == 2));
}
