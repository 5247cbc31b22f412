//! Which resource is worked on next: wake-ups in, work out. A state machine without clocks or locks; `watch` and
//! the timers wake, the workers of `lib` take and report back.
//!
//! One resource is in the hands of one worker at a time; wake-ups that come meanwhile become one more turn. A
//! burst of wake-ups is one turn too: between two turns of a resource lies at least [`MIN_INTERVAL`]. After a
//! failure the next turn waits longer each time, unless something changes before that; a wait that the apiserver
//! asked for is kept in any case.
//!
//! What nobody has looked at yet goes first: where thousands are made at once, each is applied before the news of those
//! that are applied already, most of it of pods that start, is looked at. A resource is new only once, so the others wait
//! no longer than that takes, and what happens to one of them meanwhile is one turn.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use crate::scale::Key;

/// Least time between the starts of two turns of one resource.
pub(crate) const MIN_INTERVAL: Duration = Duration::from_millis(500);
/// Wait after the first failure; it doubles with each further one.
const FIRST_RETRY: Duration = Duration::from_millis(500);
/// Longest wait after a failure.
const LAST_RETRY: Duration = Duration::from_mins(5);

/// What a worker is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Next {
    /// Reconcile this resource, then call [`Agenda::done`].
    Work(Key),
    /// Nothing is due; look again at this time, or when something wakes.
    Wait(Option<Instant>),
}

/// How a turn ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Turn {
    /// All is as it should be; something falls due at this time, if at all.
    Settled(Option<Instant>),
    /// Something changed before it ended.
    Overtaken,
    /// It failed and is to be tried again.
    Failed {
        /// The apiserver asked for at least this wait.
        not_before: Option<Duration>,
        /// 0 to 1, random: spreads retries of many resources.
        jitter: f64,
    },
    /// The resource is gone: nothing is remembered of it.
    Gone,
}

/// What is to be done, and when.
#[derive(Debug, Default)]
pub(crate) struct Agenda {
    new: VecDeque<Key>,
    ready: VecDeque<Key>,
    later: BTreeSet<(Instant, Key)>,
    states: HashMap<Key, State>,
    working: HashSet<Key>,
}

#[derive(Debug, Default)]
struct State {
    waiting: Waiting,
    /// Woken while a worker has it.
    again: bool,
    started: Option<Instant>,
    /// The apiserver asked to be left alone until then.
    not_before: Option<Instant>,
    failures: u32,
}

#[derive(Debug, Default, Clone, Copy, PartialEq)]
enum Waiting {
    #[default]
    No,
    Ready,
    Until(Instant),
}

impl Agenda {
    /// Something about the resource changed.
    pub(crate) fn wake(&mut self, key: &Key, now: Instant) {
        let state = self.states.entry(key.clone()).or_default();
        if self.working.contains(key) {
            state.again = true;
            return;
        }
        let due = state.started.map_or(now, |started| started + MIN_INTERVAL);
        let due = state.not_before.map_or(due, |earliest| earliest.max(due));
        self.schedule(key, due, now);
    }

    /// What is due; the resource handed out stays with the caller until [`Agenda::done`].
    pub(crate) fn next(&mut self, now: Instant) -> Next {
        while let Some((due, key)) = self.later.first().cloned() {
            if due > now {
                break;
            }
            self.later.remove(&(due, key.clone()));
            self.put_ready(key);
        }
        let Some(key) = self.new.pop_front().or_else(|| self.ready.pop_front()) else {
            return Next::Wait(self.later.first().map(|(due, _)| *due));
        };
        let state = self.states.entry(key.clone()).or_default();
        state.waiting = Waiting::No;
        state.started = Some(now);
        self.working.insert(key.clone());
        Next::Work(key)
    }

    /// A worker gives a resource back.
    pub(crate) fn done(&mut self, key: &Key, turn: Turn, now: Instant) {
        self.working.remove(key);
        let Some(state) = self.states.get_mut(key) else { return };
        let again = std::mem::take(&mut state.again) || turn == Turn::Overtaken;
        let due = match turn {
            Turn::Gone if again => Some(now),
            Turn::Gone => {
                self.forget(key);
                return;
            }
            Turn::Settled(_) | Turn::Overtaken => {
                state.failures = 0;
                state.not_before = None;
                if let Turn::Settled(due) = turn { due } else { None }
            }
            Turn::Failed { not_before, jitter } => {
                state.failures = state.failures.saturating_add(1);
                state.not_before = not_before.map(|wait| now + wait);
                Some(now + retry(state.failures, jitter).max(not_before.unwrap_or_default()))
            }
        };
        if let Some(due) = due {
            self.schedule(key, due, now);
        }
        if again {
            self.wake(key, now);
        }
    }

