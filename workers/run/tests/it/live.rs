//! Live sessions through a worker over the memory queue.

use std::time::Duration;

use queue::job::WorkErrorKind;
use queue::memory::MemoryQueue;
use queue::session::{FinalReason, SessionEvent};
use workers_batch::Limits;
use workers_engine::fake::{FakeConfig, Fault, silence, speak};
use workers_run::sessions::Patience;
use workers_run::{WorkerConfig, WorkerError};

use crate::gateway::{Live, options};
use crate::rig::{Rig, config, limits, sentence};

#[tokio::test]
async fn words_come_while_they_are_spoken_and_segments_at_pauses() {
    let rig = Rig::start();
    let mut live = Live::open(rig.port(), options()).await;
    live.until("claimed", |l| l.worker.is_some()).await;
    live.say(&sentence()).await;
    live.until("the first segment", |l| l.segments.len() == 1).await;
    assert_eq!(live.segments[0].text, "good morning");
    assert_eq!(live.segments[0].reason, FinalReason::Endpoint);
    live.end().await;
    live.until("the end", Live::closed).await;
    assert_eq!(live.text(), "good morning how are you");
    let partials: Vec<_> = live
        .events
        .iter()
        .filter_map(|e| match e {
            SessionEvent::Update { partial: Some(p), .. } => Some(p.text.as_str()),
            _ => None,
        })
        .collect();
    assert!(partials.contains(&"good") || partials.contains(&"good m"), "{partials:?}");
    let speech = |started| {
        let events = live.events.iter();
        events.filter(|e| matches!(e, SessionEvent::Speech { started: s, .. } if *s == started)).count()
    };
    assert_eq!((speech(true), speech(false)), (2, 2));
    let second = &live.segments[1];
    let at_ms = (speak(&["good", "morning"]).len() / 16 + 900 + 200) as u64;
    assert!(second.words[0].start_ms.abs_diff(at_ms) <= 40, "{second:?} {at_ms}");
    rig.stop().await;
}

#[tokio::test]
async fn a_flush_is_answered_after_its_segment() {
    let rig = Rig::start();
    let mut live = Live::open(rig.port(), options()).await;
    live.until("claimed", |l| l.worker.is_some()).await;
    live.say(&speak(&["now"])).await;
    live.flush().await;
    live.until("flushed", |l| l.has(|e| matches!(e, SessionEvent::Flushed { .. }))).await;
    assert_eq!((live.text().as_str(), live.segments[0].reason), ("now", FinalReason::Flush));
    live.say(&speak(&["then"])).await;
    live.end().await;
    live.until("the end", Live::closed).await;
    assert_eq!(live.text(), "now then");
    rig.stop().await;
}

#[tokio::test]
async fn a_lost_entry_is_asked_for_again() {
    let rig = Rig::start();
    let mut live = Live::open(rig.port(), options()).await;
    live.until("claimed", |l| l.worker.is_some()).await;
    let worker = live.worker.take();
    // Said, but never sent.
    live.say(&speak(&["lost"])).await;
    live.worker = worker;
    live.say(&speak(&["found"])).await;
    live.end().await;
    live.until("the end", Live::closed).await;
    assert_eq!(live.text(), "lost found");
    assert!(live.has(|e| matches!(e, SessionEvent::Replay { from_samples: 0 })));
    rig.stop().await;
}

#[tokio::test]
async fn a_session_whose_last_messages_were_lost_is_probed() {
    let rig = Rig::start();
    let mut live = Live::open(rig.port(), options()).await;
    live.until("claimed", |l| l.worker.is_some()).await;
    let worker = live.worker.take();
    live.say(&speak(&["quiet"])).await;
    live.end().await;
    live.worker = worker;
    live.until("the end", Live::closed).await;
    assert_eq!(live.text(), "quiet");
    rig.stop().await;
}

#[tokio::test]
async fn a_client_faster_than_real_time_loses_nothing() {
    let fake = FakeConfig { chunk_cost: Duration::from_millis(1), ..FakeConfig::default() };
    let rig = Rig::with(MemoryQueue::new(limits()), fake, config());
    let mut live = Live::open(rig.port(), options()).await;
    let mut audio = Vec::new();
    let mut words = Vec::new();
    for _ in 0..12 {
        audio.extend(speak(&["first", "second", "third"]));
        audio.extend(silence(3_000));
        words.extend(["first", "second", "third"]);
    }
    assert!(audio.len() > 50 * 16_000);
    live.piece = 16_000;
    live.say(&audio).await;
    live.end().await;
    live.until("the end", Live::closed).await;
    assert_eq!(live.text(), words.join(" "));
    rig.stop().await;
}

#[tokio::test]
async fn more_sessions_than_slots_wait_for_their_turn() {
    let limits_ = Limits { streams: 2, jobs: 1, ..Limits::default() };
    let rig = Rig::with(
        MemoryQueue::new(limits()),
        FakeConfig::default(),
        WorkerConfig { limits: limits_, ..config() },
    );
    let mut sessions = Vec::new();
    for word in ["one", "two", "three", "four", "five"] {
        let mut live = Live::open(rig.port(), options()).await;
        live.say(&speak(&[word])).await;
        live.end().await;
        sessions.push((live, word));
    }
    for (mut live, word) in sessions {
        live.until("the end", Live::closed).await;
        assert_eq!(live.text(), word);
    }
    rig.stop().await;
}

