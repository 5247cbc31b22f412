//! Bare threads in a row that hand chunks on, as many as a chunk wakes on its way through gateway and Redis.

use std::hint::black_box;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

/// Gateway, Redis, worker, Redis, gateway, client.
const THREADS: usize = 6;
/// Rounds of [`spin`] by which its speed is found, and how often: the host may take the processor meanwhile.
const ROUNDS: u64 = 1_000_000;
const TRIALS: usize = 20;

/// Hands a chunk on at each of the moments; what each took from the first thread's waking to the last one's end, of which
/// all threads together were busy for `work` of processor time.
#[expect(clippy::disallowed_methods, reason = "the sleep gives the pace, as the clients have one")]
pub(crate) fn run(moments: &[(Duration, usize)], work: Duration) -> Vec<Duration> {
    let rounds = (work.as_secs_f64() / THREADS as f64 * speed()) as u64;
    let (first, mut from) = channel::<Instant>();
    for _ in 1..THREADS {
        let (to, next) = channel();
        std::thread::spawn(move || {
            from.iter().try_for_each(|chunk| {
                spin(rounds);
                to.send(chunk)
            })
        });
        from = next;
    }
    let last = std::thread::spawn(move || {
        let took = from.iter().map(|sent| {
            spin(rounds);
            sent.elapsed()
        });
        took.collect()
    });
    let begins = Instant::now();
    for (moment, _) in moments {
        std::thread::sleep((begins + *moment).saturating_duration_since(Instant::now()));
        first.send(Instant::now()).ok();
    }
    drop(first);
    last.join().unwrap_or_default()
}

/// Rounds of [`spin`] in a second of processor time.
fn speed() -> f64 {
    let trial = |_| {
        let began = Instant::now();
        spin(ROUNDS);
        began.elapsed()
    };
    let took = (0..TRIALS).map(trial).min().unwrap_or_default();
    ROUNDS as f64 / took.as_secs_f64().max(f64::MIN_POSITIVE)
}

fn spin(rounds: u64) {
    for round in 0..rounds {
        black_box(round);
    }
}
