//! Which model is asked for, which one the workers serve, and how far they are.

use crds::{Model, ModelStatus};

use super::component::{Part, Scene};
use super::fault::OF_MODELS;
use super::reason;
use super::text::{piece, tens_of_percent};
use super::trouble::{Trouble, Truth, Verdict};
use crate::names;
use crate::reading::{QueueView, WorkerPhase, WorkerReading};

/// Digits of a digest that people are shown.
const SHORT: usize = 8;

/// Errors of the worker's `model_source`, by the words they begin with.
const FAILURES: [(&str, &str); 4] = [
    ("failed to download", reason::MODEL_DOWNLOAD_FAILED),
    ("failed to trust the model", reason::MODEL_DIGEST_MISMATCH),
    ("failed to write", reason::MODEL_CACHE_NOT_WRITABLE),
    ("failed to read", reason::MODEL_NOT_FOUND),
];

/// How far a worker that is not ready is, by what it says itself. `None` when it says that it is ready.
pub(super) fn trouble(worker: &WorkerReading) -> Option<Trouble> {
    let who =
        worker.pod.as_deref().map_or_else(|| format!("worker {}", worker.id), |pod| format!("pod {pod}"));
    let said = worker.message.as_deref().unwrap_or_default();
    // Only tens of percent: a status is not written at every block of a download.
    let done = tens_of_percent(said).map_or_else(String::new, |tens| format!(" ({tens} %)"));
    let (reason, text) = match worker.phase {
        WorkerPhase::Ready | WorkerPhase::Draining => return None,
        WorkerPhase::Failed => {
            let reason = FAILURES.iter().find(|(words, _)| said.contains(words));
            let reason = reason.map_or(reason::MODEL_LOAD_FAILED, |(_, reason)| *reason);
            return Some(Trouble::failing(reason, format!("{who} cannot serve its model: {}", piece(said))));
        }
        WorkerPhase::Starting => (reason::POD_STARTING, format!("{who} is starting")),
        WorkerPhase::Downloading => (reason::MODEL_DOWNLOADING, format!("{who} downloads its model{done}")),
        WorkerPhase::Loading => (reason::MODEL_LOADING, format!("{who} loads its model{done}")),
        WorkerPhase::WarmingUp => (reason::MODEL_WARMING_UP, format!("{who} warms its model up{done}")),
    };
    Some(Trouble::waiting(reason, text))
}

/// One model of one kind of worker, with what is said of it.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) status: ModelStatus,
    pub(super) truth: Truth,
    pub(super) message: String,
}

/// The models of a component.
pub(super) fn served(part: &Part, models: &[Model], scene: Scene<'_>) -> Vec<Served> {
    models.iter().map(|model| one(part, model, scene)).collect()
}

/// `ModelsReady`; `None` when no model is asked for that this version serves.
pub(super) fn verdict(models: &[Served]) -> Option<Verdict> {
    let worst = models.iter().min_by_key(|model| match model.truth {
        Truth::False => 0,
        Truth::Unknown => 1,
        Truth::True => 2,
    })?;
    let all: Vec<&str> = models.iter().map(|model| model.message.as_str()).collect();
    Some(Verdict { truth: worst.truth, reason: worst.status.state.clone(), message: all.join("; ") })
}

fn one(part: &Part, model: &Model, scene: Scene<'_>) -> Served {
    let workers = scene.workers(part.kind);
    let ready: Vec<&WorkerReading> =
        workers.iter().filter(|worker| worker.phase == WorkerPhase::Ready).collect();
    let digests: Vec<String> = ready.iter().filter_map(|worker| digest(worker)).collect();
    let wanted = digests.iter().filter(|digest| **digest == model.sha256).count();
    let others = digests.len() - wanted;
    let (truth, state, message) = state(part, scene, &Tally { ready: ready.len(), wanted, others });
    let sha256 = most(&digests);
    let name = &model.name;
    let short = sha256.as_deref().unwrap_or(&model.sha256).get(..SHORT).unwrap_or_default();
    let summary =
        if truth == Truth::True { format!("{name}@{short}") } else { format!("{name}@{short} {state}") };
    let component = names::component(part.kind);
    Served {
        status: ModelStatus {
            name: name.clone(),
            component: component.to_owned(),
            wanted_sha256: model.sha256.clone(),
            sha256,
            ready_replicas: u32::try_from(wanted).unwrap_or(u32::MAX),
            state: state.to_owned(),
            summary,
        },
        truth,
        message: format!("{component} {name}: {message}"),
    }
}

/// Ready workers, and how many of them serve the wanted digest, and another one.
struct Tally {
    ready: usize,
    wanted: usize,
    others: usize,
}

fn state(part: &Part, scene: Scene<'_>, tally: &Tally) -> (Truth, &'static str, String) {
    let Tally { ready, wanted, others } = *tally;
    // A fault that is remembered comes before the next attempt.
    let fault = part.failing().filter(|fault| OF_MODELS.contains(&fault.reason)).cloned();
    let held = fault.or_else(|| scene.workers(part.kind).iter().filter_map(trouble).min());
    if others > 0 {
        let text =
            format!("{wanted} of {ready} ready workers serve the digest asked for, {others} another one");
        return match held.filter(Trouble::fails) {
            Some(held) => (Truth::False, held.reason, format!("{text}; {}", held.message)),
            None => (Truth::False, reason::MODEL_ROLLING, text),
        };
    }
    if ready > 0 {
        return (Truth::True, reason::SERVING, "every ready worker serves the digest asked for".to_owned());
    }
    if part.verdict.reason == reason::SCALED_TO_ZERO {
        return (Truth::True, reason::SCALED_TO_ZERO, "loaded when the first replica starts".to_owned());
    }
    if let Some(held) = held {
        return (Truth::False, held.reason, held.message);
    }
    if !matches!(scene.found.queue, QueueView::Read(_)) {
        let text = "the workers cannot be asked: the queue is not read".to_owned();
        return (Truth::Unknown, reason::QUEUE_NOT_READ, text);
    }
    (Truth::False, reason::MODEL_WAITING, "no worker has registered itself yet".to_owned())
}

/// Digest that a worker tells: 64 lower-case hexadecimal digits.
fn digest(worker: &WorkerReading) -> Option<String> {
    let told = worker.model_sha256.as_deref()?;
    let hex = told.strip_prefix("sha256:").unwrap_or(told).to_ascii_lowercase();
    (hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(hex)
}

/// The digest that most workers serve; the smaller one of two.
fn most(digests: &[String]) -> Option<String> {
    let count = |digest: &String| digests.iter().filter(|other| *other == digest).count();
    digests.iter().max_by(|a, b| count(a).cmp(&count(b)).then_with(|| b.cmp(a))).cloned()
}