    /// Resources that wait for a worker now.
    pub(crate) fn ready(&self) -> usize {
        self.new.len() + self.ready.len()
    }

    /// Resources in work.
    pub(crate) fn working(&self) -> usize {
        self.working.len()
    }

    /// Plans a turn, unless an earlier one is planned.
    fn schedule(&mut self, key: &Key, due: Instant, now: Instant) {
        let waiting = self.states.get(key).map_or(Waiting::No, |state| state.waiting);
        match waiting {
            Waiting::Ready => return,
            Waiting::Until(planned) if planned <= due => return,
            Waiting::Until(planned) => {
                self.later.remove(&(planned, key.clone()));
            }
            Waiting::No => {}
        }
        if due <= now {
            self.put_ready(key.clone());
        } else {
            self.later.insert((due, key.clone()));
            self.states.entry(key.clone()).or_default().waiting = Waiting::Until(due);
        }
    }

    fn put_ready(&mut self, key: Key) {
        // A timer can fall due while a worker has the resource.
        let state = self.states.entry(key.clone()).or_default();
        if self.working.contains(&key) {
            state.waiting = Waiting::No;
            state.again = true;
            return;
        }
        state.waiting = Waiting::Ready;
        let queue = if state.started.is_none() { &mut self.new } else { &mut self.ready };
        queue.push_back(key);
    }

    fn forget(&mut self, key: &Key) {
        if let Some(State { waiting: Waiting::Until(due), .. }) = self.states.remove(key) {
            self.later.remove(&(due, key.clone()));
        }
        self.new.retain(|ready| ready != key);
        self.ready.retain(|ready| ready != key);
    }
}

