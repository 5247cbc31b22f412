//! Batch jobs through a worker over the memory queue.

use std::time::Duration;

use queue::ids::GatewayId;
use queue::job::{BatchJob, WorkErrorKind};
use queue::memory::MemoryQueue;
use queue::port::GatewayPort;
use workers_batch::Limits;
use workers_engine::fake::{FakeConfig, Fault, silence, speak};
use workers_run::{Gate, WorkerConfig, WorkerError};

use crate::gateway::{answers, job, options, pcm, recognize, unix_ms};
use crate::rig::{Rig, config, limits};

#[tokio::test]
async fn a_recording_comes_back_as_its_text_with_word_times() {
    let rig = Rig::start();
    let reply = recognize(&rig.queue, &speak(&["hello", "world"]), options()).await;
    let transcript = reply.outcome.unwrap();
    assert_eq!(transcript.text, "hello world");
    assert_eq!((transcript.model.as_str(), transcript.language.as_str()), ("fake-asr", "en"));
    assert_eq!(transcript.audio_ms, 200 + 400 + 200 + 400 + 260);
    let starts: Vec<_> = transcript.words.iter().map(|w| (w.word.as_str(), w.start_ms)).collect();
    assert!(starts[0].1.abs_diff(200) <= 40 && starts[1].1.abs_diff(800) <= 40, "{starts:?}");
    assert!(transcript.words.iter().all(|w| w.confidence > 0.5 && w.end_ms > w.start_ms));
    rig.stop().await;
}

#[tokio::test]
async fn many_recordings_share_the_engine_and_keep_to_themselves() {
    let rig = Rig::start();
    let gateway = GatewayId::generate();
    let words = ["alpha", "bravo", "golf", "kilo", "tango", "victor", "zulu", "xray", "mike", "echo"];
    let mut jobs = Vec::new();
    for word in words {
        let audio = speak(&[word]);
        let job = job(&gateway, audio.len());
        rig.queue.submit(&job, pcm(&audio)).await.unwrap();
        jobs.push((job.id, word));
    }
    let replies = answers(&rig.queue, &gateway, words.len()).await;
    for (id, word) in jobs {
        let reply = replies.iter().find(|r| r.job == id).unwrap();
        assert_eq!(reply.outcome.as_ref().unwrap().text, word);
    }
    rig.stop().await;
}

#[tokio::test]
async fn nothing_one_sample_and_silence_are_no_text() {
    let rig = Rig::start();
    for audio in [vec![], vec![7], silence(3_000)] {
        let reply = recognize(&rig.queue, &audio, options()).await;
        let transcript = reply.outcome.unwrap();
        assert_eq!((transcript.text.as_str(), transcript.words.len()), ("", 0));
    }
    rig.stop().await;
}

#[tokio::test]
async fn what_cannot_be_served_is_answered_with_the_reason() {
    let rig = Rig::start();
    let check = async |options, kind, says: &str| {
        let error = recognize(&rig.queue, &speak(&["a"]), options).await.outcome.unwrap_err();
        assert_eq!(error.kind, kind);
        assert!(error.message.contains(says), "{}", error.message);
    };
    let mut other = options();
    other.model = Some("whisper".into());
    check(other, WorkErrorKind::UnknownModel, "served: \"fake-asr\"").await;
    let mut other = options();
    other.language = "xx".into();
    check(other, WorkErrorKind::UnknownLanguage, "supported: en").await;
    let mut other = options();
    other.lookahead = Some(5);
    check(other, WorkErrorKind::UnsupportedOption, "[0, 1, 3, 6, 13]").await;
    rig.stop().await;
}

#[tokio::test]
async fn a_job_that_cannot_be_done_in_time_says_so() {
    let fake = FakeConfig { step_cost: Duration::from_millis(300), ..FakeConfig::default() };
    let rig = Rig::with(MemoryQueue::new(limits()), fake, config());
    let gateway = GatewayId::generate();
    let audio = silence(60_000);
    let job = BatchJob { deadline_ms: unix_ms() + 700, ..job(&gateway, audio.len()) };
    rig.queue.submit(&job, pcm(&audio)).await.unwrap();
    let reply = answers(&rig.queue, &gateway, 1).await.remove(0);
    assert_eq!(reply.outcome.unwrap_err().kind, WorkErrorKind::DeadlineExceeded);
    rig.until("the slot is free", |r| r.active_requests == 0).await;
    rig.stop().await;
}

