//! The running proxy: source → known → decision, again and again, for everybody who waits for it.
//!
//! One task looks at the source and at the clock; everybody else reads the latest [`State`] from a watch channel.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::decide::{Decision, DenyReason, Facts, Known, Verdict, decide, instant};
use crate::meter::{Counted, Meter, Report, label};
use crate::token::TrustedKeys;
use crate::upstream::{Found, Source};

/// How often a license file is looked at: a renewed one takes effect without a restart.
const FILE_INTERVAL: Duration = Duration::from_secs(10);
/// Pause after a check that found no server; grows to the interval.
const AWAY_PAUSE: Duration = Duration::from_secs(2);
/// From this time before its end, a license is warned of.
const WARN_BEFORE_MS: u64 = 3_600_000;

/// What the proxy is told when it starts.
#[derive(Debug, Clone)]
pub struct ServiceConfig {
    /// Name of this host, as licenses have it.
    pub host: String,
    /// How long a confirmation lasts while the server is away.
    pub grace_period: Duration,
    /// How often a server is asked.
    pub revalidate: Duration,
}

/// The running proxy.
pub struct Service {
    config: ServiceConfig,
    known: watch::Sender<Known>,
    meter: Mutex<Meter>,
}

/// Now, Unix milliseconds.
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

impl Service {
    /// A proxy that knows nothing yet.
    pub fn new(config: ServiceConfig) -> Self {
        let nothing = Known::Nothing {
            reason: DenyReason::LicenseServerUnreachable,
            message: "the license has not been checked yet".to_owned(),
        };
        Self { config, known: watch::Sender::new(nothing), meter: Mutex::default() }
    }

    /// The decision for a component now.
    pub fn verdict(&self, component: Option<&str>) -> Verdict {
        decide(&self.known.borrow(), &self.facts(component))
    }

    /// Waits until the decision for a component is another one than `known_tag`, or `wait` is over.
    pub async fn changed(&self, component: Option<&str>, known_tag: &str, wait: Duration) -> Verdict {
        let mut known = self.known.subscribe();
        let end = tokio::time::Instant::now() + wait;
        loop {
            known.mark_unchanged();
            let verdict = self.verdict(component);
            let left = end.saturating_duration_since(tokio::time::Instant::now());
            if tag(&verdict.decision) != known_tag || left.is_zero() {
                return verdict;
            }
            let clock = verdict.changes_ms.map(|at| Duration::from_millis(at.saturating_sub(now_ms()) + 1));
            let sleep = clock.map_or(left, |clock| clock.min(left));
            // The sender lives as long as this service: an error cannot happen, and would end the wait.
            let _ = tokio::time::timeout(sleep, known.changed()).await;
        }
    }

    /// Takes a usage report.
    pub fn count(&self, report: &Report) -> Counted {
        let counted = self.meter.lock().unwrap_or_else(PoisonError::into_inner).count(report);
        if counted == Counted::Now {
            let component = label(&report.component);
            let usage = report.usage;
            // A gauge, since counters of the facade are whole numbers and seconds are not.
            metrics::gauge!("license_proxy_usage_audio_seconds", "component" => component)
                .increment(usage.audio_ms as f64 / 1000.0);
            metrics::counter!("license_proxy_usage_requests_total", "component" => component)
                .increment(usage.requests);
        }
        counted
    }

