//! Verdicts → conditions: with the generation they speak of, since when, and of bounded length.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::reason;
use super::text::{MAX_MESSAGE, cut};
use super::trouble::Verdict;

/// A condition to be.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) type_: &'static str,
    pub(super) verdict: Verdict,
    /// Generation of the spec that it speaks of.
    pub(super) generation: Option<i64>,
}

/// Conditions, in the order of the drafts. The time moves only when a condition's status does.
pub(super) fn settle(drafts: Vec<Draft>, former: &[Condition], now: &Time) -> Vec<Condition> {
    drafts.into_iter().map(|draft| one(draft, former, now)).collect()
}

fn one(draft: Draft, former: &[Condition], now: &Time) -> Condition {
    let Draft { type_, verdict, generation } = draft;
    let before = former.iter().find(|condition| condition.type_ == type_);
    let status = verdict.truth.as_str();
    let unmoved = before.filter(|before| before.status == status);
    let mut message = cut(&verdict.message, MAX_MESSAGE);
    // Some container runtimes name the cause of a failed pull in every second report only: the fuller one stays.
    if verdict.reason == reason::IMAGE_PULL_FAILED
        && let Some(before) = unmoved
        && before.reason == verdict.reason
        && before.message.starts_with(&message)
    {
        message.clone_from(&before.message);
    }
    Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: verdict.reason,
        message,
        observed_generation: generation,
        last_transition_time: unmoved
            .map_or_else(|| now.clone(), |before| before.last_transition_time.clone()),
    }
}
