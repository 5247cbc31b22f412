//! The session against scripted and random histories, without a clock.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

fn session() -> LiveSession {
    LiveSession::new("ses-1".parse().unwrap())
}

fn pcm(from: u64, samples: u64) -> Vec<u8> {
    (from..from + samples).flat_map(|i| (i as i16).to_le_bytes()).collect()
}

fn claimed(worker: &str, resume_at_samples: u64) -> SessionEvent {
    SessionEvent::Claimed { worker: worker.parse().unwrap(), resume_at_samples, queue_ms: 1.0 }
}

fn segment(index: u32, committed_samples: u64, reason: FinalReason) -> Segment {
    Segment {
        index,
        text: format!("segment {index}"),
        words: Vec::new(),
        start_ms: 0,
        end_ms: 0,
        committed_samples,
        reason,
        language: "en".to_owned(),
    }
}

fn update(processed_samples: u64) -> SessionEvent {
    SessionEvent::Update { processed_samples, partial: None, timing: Timing::default() }
}

/// All messages that are ready, short: `a0+160` audio, `f160` flush, `e160` end.
fn sent(s: &mut LiveSession) -> Vec<String> {
    std::iter::from_fn(|| s.next_message())
        .map(|m| match m {
            ToWorker::Audio { at_samples, pcm: bytes, .. } => {
                assert_eq!(bytes, Bytes::from(pcm(at_samples, bytes.len() as u64 / 2)), "audio at its place");
                format!("a{at_samples}+{}", bytes.len() / 2)
            }
            ToWorker::Flush { at_samples, .. } => format!("f{at_samples}"),
            ToWorker::End { at_samples, .. } => format!("e{at_samples}"),
            other => format!("{other:?}"),
        })
        .collect()
}

fn push(s: &mut LiveSession, samples: u64) {
    s.push(&pcm(s.heard(), samples), Instant::now());
}

#[test]
fn audio_waits_for_a_claim_and_then_goes_at_once() {
    let mut s = session();
    push(&mut s, 800);
    assert_eq!(sent(&mut s), [""; 0]);
    s.on_event(1, claimed("wk-1", 0));
    assert_eq!(sent(&mut s), ["a0+800"]);
    push(&mut s, 800);
    assert_eq!(sent(&mut s), ["a800+800"]);
}

#[test]
fn what_completed_the_decoded_audio_is_known() {
    let mut s = session();
    s.on_event(1, claimed("wk-1", 0));
    let first = Instant::now();
    let second = first + std::time::Duration::from_millis(40);
    s.push(&pcm(0, 800), first);
    s.push(&pcm(800, 800), second);
    s.on_event(1, update(800));
    assert_eq!(s.completed_by(), Some(first));
    // A step that ends within a chunk had to wait for that chunk.
    s.on_event(1, update(1_000));
    assert_eq!(s.completed_by(), Some(second));
    assert_eq!(s.take_decoded().collect::<Vec<_>>(), [first]);
    s.on_event(1, update(1_600));
    assert_eq!((s.completed_by(), s.take_decoded().count()), (Some(second), 1));
    assert_eq!(s.completed_by(), None);
}

#[test]
fn tiny_chunks_are_joined_and_large_ones_are_cut() {
    let mut s = session();
    s.on_event(1, claimed("wk-1", 0));
    push(&mut s, 100);
    assert_eq!(sent(&mut s), [""; 0]);
    push(&mut s, 100);
    assert_eq!(sent(&mut s), ["a0+200"]);
    push(&mut s, 1);
    assert_eq!(s.finalize(), None);
    assert_eq!(sent(&mut s), ["a200+1", "f201"]);
    push(&mut s, 20_000);
    push(&mut s, 3);
    s.end();
    assert_eq!(sent(&mut s), ["a201+16000", "a16201+4003", "e20204"]);
}