    /// Totals since the start, by component.
    pub fn totals(&self) -> std::collections::BTreeMap<&'static str, crate::meter::Usage> {
        self.meter.lock().unwrap_or_else(PoisonError::into_inner).totals().clone()
    }

    /// Looks at the source until told to stop.
    pub async fn run(&self, source: &Source, keys: &TrustedKeys, stop: &CancellationToken) {
        let interval = self.config.revalidate;
        let interval = if source.is_server() { interval } else { interval.min(FILE_INTERVAL) };
        let first = AWAY_PAUSE.min(interval);
        let mut pause = first;
        loop {
            let found = tokio::select! {
                () = stop.cancelled() => return,
                found = source.check(keys) => found,
            };
            let away = matches!(found, Found::Away { .. });
            self.learn(found);
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.sleep(if away { pause } else { interval }) => {}
            }
            pause = if away { (pause * 2).min(interval) } else { first };
        }
    }

    /// Sleeps, and publishes what time alone changes meanwhile.
    async fn sleep(&self, pause: Duration) {
        let end = tokio::time::Instant::now() + pause;
        loop {
            let left = end.saturating_duration_since(tokio::time::Instant::now());
            let at = self.verdict(None).changes_ms.map(|at| at.saturating_sub(now_ms()) + 1);
            match at.map(Duration::from_millis).filter(|until| *until < left) {
                None => return tokio::time::sleep(left).await,
                Some(until) => {
                    tokio::time::sleep(until).await;
                    self.publish();
                }
            }
        }
    }

    fn learn(&self, found: Found) {
        if let Found::Away { message } = &found {
            tracing::warn!(message, "failed to reach the license server");
        }
        metrics::counter!("license_proxy_validations_total", "result" => word(&found)).increment(1);
        let before = self.known.borrow().clone();
        let after = before.clone().after(found, now_ms());
        let changed = self.known.send_if_modified(|known| {
            let changed = *known != after;
            *known = after;
            changed
        });
        if changed && !same(&before, &self.known.borrow()) {
            self.log();
        }
        self.publish();
    }

    /// What `/metrics` says, and a warning while the end is near.
    fn publish(&self) {
        let verdict = self.verdict(None);
        let granted = matches!(verdict.decision, Decision::Granted { .. });
        metrics::gauge!("license_proxy_license_valid").set(f64::from(u8::from(granted)));
        metrics::gauge!("license_proxy_grace_period_active")
            .set(f64::from(u8::from(verdict.grace_period_active)));
        let Decision::Granted { valid_until_ms: Some(until), .. } = verdict.decision else { return };
        metrics::gauge!("license_proxy_valid_until_timestamp_seconds").set(until as f64 / 1000.0);
        if until.saturating_sub(now_ms()) < WARN_BEFORE_MS {
            tracing::warn!(valid_until = instant(until), "the license ends within the hour");
        }
    }

    fn log(&self) {
        match self.verdict(None).decision {
            Decision::Granted { valid_until_ms, max_streams } => {
                let until = valid_until_ms.map(instant);
                tracing::info!(valid_until = until, max_streams, "the license is valid");
            }
            Decision::Denied { reason, message } => {
                tracing::error!(reason = reason.as_str(), message, "the license is refused");
            }
            Decision::Unknown => {}
        }
    }

    fn facts<'a>(&'a self, component: Option<&'a str>) -> Facts<'a> {
        Facts {
            now_ms: now_ms(),
            host: &self.config.host,
            grace_period_ms: self.config.grace_period.as_millis() as u64,
            component,
        }
    }
}

/// The same license and the same answer; only the time of the last confirmation may differ.
fn same(before: &Known, after: &Known) -> bool {
    match (before, after) {
        (
            Known::Confirmed { license: a, unreachable: x, .. },
            Known::Confirmed { license: b, unreachable: y, .. },
        ) => a == b && x == y,
        (before, after) => before == after,
    }
}

fn word(found: &Found) -> &'static str {
    match found {
        Found::License { .. } => "valid",
        Found::No { .. } => "refused",
        Found::Away { .. } => "unreachable",
    }
}

/// A short name of a decision: those who wait send back the one they know. The end of the license is no part of
/// it, since every confirmation moves the end of the grace period.
pub fn tag(decision: &Decision) -> String {
    match decision {
        Decision::Granted { max_streams, .. } => {
            format!("granted-{}", max_streams.map_or_else(|| "any".to_owned(), |streams| streams.to_string()))
        }
        Decision::Denied { reason, .. } => format!("denied-{reason}"),
        Decision::Unknown => "unknown".to_owned(),
    }
}
