//! What steps cost, as measured: the ground on which batch work is let in between live steps. Pure.
//!
//! In: slots and duration of each step. Out: an estimate for the next one. Must not know: clocks.

use std::collections::HashMap;
use std::time::Duration;

use workers_engine::SlotOptions;

/// Weight of the newest measurement.
const NEWEST: f64 = 0.2;

/// Moving averages of the cost of one slot in a step, by the slot's options (there are few of them: the
/// look-aheads of the model times live or batch).
#[derive(Debug, Default)]
pub struct Costs {
    per_slot_s: HashMap<SlotOptions, f64>,
}

impl Costs {
    /// Takes a measurement.
    pub fn record(&mut self, options: SlotOptions, slots: usize, took: Duration) {
        let new = took.as_secs_f64() / slots.max(1) as f64;
        self.per_slot_s.entry(options).and_modify(|old| *old += NEWEST * (new - *old)).or_insert(new);
    }

    /// How many slots may share a step that should not last longer than `budget`; 1 when nothing is known.
    /// A step has a constant part as well, so for more than one slot this errs to the safe side.
    pub fn slots_within(&self, options: SlotOptions, budget: Duration) -> usize {
        match self.per_slot_s.get(&options) {
            Some(cost) if *cost > 0.0 => (budget.as_secs_f64() / cost) as usize,
            _ => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_what_was_measured() {
        let options = SlotOptions { lookahead: 3, chunks_per_step: 4 };
        let mut costs = Costs::default();
        assert_eq!(costs.slots_within(options, Duration::from_secs(1)), 1);
        costs.record(options, 2, Duration::from_millis(20));
        assert_eq!(costs.slots_within(options, Duration::from_millis(45)), 4);
        for _ in 0..100 {
            costs.record(options, 1, Duration::from_millis(50));
        }
        assert_eq!(costs.slots_within(options, Duration::from_millis(45)), 0);
    }
}
