//! Two statuses → the Events that the way from one to the other is worth.

use crds::SmallestDeploymentStatus;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::found::Note;
use super::reason::{self, calm};
use super::text::{MAX_MESSAGE, cut};

/// Events of one change, at most.
const MOST: usize = 10;

/// Conditions that repeat what others say.
const SILENT: [&str; 2] = ["Reconciling", "Stalled"];

/// Events that the way from one status to the next is worth: each reason once, warnings for what is wrong, and
/// normal ones for what is well again, carried out, or scaled.
pub fn notes(before: Option<&SmallestDeploymentStatus>, after: &SmallestDeploymentStatus) -> Vec<Note> {
    let former = before.map(|status| status.conditions.as_slice()).unwrap_or_default();
    let told = after.conditions.iter().filter(|condition| !SILENT.contains(&condition.type_.as_str()));
    let mut notes: Vec<Note> = Vec::new();
    for condition in told {
        let old = former.iter().find(|old| old.type_ == condition.type_);
        let Some(type_) = worth(old, condition) else { continue };
        if notes.iter().all(|note| note.reason != condition.reason) {
            notes.push(note(type_, &condition.reason, &condition.message));
        }
    }
    let known = before.map(|status| status.scale_decisions.as_slice()).unwrap_or_default();
    let new = after.scale_decisions.iter().filter(|decision| !known.contains(decision));
    notes.extend(new.map(|decision| {
        let text = format!(
            "{} scaled from {} to {} by {}: {}",
            decision.component, decision.from, decision.to, decision.by, decision.inputs
        );
        note("Normal", reason::SCALED, &text)
    }));
    notes.truncate(MOST);
    notes
}

/// Type of the Event that a condition's change is worth.
fn worth(old: Option<&Condition>, new: &Condition) -> Option<&'static str> {
    let was = |status: &str| old.is_some_and(|old| old.status == status);
    let turned = old.is_none_or(|old| old.status != new.status);
    let changed = turned || old.is_some_and(|old| old.reason != new.reason);
    let counts_down = matches!(new.reason.as_str(), reason::GRACE_PERIOD | reason::LICENSE_EXPIRING);
    match (new.type_.as_str(), new.status.as_str()) {
        // The countdown is told at each of its steps.
        ("LicenseValid", _) if counts_down => {
            let moved = changed || old.is_some_and(|old| old.message != new.message);
            moved.then_some("Warning")
        }
        ("Degraded", "True") => changed.then_some("Warning"),
        ("Degraded", _) => was("True").then_some("Normal"),
        ("Progressing", _) => (was("True") && new.reason == reason::COMPLETE).then_some("Normal"),
        ("Ready", "True") => turned.then_some("Normal"),
        ("Ready", _) if was("True") => Some("Warning"),
        // A new autoscaler has no metric for some seconds: if it stays so, `Degraded` tells.
        ("ScalingActive", "False") => was("True").then_some("Warning").filter(|_| !calm(&new.reason)),
        (_, "False") if !calm(&new.reason) => changed.then_some("Warning"),
        ("LicenseValid" | "ModelsReady" | "ScalingActive", "True") => was("False").then_some("Normal"),
        _ => None,
    }
}

fn note(type_: &'static str, reason: &str, message: &str) -> Note {
    Note { type_, reason: reason.to_owned(), message: cut(message, MAX_MESSAGE) }
}