#[tokio::test]
async fn a_cancelled_job_frees_its_slot() {
    let fake = FakeConfig { step_cost: Duration::from_millis(50), ..FakeConfig::default() };
    let rig = Rig::with(MemoryQueue::new(limits()), fake, config());
    let gateway = GatewayId::generate();
    let audio = silence(600_000);
    let job = job(&gateway, audio.len());
    rig.queue.submit(&job, pcm(&audio)).await.unwrap();
    rig.until("the job runs", |r| r.active_requests == 1).await;
    rig.queue.cancel(&job.id).await.unwrap();
    rig.until("the slot is free", |r| r.active_requests == 0).await;
    rig.stop().await;
}

#[tokio::test]
async fn claimed_audio_is_bounded_and_all_is_done_in_the_end() {
    let config = WorkerConfig { job_samples: 16_000, ..config() };
    let rig = Rig::with(MemoryQueue::new(limits()), FakeConfig::default(), config);
    let gateway = GatewayId::generate();
    for _ in 0..6 {
        let audio = speak(&["long", "enough"]);
        rig.queue.submit(&job(&gateway, audio.len()), pcm(&audio)).await.unwrap();
    }
    let replies = answers(&rig.queue, &gateway, 6).await;
    assert!(replies.iter().all(|r| r.outcome.as_ref().unwrap().text == "long enough"));
    rig.stop().await;
}

#[tokio::test]
async fn nothing_is_claimed_while_the_license_says_no() {
    let rig = Rig::behind(Gate::Closed { reason: "expired".into() });
    let gateway = GatewayId::generate();
    let audio = speak(&["b"]);
    rig.queue.submit(&job(&gateway, audio.len()), pcm(&audio)).await.unwrap();
    rig.until("it is up", |_| true).await;
    let early = rig.queue.receive(&gateway, Duration::from_millis(400)).await.unwrap();
    assert!(early.is_empty(), "{early:?}");
    assert_eq!(GatewayPort::depth(&rig.queue).await.unwrap().batch, 1);
    rig.gate.send_replace(Gate::Open);
    let reply = answers(&rig.queue, &gateway, 1).await.remove(0);
    assert_eq!(reply.outcome.unwrap().text, "b");
    rig.stop().await;
}

#[tokio::test]
async fn a_step_that_fails_once_changes_nothing() {
    let fake = FakeConfig { fault: Some(Fault { at_step: 1, fatal: false }), ..FakeConfig::default() };
    let rig = Rig::with(MemoryQueue::new(limits()), fake, config());
    let reply = recognize(&rig.queue, &speak(&["still", "here"]), options()).await;
    assert_eq!(reply.outcome.unwrap().text, "still here");
    rig.stop().await;
}

#[tokio::test]
async fn when_the_engine_dies_the_worker_ends_and_another_one_finishes() {
    let queue = MemoryQueue::new(limits());
    let fake = FakeConfig { fault: Some(Fault { at_step: 1, fatal: true }), ..FakeConfig::default() };
    let doomed = Rig::with(queue.clone(), fake, config());
    let gateway = GatewayId::generate();
    let audio = speak(&["second", "life"]);
    let limits = Limits { streams: 4, jobs: 1, ..Limits::default() };
    queue.submit(&job(&gateway, audio.len()), pcm(&audio)).await.unwrap();
    let ended = doomed.ended().await;
    assert!(matches!(ended, Err(WorkerError::Engine { .. })), "{ended:?}");
    let other = Rig::with(queue.clone(), FakeConfig::default(), WorkerConfig { limits, ..config() });
    let reply = answers(&queue, &gateway, 1).await.remove(0);
    assert_eq!(reply.outcome.unwrap().text, "second life");
    other.stop().await;
}
