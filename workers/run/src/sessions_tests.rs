//! Tests of the table of sessions: order, holes, repeats, flow, clocks.

use std::sync::Arc;

use bytes::Bytes;
use queue::job::RecognizeOptions;
use queue::session::{Session, SessionState};
use tokio::sync::Semaphore;

use super::*;

const NOW: Duration = Duration::from_secs(100);
const PATIENCE: Patience =
    Patience { idle: Duration::from_mins(1), probe: Duration::from_secs(5), quiet: Duration::from_secs(10) };

fn claim(epoch: Epoch, committed_samples: u64) -> ClaimedSession {
    let options = RecognizeOptions {
        model: None,
        language: "en".into(),
        lookahead: None,
        word_timestamps: false,
        endpointing_ms: 600,
    };
    let session = Session {
        version: 1,
        id: "ses-1".parse().unwrap(),
        gateway: "gw-1".parse().unwrap(),
        options,
        accepted_at_ms: 0,
        traceparent: None,
    };
    let state = SessionState {
        session,
        epoch,
        worker: None,
        committed_samples,
        committed_text: String::new(),
        segments: 2,
    };
    ClaimedSession { state, claim: format!("claim-{epoch}") }
}

fn permit() -> OwnedSemaphorePermit {
    Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap()
}

fn held(committed: u64) -> Sessions {
    let mut sessions = Sessions::default();
    assert!(sessions.insert(claim(1, committed), Occupant(7), permit(), NOW).is_empty());
    sessions
}

fn pcm(samples: &[i16]) -> Bytes {
    samples.iter().flat_map(|s| s.to_le_bytes()).collect::<Vec<_>>().into()
}

fn audio_at(epoch: Epoch, at_samples: u64, samples: &[i16]) -> ToWorker {
    ToWorker::Audio { session: "ses-1".parse().unwrap(), epoch, at_samples, pcm: pcm(samples) }
}

fn end_at(at_samples: u64) -> ToWorker {
    ToWorker::End { session: "ses-1".parse().unwrap(), epoch: 1, at_samples }
}

fn flush_at(at_samples: u64) -> ToWorker {
    ToWorker::Flush { session: "ses-1".parse().unwrap(), epoch: 1, at_samples }
}

fn show(routed: Routed) -> String {
    match routed {
        Routed::Nothing => "-".into(),
        Routed::Input(_, Input::Audio(samples)) => format!("{samples:?}"),
        Routed::Input(_, input) => format!("{input:?}"),
        Routed::Ask((_, ToGateway::Session { event: SessionEvent::Replay { from_samples }, .. })) => {
            format!("replay {from_samples}")
        }
        Routed::Ask(other) => format!("{other:?}"),
        Routed::Cancelled(_) => "cancelled".into(),
    }
}

fn check(sessions: &mut Sessions, message: ToWorker, want: &str) {
    assert_eq!(show(sessions.route(message, NOW)), want);
}

#[test]
fn audio_passes_in_order_and_repeats_are_skipped() {
    let mut s = held(100);
    check(&mut s, audio_at(1, 100, &[1, 2, 3]), "[1, 2, 3]");
    check(&mut s, audio_at(1, 101, &[2, 3, 4, 5]), "[4, 5]");
    check(&mut s, audio_at(1, 100, &[1, 2]), "-");
    check(&mut s, end_at(105), "End");
    check(&mut s, audio_at(1, 105, &[9]), "-");
    check(&mut s, end_at(105), "-");
}

#[test]
fn a_hole_is_asked_for_once_and_again_after_a_while() {
    let mut s = held(0);
    check(&mut s, audio_at(1, 10, &[1]), "replay 0");
    check(&mut s, audio_at(1, 11, &[1]), "-");
    check(&mut s, end_at(12), "-");
    let later = NOW + REPLAY_AGAIN;
    assert_eq!(show(s.route(audio_at(1, 12, &[1]), later)), "replay 0");
    assert_eq!(show(s.route(audio_at(1, 0, &[5, 6]), later)), "[5, 6]");
}

#[test]
fn other_epochs_are_ignored_and_newer_ones_wait_for_their_claim() {
    let mut s = held(0);
    check(&mut s, audio_at(0, 0, &[1]), "-");
    check(&mut s, audio_at(2, 0, &[8]), "-");
    let routed = s.insert(claim(2, 0), Occupant(8), permit(), NOW);
    let shown: Vec<_> = routed.into_iter().map(show).collect();
    assert_eq!(shown, ["cancelled", "[8]"]);
    assert_eq!(s.len(), 1);
}

#[test]
fn what_comes_before_the_claims_answer_is_kept_in_order() {
    let mut s = Sessions::default();
    check(&mut s, audio_at(1, 0, &[1]), "-");
    check(&mut s, audio_at(1, 1, &[2]), "-");
    check(&mut s, end_at(2), "-");
    let shown: Vec<_> = s.insert(claim(1, 0), Occupant(7), permit(), NOW).into_iter().map(show).collect();
    assert_eq!(shown, ["[1]", "[2]", "End"]);
    assert_eq!(s.early_messages, 0);
}

#[test]
fn early_messages_are_bounded_and_forgotten() {
    let mut s = Sessions::default();
    for i in 0..EARLY_MESSAGES as u64 + 10 {
        check(&mut s, audio_at(1, i, &[1]), "-");
    }
    assert_eq!(s.early_messages, EARLY_MESSAGES);
    s.overdue(PATIENCE, NOW + EARLY_FOR);
    assert_eq!((s.early_messages, s.early.len()), (0, 0));
}

#[test]
fn a_flush_passes_once_and_not_before_its_audio() {
    let mut s = held(0);
    check(&mut s, flush_at(2), "replay 0");
    check(&mut s, audio_at(1, 0, &[1, 2]), "[1, 2]");
    check(&mut s, flush_at(2), "Flush");
    check(&mut s, flush_at(2), "-");
}

#[test]
fn a_client_faster_than_real_time_is_stalled_until_there_is_room() {
    let mut s = held(0);
    let second = vec![0; 16_000];
    let mut at = 0;
    while show(s.route(audio_at(1, at, &second), NOW)) != "-" {
        at += 16_000;
    }
    assert_eq!(at, MAX_PENDING + 16_000);
    check(&mut s, end_at(at + 16_000), "-");
    assert!(s.processed(Occupant(7), at / 4, NOW).is_none());
    let ask = s.processed(Occupant(7), at * 3 / 4, NOW).map(show);
    assert_eq!(ask.as_deref(), Some(format!("replay {at}").as_str()));
    assert_ne!(show(s.route(audio_at(1, at, &second), NOW)), "-");
}

#[test]
fn a_quiet_session_is_probed_then_its_gateway_looked_at_then_it_fails() {
    let mut s = held(0);
    assert!(s.overdue(PATIENCE, NOW + Duration::from_secs(4)).asks.is_empty());
    assert_eq!(s.overdue(PATIENCE, NOW + Duration::from_secs(5)).asks.len(), 1);
    assert!(s.overdue(PATIENCE, NOW + Duration::from_secs(6)).asks.is_empty());
    assert_eq!(s.overdue(PATIENCE, NOW + Duration::from_secs(10)).quiet.len(), 1);
    assert_eq!(s.overdue(PATIENCE, NOW + Duration::from_mins(1)).idle, [Occupant(7)]);
}

#[test]
fn a_cancel_drops_the_session() {
    let mut s = held(0);
    check(&mut s, ToWorker::Cancel { session: "ses-1".parse().unwrap(), epoch: 1 }, "cancelled");
    assert!(s.is_empty() && s.get_mut(Occupant(7)).is_none());
}
