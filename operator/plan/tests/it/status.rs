//! Statuses as data: `tests/status/<name>/input.yaml` holds the resource, its Secrets, its children as a cluster
//! writes them, and a `Given` (instant, queue, what became of applying); what is `like` another case stands there.
//! `status.yaml` is what must come out, with Events and when to look again. `UPDATE_CASES=1` records them anew; read the difference before you commit it.

mod given;
mod hostile;
mod manual;

use std::fs;
use std::path::{Path, PathBuf};

use crds::SmallestDeploymentStatus;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use operator_plan::{Found, Note};
use serde::Serialize;

use given::{Given, Objects};

/// What a case records.
#[derive(Serialize)]
struct Recorded {
    /// A line each, for those who read the difference.
    conditions: Vec<String>,
    #[serde(flatten)]
    rest: SmallestDeploymentStatus,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    events: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    look_again_seconds: Option<u64>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/status")
}

/// All cases, by name.
fn cases() -> Vec<(String, String)> {
    let mut cases: Vec<(String, String)> = fs::read_dir(folder())
        .expect("folder of cases")
        .map(|entry| entry.expect("entry").path())
        .map(|path| {
            let name = path.file_name().expect("name").to_string_lossy().into_owned();
            (name, fs::read_to_string(path.join("input.yaml")).expect("input.yaml"))
        })
        .collect();
    cases.sort();
    cases
}

/// Runs the judgement on what a case gives.
fn judge<T>(objects: &Objects, judge: impl FnOnce(&Found<'_>, &Time) -> T) -> T {
    let Given { now, queue, applied, decisions } = objects.given.read();
    let outcome = objects.outcome(&now);
    let found = Found {
        outcome: outcome.as_ref(),
        applied: applied.as_ref().map_or(Ok(()), Err),
        children: &objects.children,
        queue: &queue,
        decisions: &decisions,
    };
    judge(&found, &now)
}

fn status(objects: &Objects) -> SmallestDeploymentStatus {
    judge(objects, |found, now| operator_plan::status(&objects.deployment, found, now))
}

fn told(note: &Note) -> String {
    format!("{} {}: {}", note.type_, note.reason, note.message)
}

fn line(condition: &Condition) -> String {
    let Condition { type_, status, reason, message, observed_generation, last_transition_time } = condition;
    let generation =
        observed_generation.map_or("no generation".to_owned(), |number| format!("generation {number}"));
    let since = last_transition_time.0;
    format!("{type_} {status} {reason}: {message} ({generation}, since {since})")
}

#[test]
fn cases_give_their_status() {
    let update = std::env::var_os("UPDATE_CASES").is_some();
    let mut wrong = Vec::new();
    let cases = cases();
    for (name, input) in &cases {
        let objects = given::read(input).unwrap_or_else(|error| panic!("{name}: {error}"));
        let after = status(&objects);
        let notes = operator_plan::notes(objects.deployment.status.as_ref(), &after);
        let again = judge(&objects, |found, now| operator_plan::look_again(&objects.deployment, found, now));
        let recorded = Recorded {
            conditions: after.conditions.iter().map(line).collect(),
            rest: SmallestDeploymentStatus { conditions: Vec::new(), ..after },
            events: notes.iter().map(told).collect(),
            look_again_seconds: again.map(|again| again.as_secs()),
        };
        let text = serde_yaml::to_string(&recorded).expect("plain data");
        let file = folder().join(name).join("status.yaml");
        if update {
            fs::write(&file, &text).expect("record the case");
        }
        if fs::read_to_string(&file).unwrap_or_default() != text {
            wrong.push(format!("{name}:\n{text}"));
        }
    }
    assert!(cases.len() >= 40, "the cases are gone: {} found", cases.len());
    assert!(wrong.is_empty(), "UPDATE_CASES=1 records these:\n{}", wrong.join("\n"));
}

/// What was written and read again is not written anew, and is worth no Event.
#[test]
fn a_status_that_was_written_gives_itself() {
    for (name, input) in cases() {
        let mut objects = given::read(&input).expect("case");
        let first = status(&objects);
        let written = serde_json::to_string(&first).expect("json");
        objects.deployment.status = Some(serde_json::from_str(&written).expect("status"));
        let second = status(&objects);
        assert_eq!(serde_yaml::to_string(&first).ok(), serde_yaml::to_string(&second).ok(), "{name}");
        assert_eq!(objects.deployment.status.as_ref(), Some(&second), "{name}");
        assert_eq!(operator_plan::notes(Some(&first), &second), [], "{name}");
    }
}

/// The order in which a cache hands out objects says nothing.
#[test]
fn the_order_of_children_does_not_matter() {
    for (name, input) in cases() {
        let mut objects = given::read(&input).expect("case");
        let first = status(&objects);
        objects.children.pods.reverse();
        objects.children.deployments.reverse();
        objects.children.horizontal_pod_autoscalers.reverse();
        objects.children.persistent_volume_claims.reverse();
        assert_eq!(first, status(&objects), "{name}");
    }
}

#[test]
fn times_move_only_with_the_status_of_their_condition() {
    let (_, input) = cases().into_iter().find(|(name, _)| name == "image-pull-back-off").expect("case");
    let mut objects = given::read(&input).expect("case");
    let first = status(&objects);
    objects.deployment.status = Some(first.clone());
    objects.given.set_now("2026-11-21T12:30:00Z");
    objects.children.pods.clear();
    let second = status(&objects);
    for condition in &second.conditions {
        let before = first.conditions.iter().find(|before| before.type_ == condition.type_);
        let Some(before) = before else { continue };
        let moved = before.last_transition_time != condition.last_transition_time;
        assert_eq!(moved, before.status != condition.status, "{}", condition.type_);
    }
    let asr = |status: &SmallestDeploymentStatus| {
        status.conditions.iter().find(|condition| condition.type_ == "ASRReady").cloned().expect("ASRReady")
    };
    assert_ne!(asr(&first).reason, asr(&second).reason, "the reason changed, the time did not");
}

fn condition<'a>(status: &'a SmallestDeploymentStatus, type_: &str) -> &'a Condition {
    status.conditions.iter().find(|condition| condition.type_ == type_).expect("condition")
}

/// A worker that cannot load its model tries again and again, and at times its container is restarted.
#[test]
fn a_fault_stays_said_through_all_attempts_until_something_comes_of_one() {
    let (_, input) = cases().into_iter().find(|(name, _)| name == "model-load-failed").expect("case");
    let mut objects = given::read(&input).expect("case");
    let first = status(&objects);
    objects.deployment.status = Some(first.clone());
    for phase in ["Loading", "Failed", "Starting", "Downloading", "WarmingUp", "Failed"] {
        let said = if phase == "Failed" { "failed to run the model: CUDA out of memory" } else { "trying" };
        objects.given.set_worker(phase, said);
        let next = status(&objects);
        assert_eq!(operator_plan::notes(objects.deployment.status.as_ref(), &next), [], "{phase}");
        assert_eq!(condition(&next, "Degraded"), condition(&first, "Degraded"), "{phase}");
        assert_eq!(condition(&next, "ModelsReady").reason, "ModelLoadFailed", "{phase}");
        objects.deployment.status = Some(next);
    }
    objects.given.set_worker("Downloading", "3 of 12 MiB (25 %)");
    assert_eq!(condition(&status(&objects), "Degraded").status, "False", "something comes of it");
    objects.given.set_worker("Loading", "trying");
    objects.deployment.metadata.generation = Some(2);
    assert_eq!(condition(&status(&objects), "Degraded").status, "False", "another spec, another fault");
}
