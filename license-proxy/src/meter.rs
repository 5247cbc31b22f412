//! Counts what was done: seconds of audio and requests, never what was said or by whom. Pure.
//!
//! Reporters send batches with a sequence number and repeat a batch until it is acknowledged, so that nothing is
//! lost on the way and nothing is counted twice.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

/// Reporters remembered; the one that was silent for longest is forgotten first.
const MAX_REPORTERS: usize = 1_024;
/// Largest batch believed: a day of audio in every one of a thousand streams.
const MAX_AUDIO_MS: u64 = 24 * 3_600_000 * 1_000;
/// Largest number of requests believed in one batch.
const MAX_REQUESTS: u64 = 10_000_000;
/// Components that are counted apart; others are counted together.
const COMPONENTS: [&str; 3] = ["gateway", "asr", "tts"];

/// What was done since the last report.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Audio worked on, milliseconds.
    #[serde(default)]
    pub audio_ms: u64,
    /// Requests and sessions answered.
    #[serde(default)]
    pub requests: u64,
}

/// One report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The reporter: one process.
    pub reporter: String,
    /// 1, 2, 3 … of this reporter.
    pub sequence: u64,
    /// Its component.
    pub component: String,
    /// What it did.
    #[serde(flatten)]
    pub usage: Usage,
}

/// What became of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// It is counted.
    Now,
    /// It was counted before.
    Before,
    /// It cannot be true.
    Refused,
}

/// Totals by component.
#[derive(Debug, Default)]
pub struct Meter {
    totals: BTreeMap<&'static str, Usage>,
    sequences: BTreeMap<String, u64>,
    order: VecDeque<String>,
}

impl Meter {
    /// Takes a report.
    pub fn count(&mut self, report: &Report) -> Counted {
        let Usage { audio_ms, requests } = report.usage;
        if audio_ms > MAX_AUDIO_MS || requests > MAX_REQUESTS || report.reporter.len() > 64 {
            return Counted::Refused;
        }
        if self.sequences.get(&report.reporter).is_some_and(|last| report.sequence <= *last) {
            return Counted::Before;
        }
        self.remember(report);
        let total = self.totals.entry(label(&report.component)).or_default();
        total.audio_ms = total.audio_ms.saturating_add(audio_ms);
        total.requests = total.requests.saturating_add(requests);
        Counted::Now
    }

    /// Totals since the start.
    pub fn totals(&self) -> &BTreeMap<&'static str, Usage> {
        &self.totals
    }

    fn remember(&mut self, report: &Report) {
        if self.sequences.insert(report.reporter.clone(), report.sequence).is_some() {
            self.order.retain(|reporter| *reporter != report.reporter);
        }
        self.order.push_back(report.reporter.clone());
        if self.order.len() > MAX_REPORTERS
            && let Some(silent) = self.order.pop_front()
        {
            self.sequences.remove(&silent);
        }
    }
}

/// The component as a metric label: few values, whatever was sent.
pub fn label(component: &str) -> &'static str {
    COMPONENTS.into_iter().find(|known| *known == component).unwrap_or("other")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(reporter: &str, sequence: u64) -> Report {
        let usage = Usage { audio_ms: 1_500, requests: 1 };
        Report { reporter: reporter.into(), sequence, component: "asr".into(), usage }
    }

    #[test]
    fn a_repeated_report_counts_once() {
        let mut meter = Meter::default();
        assert_eq!(meter.count(&report("a", 1)), Counted::Now);
        assert_eq!(meter.count(&report("a", 1)), Counted::Before);
        assert_eq!(meter.count(&report("a", 2)), Counted::Now);
        assert_eq!(meter.count(&report("b", 1)), Counted::Now);
        assert_eq!(meter.totals()["asr"], Usage { audio_ms: 4_500, requests: 3 });
    }

    #[test]
    fn nonsense_is_refused() {
        let mut meter = Meter::default();
        let huge = Report { usage: Usage { audio_ms: u64::MAX, requests: 0 }, ..report("a", 1) };
        assert_eq!(meter.count(&huge), Counted::Refused);
        assert!(meter.totals().is_empty());
    }

    #[test]
    fn reporters_are_bounded_and_the_silent_go_first() {
        let mut meter = Meter::default();
        for at in 0..MAX_REPORTERS {
            meter.count(&report(&at.to_string(), 1));
        }
        meter.count(&report("0", 2));
        meter.count(&report("new", 1));
        assert_eq!(meter.sequences.len(), MAX_REPORTERS);
        assert_eq!(meter.count(&report("0", 2)), Counted::Before, "it reported lately");
        assert_eq!(meter.count(&report("1", 1)), Counted::Now, "it was forgotten");
    }

    #[test]
    fn unknown_components_are_one() {
        let mut meter = Meter::default();
        for component in ["x", "y"] {
            meter.count(&Report { component: component.into(), ..report(component, 1) });
        }
        assert_eq!(meter.totals().keys().copied().collect::<Vec<_>>(), ["other"]);
    }
}
