//! How long a crashed program waits before it is started again. Pure.

use std::time::Duration;

/// The first wait after a crash.
const FIRST: Duration = Duration::from_millis(250);
/// No wait is longer than this.
const LONGEST: Duration = Duration::from_secs(30);
/// A program that ran this long is taken for healthy: the next wait is the first one again.
const HEALTHY_AFTER: Duration = Duration::from_mins(1);

/// Counts crashes in a row and tells how long to wait.
#[derive(Debug, Clone, Default)]
pub struct Backoff {
    crashes: u32,
}

impl Backoff {
    /// Notes a crash after `ran` and tells how long to wait: 0.25 s, doubled with each crash, at most 30 s.
    pub fn after_crash(&mut self, ran: Duration) -> Duration {
        if ran >= HEALTHY_AFTER {
            self.crashes = 0;
        }
        self.crashes = self.crashes.saturating_add(1);
        let doubled = FIRST.checked_mul(1_u32.checked_shl(self.crashes - 1).unwrap_or(u32::MAX));
        doubled.unwrap_or(LONGEST).min(LONGEST)
    }

    /// Crashes in a row.
    pub fn crashes(&self) -> u32 {
        self.crashes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..9).map(|_| backoff.after_crash(Duration::ZERO).as_millis()).collect();
        assert_eq!(waits, [250, 500, 1000, 2000, 4000, 8000, 16000, 30000, 30000]);
    }

    #[test]
    fn a_program_that_ran_long_starts_anew() {
        let mut backoff = Backoff::default();
        for _ in 0..5 {
            backoff.after_crash(Duration::from_secs(1));
        }
        assert_eq!(backoff.after_crash(Duration::from_secs(61)), FIRST);
        assert_eq!(backoff.crashes(), 1);
    }

    proptest::proptest! {
        #[test]
        fn no_wait_is_ever_longer_than_the_longest(runs in proptest::collection::vec(0_u64..100, 0..80)) {
            let mut backoff = Backoff::default();
            for ran in runs {
                let wait = backoff.after_crash(Duration::from_secs(ran));
                proptest::prop_assert!(wait >= FIRST && wait <= LONGEST);
            }
        }
    }
}