#[test]
fn a_worker_that_takes_over_gets_everything_since_the_commit() {
    let mut s = session();
    s.on_event(1, claimed("wk-1", 0));
    push(&mut s, 1_000);
    assert_eq!(s.finalize(), None);
    push(&mut s, 1_000);
    s.end();
    assert_eq!(sent(&mut s), ["a0+1000", "f1000", "a1000+1000", "e2000"]);
    let first = s.on_event(1, SessionEvent::Final(segment(0, 600, FinalReason::Endpoint)));
    assert!(matches!(first, Step::Tell(LiveEvent::Final { from_finalize: false, .. })));

    s.on_event(2, claimed("wk-2", 600));
    assert_eq!(sent(&mut s), ["a600+400", "f1000", "a1000+1000", "e2000"]);
    // The dead worker's words come late, and the new one repeats a segment: the client sees neither.
    assert_eq!(s.on_event(1, SessionEvent::Final(segment(1, 900, FinalReason::Endpoint))), Step::Nothing);
    assert_eq!(s.on_event(2, SessionEvent::Final(segment(0, 600, FinalReason::Endpoint))), Step::Nothing);
    let asked = s.on_event(2, SessionEvent::Final(segment(1, 1_000, FinalReason::Flush)));
    assert!(matches!(asked, Step::Tell(LiveEvent::Final { from_finalize: true, .. })));
    assert_eq!(s.on_event(2, SessionEvent::Flushed { at_samples: 1_000 }), Step::Tell(LiveEvent::Finalized));
    assert_eq!(s.on_event(1, claimed("wk-1", 600)), Step::Nothing, "an old claim");
    assert_eq!(s.worker().unwrap().as_str(), "wk-2");
}

#[test]
fn a_finalize_without_anything_new_is_answered_at_once() {
    let mut s = session();
    assert_eq!(s.finalize(), Some(LiveEvent::Finalized), "nothing was said yet");
    s.on_event(1, claimed("wk-1", 0));
    push(&mut s, 1_000);
    assert_eq!(s.finalize(), None);
    s.on_event(1, SessionEvent::Final(segment(0, 1_000, FinalReason::Flush)));
    assert_eq!(s.finalize(), None, "the first one is not answered yet: its answer comes first");
    let both = s.on_event(1, SessionEvent::Flushed { at_samples: 1_000 });
    assert_eq!(both, Step::TellAll(vec![LiveEvent::Finalized; 2]));
    assert_eq!(s.finalize(), Some(LiveEvent::Finalized));
    assert_eq!(sent(&mut s), [""; 0], "the worker has nothing to do for them");
}

#[test]
fn a_replay_starts_where_it_was_asked_for_and_never_before_the_commit() {
    let mut s = session();
    s.on_event(1, claimed("wk-1", 0));
    push(&mut s, 2_000);
    sent(&mut s);
    s.on_event(1, SessionEvent::Replay { from_samples: 700 });
    assert_eq!(sent(&mut s), ["a700+1300"]);
    s.on_event(1, SessionEvent::Final(segment(0, 1_500, FinalReason::Endpoint)));
    let lost = s.on_event(1, SessionEvent::Replay { from_samples: 700 });
    assert!(matches!(lost, Step::Failed(WorkError { kind: WorkErrorKind::AudioLost, .. })), "{lost:?}");
}

#[test]
fn released_audio_waits_for_the_next_claim() {
    let mut s = session();
    s.on_event(1, claimed("wk-1", 0));
    s.on_event(1, SessionEvent::Released);
    push(&mut s, 500);
    assert_eq!(sent(&mut s), [""; 0]);
    s.on_event(2, claimed("wk-2", 0));
    assert_eq!(sent(&mut s), ["a0+500"]);
}

#[test]
fn a_full_ring_stops_the_client_and_a_starved_worker_is_asked_to_commit() {
    let mut s = session();
    s.on_event(1, claimed("wk-1", 0));
    while s.has_room() {
        push(&mut s, 8_000);
    }
    assert_eq!(s.heard(), RING_SAMPLES);
    assert!(!sent(&mut s).iter().any(|m| m.starts_with('f')), "the worker is still busy");
    s.on_event(1, update(RING_SAMPLES - 100));
    assert_eq!(sent(&mut s), [format!("f{RING_SAMPLES}")]);
    s.on_event(1, update(RING_SAMPLES));
    assert_eq!(sent(&mut s), [""; 0], "asked once");
    let quiet = s.on_event(1, SessionEvent::Final(segment(0, RING_SAMPLES, FinalReason::Flush)));
    assert!(matches!(quiet, Step::Tell(LiveEvent::Final { from_finalize: false, .. })));
    assert_eq!(s.on_event(1, SessionEvent::Flushed { at_samples: RING_SAMPLES }), Step::Nothing);
    assert!(s.has_room());
}