#[tokio::test]
async fn a_cancelled_session_frees_its_slot() {
    let rig = Rig::start();
    let mut live = Live::open(rig.port(), options()).await;
    live.until("claimed", |l| l.worker.is_some()).await;
    rig.until("it is held", |r| r.active_streams == 1).await;
    live.cancel().await;
    rig.until("the slot is free", |r| r.active_streams == 0).await;
    rig.stop().await;
}

#[tokio::test]
async fn a_session_nobody_talks_to_ends() {
    let patience = Patience { idle: Duration::from_secs(2), ..config().patience };
    let rig =
        Rig::with(MemoryQueue::new(limits()), FakeConfig::default(), WorkerConfig { patience, ..config() });
    let mut live = Live::open(rig.port(), options()).await;
    live.until("the end", |l| l.has(|e| matches!(e, SessionEvent::Failed(_)))).await;
    let Some(SessionEvent::Failed(error)) = live.events.last() else { panic!("{:?}", live.events) };
    assert_eq!(error.kind, WorkErrorKind::IdleTimeout);
    rig.until("the slot is free", |r| r.active_streams == 0).await;
    rig.stop().await;
}

#[tokio::test]
async fn when_the_gateway_is_gone_the_slot_is_free_and_the_client_can_come_back() {
    let rig = Rig::start();
    let mut live = Live::open(rig.port(), options()).await;
    live.until("claimed", |l| l.worker.is_some()).await;
    live.say(&sentence()).await;
    live.until("the first segment", |l| l.segments.len() == 1).await;
    // No heartbeat of the gateway from here on.
    rig.until("the slot is free", |r| r.active_streams == 0).await;
    let other = queue::ids::GatewayId::generate();
    let state = rig.port().adopt_session(&live.id, &other).await.unwrap().unwrap();
    assert_eq!(state.committed_text, "good morning");
    live.gateway = other;
    live.worker = None;
    live.end().await;
    live.until("the end", Live::closed).await;
    assert_eq!(live.text(), "good morning how are you");
    rig.stop().await;
}

#[tokio::test]
async fn a_draining_worker_hands_its_sessions_to_another_one() {
    let queue = MemoryQueue::new(limits());
    let first = Rig::with(queue.clone(), FakeConfig::default(), config());
    let mut live = Live::open(first.port(), options()).await;
    live.until("claimed", |l| l.worker.is_some()).await;
    let audio = sentence();
    live.say(&audio[..audio.len() - 20_000]).await;
    live.until("some is decoded", |l| l.processed() > 20_000).await;
    let second = Rig::with(queue.clone(), FakeConfig::default(), config());
    second.until("it is there", |_| true).await;
    let draining = tokio::spawn(first.stop());
    live.until("another worker has it", |l| l.worker.as_ref().is_some_and(|(w, _)| *w == second.id)).await;
    live.say(&audio[audio.len() - 20_000..]).await;
    live.end().await;
    live.until("the end", Live::closed).await;
    assert_eq!(live.text(), "good morning how are you");
    draining.await.unwrap();
    second.stop().await;
}

#[tokio::test]
async fn a_drain_lets_a_session_finish_that_ends_in_time() {
    let rig = Rig::start();
    let mut live = Live::open(rig.port(), options()).await;
    live.until("claimed", |l| l.worker.is_some()).await;
    live.say(&speak(&["last"])).await;
    rig.stop.cancel();
    rig.until("it drains", |r| r.draining).await;
    live.say(&speak(&["words"])).await;
    live.end().await;
    live.until("the end", Live::closed).await;
    assert_eq!(live.text(), "last words");
    assert!(!live.has(|e| matches!(e, SessionEvent::Released)));
    rig.ended().await.unwrap();
}

#[tokio::test]
async fn when_the_engine_dies_a_session_goes_on_elsewhere() {
    let queue = MemoryQueue::new(limits());
    let fake = FakeConfig { fault: Some(Fault { at_step: 9, fatal: true }), ..FakeConfig::default() };
    let doomed = Rig::with(queue.clone(), fake, config());
    let mut live = Live::open(doomed.port(), options()).await;
    live.say(&sentence()).await;
    live.end().await;
    live.until("claimed", |l| l.worker.is_some()).await;
    assert!(matches!(doomed.ended().await, Err(WorkerError::Engine { .. })));
    let second = Rig::with(queue, FakeConfig::default(), config());
    live.until("the end", Live::closed).await;
    assert_eq!(live.text(), "good morning how are you");
    assert_eq!(live.worker.as_ref().unwrap().0, second.id);
    second.stop().await;
}

#[tokio::test]
async fn an_option_that_is_not_served_fails_the_session() {
    let rig = Rig::start();
    let mut other = options();
    other.language = "xx".into();
    let mut live = Live::open(rig.port(), other).await;
    live.until("an answer", |l| l.has(|e| matches!(e, SessionEvent::Failed(_)))).await;
    rig.stop().await;
}
