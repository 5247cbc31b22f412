//! The batcher over the fake engine, driven by made-up clocks: whatever the order of arrival, everyone gets the
//! text of their own audio, in bounded memory, and nobody waits for ever.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test's own world may fail loudly")]

mod sim;

use std::time::Duration;

use proptest::prelude::*;
use sim::{Sim, Talk};
use workers_batch::endpoint::Rules;
use workers_batch::{CutReason, Limits, What};
use workers_engine::fake::{silence, speak};

const WORDS: [&str; 12] =
    ["alpha", "bravo", "zulu", "it's", "mm", "a", "golf", "kilo", "oo", "tango", "victor", "xx"];

fn words() -> impl Strategy<Value = Vec<&'static str>> {
    prop::collection::vec(prop::sample::select(&WORDS[..]), 0..5)
}

fn talk() -> impl Strategy<Value = Talk> {
    let lookahead = prop::sample::select(vec![0_usize, 1, 3, 6, 13]);
    (words(), words(), 0_u32..1_500, lookahead, 0_u64..400).prop_map(
        |(before, after, pause, lookahead, start)| {
            let mut audio = speak(&before);
            audio.extend(silence(pause));
            audio.extend(speak(&after));
            let text = [before, after].concat().join(" ");
            Talk { audio, text, lookahead, start: Duration::from_millis(start) }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn any_arrival_gives_everyone_the_text_of_their_own_audio(
        talks in prop::collection::vec(talk(), 1..8),
        jobs in prop::collection::vec(words(), 0..4),
        splits in prop::collection::vec(1_usize..9_000, 1..20),
        coalesce in 0_u64..30,
    ) {
        let limits = Limits { coalesce: Duration::from_millis(coalesce), ..Limits::default() };
        let mut sim = Sim::new(limits, Duration::from_millis(3));
        let streams: Vec<_> = talks.iter().map(|t| sim.talk(t, &splits)).collect();
        let jobs: Vec<_> = jobs.iter().map(|w| (sim.job(speak(w)), w.join(" "))).collect();
        sim.run();
        for (stream, talk) in streams.iter().zip(&talks) {
            prop_assert_eq!(sim.text(*stream), talk.text.as_str());
            prop_assert!(sim.ended(*stream));
        }
        for (job, text) in jobs {
            prop_assert_eq!(sim.text(job), text);
        }
        prop_assert_eq!((sim.batcher.slots().streams(), sim.batcher.slots().jobs()), (0, 0));
    }

    #[test]
    fn a_session_resumed_at_any_commit_goes_on_with_the_same_segments(
        first in words(), second in words(), third in words(), pause in 700_u32..7_000, lookahead in 0_usize..2,
        splits in prop::collection::vec(1_usize..9_000, 1..20),
    ) {
        let mut audio = speak(&first);
        for more in [&second, &third] {
            audio.extend(silence(pause));
            audio.extend(speak(more));
        }
        let talk = Talk { audio, text: String::new(), lookahead, start: Duration::ZERO };
        let mut whole = Sim::new(Limits::default(), Duration::ZERO);
        let stream = whole.talk(&talk, &splits);
        whole.run();
        let segments = whole.segments(stream);
        for (i, segment) in segments.iter().enumerate() {
            let mut resumed = Sim::new(Limits::default(), Duration::ZERO);
            let stream = resumed.talk_from(&talk, segment.committed_samples, &[160]);
            resumed.run();
            prop_assert_eq!(&resumed.segments(stream)[..], &segments[i + 1..]);
        }
    }
}

#[test]
fn word_times_do_not_depend_on_the_segment() {
    let mut audio = speak(&["alpha"]);
    audio.extend(silence(2_000));
    let second_at = (audio.len() as u64 / 16) + 200;
    audio.extend(speak(&["bravo"]));
    let mut sim = Sim::new(Limits::default(), Duration::ZERO);
    let stream =
        sim.talk(&Talk { audio, text: String::new(), lookahead: 3, start: Duration::ZERO }, &[3_200]);
    sim.run();
    let starts: Vec<_> = sim
        .segments(stream)
        .iter()
        .flat_map(|s| &s.spoken.words)
        .map(|w| (w.word.clone(), w.start_ms))
        .collect();
    assert_eq!(starts.len(), 2);
    assert!(starts[0].1.abs_diff(200) <= 40, "{starts:?}");
    assert!(starts[1].1.abs_diff(second_at) <= 40, "{starts:?} {second_at}");
}

#[test]
fn silence_is_committed_so_that_nobody_keeps_it() {
    let mut sim = Sim::new(Limits::default(), Duration::ZERO);
    let audio = silence(60_000);
    let stream =
        sim.talk(&Talk { audio, text: String::new(), lookahead: 3, start: Duration::ZERO }, &[1_600]);
    sim.run();
    let segments = sim.segments(stream);
    assert!(segments.iter().all(|s| s.reason == CutReason::Silence && s.spoken.text.is_empty()));
    assert!(segments.last().unwrap().committed_samples > 54 * 16_000, "{segments:?}");
    assert!(sim.most_kept < 6 * 16_000, "{}", sim.most_kept);
}

#[test]
fn an_endless_utterance_is_cut_and_no_word_is_lost() {
    let said: Vec<&str> = WORDS.iter().copied().cycle().take(120).collect();
    let talk = Talk { audio: speak(&said), text: said.join(" "), lookahead: 3, start: Duration::ZERO };
    let mut sim = Sim::new(Limits::default(), Duration::ZERO);
    let stream = sim.talk(&talk, &[1_600]);
    sim.run();
    assert!(sim.segments(stream).iter().any(|s| s.reason == CutReason::MaxUtterance));
    assert_eq!(sim.text(stream), talk.text);
    assert!(sim.most_kept <= 32 * 16_000, "{}", sim.most_kept);
}

#[test]
fn a_flush_makes_final_what_was_said_and_the_stream_goes_on() {
    let mut sim = Sim::new(Limits::default(), Duration::ZERO);
    let rules = Rules { endpointing_ms: 0, ..Rules::default() };
    let stream = sim.open(3, rules);
    let audio = speak(&["alpha", "bravo"]);
    sim.push(stream, &audio);
    sim.flush(stream);
    sim.flush(stream);
    sim.push(stream, &speak(&["golf"]));
    sim.end(stream);
    sim.run();
    let order: Vec<_> = sim
        .events(stream)
        .iter()
        .filter_map(|what| match what {
            What::Final(s) => Some(format!("{:?} {} {}", s.reason, s.spoken.text, s.committed_samples)),
            What::Flushed { at_samples } => Some(format!("Flushed {at_samples}")),
            What::Ended { at_samples } => Some(format!("Ended {at_samples}")),
            _ => None,
        })
        .collect();
    let (middle, end) = (audio.len(), audio.len() + speak(&["golf"]).len());
    assert_eq!(
        order,
        [
            format!("Flush alpha bravo {middle}"),
            format!("Flushed {middle}"),
            format!("Flushed {middle}"),
            format!("End golf {end}"),
            format!("Ended {end}"),
        ]
    );
}

#[test]
fn recordings_do_not_push_live_chunks_past_their_time() {
    // A chunk of one slot costs 5 ms; a live chunk is 160 ms, so a step of recordings may take 40 ms.
    let mut sim = Sim::new(Limits { jobs: 16, ..Limits::default() }, Duration::from_millis(5));
    let jobs: Vec<_> = (0..16).map(|_| sim.job(speak(&["alpha", "bravo", "golf", "kilo"]))).collect();
    let talk =
        Talk { audio: speak(&WORDS), text: WORDS.join(" "), lookahead: 3, start: Duration::from_millis(10) };
    let stream = sim.talk(&talk, &[1_600]);
    sim.run();
    let waits = sim.events(stream).iter().filter_map(|w| match w {
        What::Update { waited, .. } => Some(*waited),
        _ => None,
    });
    let worst = waits.max().unwrap();
    assert!(worst <= Duration::from_millis(85), "{worst:?}");
    assert_eq!(sim.text(stream), talk.text);
    assert!(jobs.iter().all(|j| sim.text(*j) == "alpha bravo golf kilo"));
}

#[test]
fn recordings_get_their_turn_even_when_streams_take_all_the_time() {
    // Twelve streams of 40 ms chunks at 5 ms a chunk ask for 150 % of the time.
    let mut sim = Sim::new(Limits::default(), Duration::from_millis(5));
    let job = sim.job(speak(&["alpha"]));
    let talk = Talk { audio: silence(8_000), text: String::new(), lookahead: 0, start: Duration::ZERO };
    for _ in 0..12 {
        sim.talk(&talk, &[640]);
    }
    sim.run();
    assert_eq!(sim.text(job), "alpha");
    assert!(sim.done_at(job) < Duration::from_secs(5), "{:?}", sim.done_at(job));
}

#[test]
fn callers_that_are_gone_free_their_slots() {
    let mut sim = Sim::new(Limits::default(), Duration::ZERO);
    let stream = sim.open(3, Rules::default());
    let job = sim.job(speak(&["alpha"]));
    sim.batcher.retain(|o| o != stream);
    assert_eq!((sim.batcher.slots().streams(), sim.batcher.slots().jobs()), (0, 1));
    sim.run();
    assert!(sim.events(stream).is_empty());
    assert_eq!(sim.text(job), "alpha");
}

#[test]
fn a_recording_past_its_deadline_is_dropped() {
    let mut sim = Sim::new(Limits::default(), Duration::ZERO);
    let job = sim.job_until(speak(&["alpha"]), Duration::from_millis(1));
    let events = sim.batcher.expire(Duration::from_millis(2));
    assert_eq!(events.len(), 1);
    assert_eq!((events[0].occupant, &events[0].what), (job, &What::Expired));
}

#[test]
fn a_failed_step_is_tried_again_alone_and_the_text_is_the_same() {
    let mut sim = Sim::failing_at(4, Duration::ZERO);
    let talk =
        |word| Talk { audio: speak(&[word]), text: String::new(), lookahead: 3, start: Duration::ZERO };
    let a = sim.talk(&talk("alpha"), &[1_600]);
    let b = sim.talk(&talk("bravo"), &[1_600]);
    sim.run();
    assert_eq!((sim.text(a), sim.text(b)), ("alpha".to_owned(), "bravo".to_owned()));
}