#[test]
fn a_resumed_session_goes_on_after_its_commit() {
    let state: SessionState = SessionState {
        session: queue::session::Session {
            version: 1,
            id: "ses-1".parse().unwrap(),
            gateway: "gw-1".parse().unwrap(),
            options: queue::job::RecognizeOptions {
                model: None,
                language: "en".to_owned(),
                lookahead: None,
                word_timestamps: false,
                endpointing_ms: 0,
            },
            accepted_at_ms: 0,
            traceparent: None,
        },
        epoch: 3,
        worker: None,
        committed_samples: 4_000,
        committed_text: "hello".to_owned(),
        segments: 2,
    };
    let mut s = LiveSession::resumed(&state);
    push(&mut s, 1_000);
    assert_eq!(s.on_event(3, claimed("wk-1", 4_000)), Step::Nothing);
    assert_eq!(sent(&mut s), [""; 0]);
    s.on_event(4, claimed("wk-2", 4_000));
    assert_eq!(sent(&mut s), ["a4000+1000"]);
    assert_eq!(s.on_event(4, SessionEvent::Final(segment(1, 4_000, FinalReason::End))), Step::Nothing);
}

#[derive(Debug, Clone)]
enum Act {
    Push(u64),
    Finalize,
    Send(usize),
    /// The worker commits this share of what it heard.
    Commit(u64),
    Replace,
    Replay,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        4 => (0u64..4_000).prop_map(Act::Push),
        1 => Just(Act::Finalize),
        4 => (1usize..6).prop_map(Act::Send),
        1 => (0u64..100).prop_map(Act::Commit),
        1 => Just(Act::Replace),
        1 => Just(Act::Replay),
    ];
    prop::collection::vec(act, 0..80)
}

proptest! {
    /// Whatever happens to workers, the one that holds the session has heard every sample since the commit,
    /// in order and once, and the end comes last.
    #[test]
    fn the_last_worker_hears_everything(acts in acts()) {
        let mut s = session();
        let (mut epoch, mut heard, mut index, mut committed) = (1, 0u64, 0, 0u64);
        s.on_event(1, claimed("wk-1", 0));
        for act in acts {
            match act {
                Act::Push(n) => if s.has_room() { push(&mut s, n) },
                Act::Finalize => if s.has_room() { s.finalize(); },
                Act::Send(n) => for _ in 0..n {
                    if let Some(m) = s.next_message() { hear(&mut heard, &m)?; }
                },
                Act::Commit(share) => {
                    committed += (heard - committed) * share / 100;
                    s.on_event(epoch, SessionEvent::Final(segment(index, committed, FinalReason::Endpoint)));
                    index += 1;
                }
                Act::Replace => {
                    epoch += 1;
                    heard = committed;
                    s.on_event(epoch, claimed("wk-2", committed));
                }
                Act::Replay => {
                    heard = committed;
                    s.on_event(epoch, SessionEvent::Replay { from_samples: committed });
                }
            }
        }
        s.end();
        let mut ends = 0;
        while let Some(m) = s.next_message() {
            prop_assert_eq!(ends, 0, "nothing after the end");
            ends += usize::from(matches!(m, ToWorker::End { .. }));
            hear(&mut heard, &m)?;
        }
        prop_assert_eq!((heard, ends), (s.heard(), 1));
    }
}

fn hear(heard: &mut u64, message: &ToWorker) -> Result<(), TestCaseError> {
    match message {
        ToWorker::Audio { at_samples, pcm: bytes, .. } => {
            prop_assert_eq!(*at_samples, *heard);
            prop_assert_eq!(&bytes[..], &pcm(*at_samples, bytes.len() as u64 / 2)[..]);
            *heard += bytes.len() as u64 / 2;
        }
        ToWorker::Flush { at_samples, .. } => prop_assert!(*at_samples <= *heard),
        ToWorker::End { at_samples, .. } => prop_assert_eq!(*at_samples, *heard),
        _ => {}
    }
    Ok(())
}