/// Wait before the next try after so many failures: doubling, bounded, spread over half of itself.
fn retry(failures: u32, jitter: f64) -> Duration {
    let doubled = FIRST_RETRY.saturating_mul(1_u32.checked_shl(failures - 1).unwrap_or(u32::MAX));
    doubled.min(LAST_RETRY).mul_f64(1.0 - 0.5 * jitter.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key::new("ns", name)
    }

    fn at(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    const FAILED: Turn = Turn::Failed { not_before: None, jitter: 0.0 };

    #[test]
    fn a_burst_is_one_turn_and_what_comes_meanwhile_one_more() {
        let (mut agenda, start) = (Agenda::default(), Instant::now());
        for _ in 0..10 {
            agenda.wake(&key("a"), start);
        }
        assert_eq!(agenda.next(start), Next::Work(key("a")));
        assert_eq!(agenda.next(start), Next::Wait(None));
        for _ in 0..10 {
            agenda.wake(&key("a"), at(start, 10));
        }
        assert_eq!(agenda.next(at(start, 20)), Next::Wait(None), "one worker at a time");
        agenda.done(&key("a"), Turn::Settled(None), at(start, 30));
        assert_eq!(agenda.next(at(start, 30)), Next::Wait(Some(start + MIN_INTERVAL)));
        assert_eq!(agenda.next(start + MIN_INTERVAL), Next::Work(key("a")));
        agenda.done(&key("a"), Turn::Settled(None), at(start, 600));
        assert_eq!((agenda.ready(), agenda.working()), (0, 0));
        assert_eq!(agenda.next(at(start, 10_000)), Next::Wait(None), "nothing comes back by itself");
    }

    #[test]
    fn resources_take_turns() {
        let (mut agenda, now) = (Agenda::default(), Instant::now());
        for name in ["a", "b", "a", "c"] {
            agenda.wake(&key(name), now);
        }
        assert_eq!(agenda.ready(), 3);
        for name in ["a", "b", "c"] {
            assert_eq!(agenda.next(now), Next::Work(key(name)));
        }
        assert_eq!((agenda.ready(), agenda.working()), (0, 3));
    }

    #[test]
    fn what_is_new_goes_before_news_of_what_is_not() {
        let (mut agenda, start) = (Agenda::default(), Instant::now());
        agenda.wake(&key("old"), start);
        assert_eq!(agenda.next(start), Next::Work(key("old")));
        agenda.done(&key("old"), Turn::Settled(None), start);
        let now = start + MIN_INTERVAL;
        for name in ["old", "new", "newer"] {
            agenda.wake(&key(name), now);
        }
        assert_eq!(agenda.ready(), 3);
        for name in ["new", "newer", "old"] {
            assert_eq!(agenda.next(now), Next::Work(key(name)));
        }
    }

    #[test]
    fn a_turn_that_was_overtaken_is_taken_again_like_any_other() {
        let (mut agenda, start) = (Agenda::default(), Instant::now());
        agenda.wake(&key("a"), start);
        agenda.next(start);
        agenda.done(&key("a"), Turn::Overtaken, at(start, 10));
        assert_eq!(agenda.next(at(start, 10)), Next::Wait(Some(start + MIN_INTERVAL)), "no hot loop");
        assert_eq!(agenda.next(start + MIN_INTERVAL), Next::Work(key("a")));
    }

    #[test]
    fn failures_wait_longer_each_time_and_success_forgets_them() {
        let (mut agenda, mut now) = (Agenda::default(), Instant::now());
        agenda.wake(&key("a"), now);
        let mut waits = Vec::new();
        for _ in 0..12 {
            assert_eq!(agenda.next(now), Next::Work(key("a")));
            agenda.done(&key("a"), FAILED, now);
            let Next::Wait(Some(due)) = agenda.next(now) else { panic!("no retry is planned") };
            waits.push((due - now).as_millis());
            now = due;
        }
        assert_eq!(waits[..5], [500, 1_000, 2_000, 4_000, 8_000]);
        assert_eq!(waits[10..], [300_000, 300_000], "bounded");
        assert_eq!(agenda.next(now), Next::Work(key("a")));
        agenda.done(&key("a"), Turn::Settled(None), now);
        now += MIN_INTERVAL;
        agenda.wake(&key("a"), now);
        assert_eq!(agenda.next(now), Next::Work(key("a")));
        agenda.done(&key("a"), FAILED, now);
        assert_eq!(agenda.next(now), Next::Wait(Some(at(now, 500))));
    }

    #[test]
    fn a_change_cuts_the_wait_after_a_failure_short() {
        let (mut agenda, start) = (Agenda::default(), Instant::now());
        agenda.wake(&key("a"), start);
        let mut now = start;
        for _ in 0..5 {
            let Next::Work(_) = agenda.next(now) else { panic!("it is due") };
            agenda.done(&key("a"), FAILED, now);
            let Next::Wait(Some(due)) = agenda.next(now) else { panic!("no retry is planned") };
            now = due;
        }
        assert_eq!(agenda.next(now), Next::Work(key("a")));
        agenda.done(&key("a"), FAILED, now);
        assert_eq!(agenda.next(now), Next::Wait(Some(at(now, 16_000))));
        agenda.wake(&key("a"), at(now, 2_000));
        assert_eq!(agenda.next(at(now, 2_000)), Next::Work(key("a")));
        agenda.done(&key("a"), Turn::Settled(None), at(now, 2_001));
        assert_eq!(agenda.next(at(now, 60_000)), Next::Wait(None), "the old retry is gone");
    }

    #[test]
    fn a_wait_that_the_apiserver_asked_for_is_kept() {
        let (mut agenda, start) = (Agenda::default(), Instant::now());
        agenda.wake(&key("a"), start);
        agenda.next(start);
        agenda.wake(&key("a"), start);
        agenda.done(&key("a"), Turn::Failed { not_before: Some(Duration::from_mins(1)), jitter: 0.0 }, start);
        agenda.wake(&key("a"), at(start, 30_000));
        assert_eq!(agenda.next(at(start, 59_000)), Next::Wait(Some(at(start, 60_000))));
        assert_eq!(agenda.next(at(start, 60_000)), Next::Work(key("a")));
        agenda.done(&key("a"), Turn::Settled(None), at(start, 60_001));
        agenda.wake(&key("a"), at(start, 61_000));
        assert_eq!(agenda.next(at(start, 61_000)), Next::Work(key("a")), "it is over");
    }

    #[test]
    fn what_falls_due_comes_at_its_time_unless_it_was_looked_at_before() {
        let (mut agenda, start) = (Agenda::default(), Instant::now());
        agenda.wake(&key("a"), start);
        agenda.next(start);
        agenda.done(&key("a"), Turn::Settled(Some(at(start, 5_000))), start);
        assert_eq!(agenda.next(start), Next::Wait(Some(at(start, 5_000))));
        agenda.wake(&key("a"), at(start, 4_900));
        assert_eq!(agenda.next(at(start, 4_900)), Next::Work(key("a")));
        agenda.done(&key("a"), Turn::Settled(None), at(start, 4_901));
        assert_eq!(
            agenda.next(at(start, 9_000)),
            Next::Wait(None),
            "it was looked at, and nothing falls due now"
        );
    }

    #[test]
    fn nothing_is_remembered_of_what_is_gone() {
        let (mut agenda, now) = (Agenda::default(), Instant::now());
        for n in 0..100 {
            let key = key(&n.to_string());
            agenda.wake(&key, now);
            agenda.next(now);
            agenda.done(&key, FAILED, now);
            let later = at(now, 1_000);
            assert_eq!(agenda.next(later), Next::Work(key.clone()));
            agenda.done(&key, Turn::Gone, later);
        }
        assert!(agenda.states.is_empty() && agenda.later.is_empty() && agenda.ready() == 0);
    }
}
