//! How long a piece of work takes by itself, on a machine that does other work as well.
//!
//! Journey: `load → warm by [stopwatch] → ready`. Workers start together, beside the loading of models and much else: by
//! the clock on the wall a step then takes several times what it costs. The kernel counts how long each thread was ready
//! to run and had no CPU (`/proc/<pid>/task/<tid>/schedstat`); that time is taken off. Must not know: what is timed.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

/// Times one piece of work after the other.
pub(crate) trait Stopwatch {
    /// The work begins.
    fn start(&mut self);
    /// The work is done; what it cost.
    fn stop(&mut self) -> Duration;
}

/// The stopwatch of this machine.
#[derive(Debug, Default)]
pub(crate) struct SystemStopwatch {
    begun: Option<(Instant, BTreeMap<String, Scheduled>)>,
}

/// What the kernel counted of one thread.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Scheduled {
    /// On a CPU.
    ran: Duration,
    /// Ready to run, without a CPU.
    waited: Duration,
}

impl Stopwatch for SystemStopwatch {
    fn start(&mut self) {
        // The clock is read next to the work, on both sides.
        let threads = threads();
        self.begun = Some((Instant::now(), threads));
    }

    fn stop(&mut self) -> Duration {
        let now = Instant::now();
        let Some((begun, before)) = self.begun.take() else { return Duration::ZERO };
        let mut most = Scheduled::default();
        for (thread, after) in threads() {
            let before = before.get(&thread).copied().unwrap_or_default();
            most.ran = most.ran.max(after.ran.saturating_sub(before.ran));
            most.waited = most.waited.max(after.waited.saturating_sub(before.waited));
        }
        undisturbed(now - begun, most)
    }
}

/// What is left without the waiting. The threads of an engine wait for each other, so their waits overlap: the longest
/// one is sure to be lost time. The work of the busiest thread is never taken off.
fn undisturbed(elapsed: Duration, most: Scheduled) -> Duration {
    elapsed.saturating_sub(most.waited).max(most.ran.min(elapsed))
}

/// All threads of this program; none where the kernel does not tell, and then nothing is taken off.
fn threads() -> BTreeMap<String, Scheduled> {
    let Ok(tasks) = fs::read_dir("/proc/self/task") else { return BTreeMap::new() };
    let read = |task: fs::DirEntry| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        Some((task.file_name().into_string().ok()?, parse(&text)?))
    };
    tasks.filter_map(|task| read(task.ok()?)).collect()
}

/// `<ran> <waited> <times>`, nanoseconds.
fn parse(text: &str) -> Option<Scheduled> {
    let mut numbers = text.split_whitespace().map(str::parse);
    let (ran, waited) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    Some(Scheduled { ran: Duration::from_nanos(ran), waited: Duration::from_nanos(waited) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_waited_for_a_cpu_is_taken_off() {
        let ms = Duration::from_millis;
        let cost = |elapsed, ran, waited| {
            undisturbed(ms(elapsed), Scheduled { ran: ms(ran), waited: ms(waited) }).as_millis()
        };
        assert_eq!(cost(20, 20, 0), 20, "a machine at rest");
        assert_eq!(cost(80, 20, 60), 20, "a busy machine, one thread");
        assert_eq!(cost(80, 20, 45), 35, "waits of threads for each other that did not overlap stay");
        assert_eq!(cost(20, 2, 0), 20, "a GPU works while the thread sleeps");
        assert_eq!(cost(20, 19, 15), 19, "another thread waited, which the work did not need");
        assert_eq!(cost(20, 500, 900), 20, "counters that cannot be");
    }

    #[test]
    fn the_kernels_counters_are_read() {
        let read = Scheduled { ran: Duration::from_nanos(12), waited: Duration::from_nanos(34) };
        assert_eq!(parse("12 34 5\n"), Some(read));
        assert_eq!((parse(""), parse("12"), parse("a b c")), (None, None, None));
    }

    #[test]
    fn work_costs_at_most_what_the_clock_says() {
        let mut stopwatch = SystemStopwatch::default();
        let begun = Instant::now();
        stopwatch.start();
        let sum: u64 = (0..2_000_000_u64).map(|n| n.wrapping_mul(n)).fold(0, u64::wrapping_add);
        let cost = stopwatch.stop();
        assert!(sum > 0 && cost > Duration::ZERO && cost <= begun.elapsed());
        assert_eq!(stopwatch.stop(), Duration::ZERO, "nothing was begun");
    }
}
