//! The license, as the license proxies told gateways and workers.

use std::time::Duration;

use crds::LicenseStatus;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::component::Scene;
use super::found::Found;
use super::reason;
use super::text::piece;
use super::trouble::Verdict;
use crate::reading::{LicenseReading, QueueView};
use crate::validate::Invalid;

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// Remaining times that are told apart, seconds; between two steps the status stays as it is.
const STEPS: [(i64, &str); 10] = [
    (30 * DAY, "more than 30 days left"),
    (14 * DAY, "more than 14 days left"),
    (7 * DAY, "more than 7 days left"),
    (3 * DAY, "more than 3 days left"),
    (DAY, "more than 1 day left"),
    (12 * HOUR, "more than 12 hours left"),
    (6 * HOUR, "more than 6 hours left"),
    (3 * HOUR, "more than 3 hours left"),
    (HOUR, "more than 1 hour left"),
    (10 * MINUTE, "more than 10 minutes left"),
];

/// A valid license that ends within this time is worth a warning, seconds.
const SOON: i64 = 30 * DAY;

/// `LicenseValid`, and what `status.license` shows.
pub(super) fn verdict(scene: Scene<'_>) -> (Verdict, Option<LicenseStatus>) {
    let Some(reading) = worst(scene.found) else { return (unheard(scene.found), None) };
    let status =
        LicenseStatus { state: word(&reading.state), expires_at: seconds(reading.expires_at.as_ref()) };
    let end = status.expires_at.as_ref();
    let until = end.map_or_else(String::new, |end| format!(" until {}", end.0));
    let left = end.map(|end| left(end, scene.now));
    let verdict = match status.state.as_str() {
        reason::VALID => match left.filter(|_| soon(end, scene.now)) {
            Some(left) => Verdict::yes(
                reason::LICENSE_EXPIRING,
                format!("the license is valid{until}, {left}; replace it in its Secret before"),
            ),
            None => Verdict::yes(reason::VALID, format!("the license is valid{until}")),
        },
        reason::GRACE_PERIOD => Verdict::yes(
            reason::GRACE_PERIOD,
            format!(
                "the license server does not answer; work goes on{until} ({}); let the pods reach {}",
                left.unwrap_or("for some time"),
                scene.deployment.spec.license.server
            ),
        ),
        "Unknown" => {
            Verdict::unknown(reason::LICENSE_NOT_REPORTED, "the license proxies have not decided yet")
        }
        refused => {
            let said = reading.message.as_deref().map_or_else(|| "the license is refused".to_owned(), piece);
            Verdict::no(
                refused,
                format!("{said}; new work is refused until this is changed, what runs is finished"),
            )
        }
    };
    (verdict, Some(status))
}

/// How long until the message changes with time alone.
pub(super) fn next_step(found: &Found<'_>, now: &Time) -> Option<Duration> {
    let reading = worst(found)?;
    let end = seconds(reading.expires_at.as_ref())?;
    let graced = reading.state == reason::GRACE_PERIOD;
    let left = end.0.duration_since(now.0).as_secs();
    let step = STEPS.iter().map(|(step, _)| *step).find(|step| *step < left && (graced || *step <= SOON))?;
    // A step is passed when less than it is left.
    u64::try_from(left - step + 1).ok().map(Duration::from_secs)
}

/// What the worst of the gateways and workers was told: a refusal before the grace period before a yes, and
/// `Unknown`, as a pod says that has just started, only when there is nothing else. The earliest end of equals.
fn worst<'a>(found: &Found<'a>) -> Option<&'a LicenseReading> {
    let QueueView::Read(reading) = found.queue else { return None };
    let workers = reading.asr.workers.iter().chain(&reading.tts.workers);
    let told = workers.filter_map(|worker| worker.license.as_ref());
    let told = told.chain(reading.gateways.iter().filter_map(|gateway| gateway.license.as_ref()));
    let key = |reading: &LicenseReading| {
        let end = reading.expires_at.as_ref().map_or(i64::MAX, |end| end.0.as_second());
        (rank(&reading.state), end, reading.state.clone())
    };
    told.min_by_key(|reading| key(reading))
}

fn rank(state: &str) -> u8 {
    match state {
        "Unknown" => 3,
        reason::VALID => 2,
        reason::GRACE_PERIOD => 1,
        _ => 0,
    }
}

/// Nobody has told anything.
fn unheard(found: &Found<'_>) -> Verdict {
    match found.outcome {
        Err(
            invalid @ (Invalid::FindSecret { field, .. }
            | Invalid::FindSecretKey { field, .. }
            | Invalid::ReadSecret { field, .. }),
        ) if field.contains("license") => Verdict::no(invalid.reason(), invalid.to_string()),
        _ => Verdict::unknown(
            reason::LICENSE_NOT_REPORTED,
            "no gateway or worker has told the license's state yet",
        ),
    }
}

/// What is left in words that change seldom.
fn left(end: &Time, now: &Time) -> &'static str {
    let left = end.0.duration_since(now.0).as_secs();
    let step = STEPS.iter().find(|(step, _)| left > *step);
    step.map_or("less than 10 minutes left", |(_, more)| more)
}

fn soon(end: Option<&Time>, now: &Time) -> bool {
    end.is_some_and(|end| end.0.duration_since(now.0).as_secs() <= SOON)
}

/// Whole seconds, as the API keeps them: so that a status that was read equals the one that was written.
pub(super) fn seconds(time: Option<&Time>) -> Option<Time> {
    let whole = k8s_openapi::jiff::Timestamp::from_second(time?.0.as_second()).ok()?;
    Some(Time(whole))
}

/// A state comes through Redis: only what a condition may have as a reason is taken over.
fn word(state: &str) -> String {
    let plain = state.len() <= 64 && state.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let begins = state.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic());
    if plain && begins { state.to_owned() } else { reason::LICENSE_REFUSED.to_owned() }
}
