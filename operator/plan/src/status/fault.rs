//! What failed stays said while it is tried again: a status that followed every attempt would say in turns that all
//! is well and that it is not, with an Event for each.

use super::component::Scene;
use super::container::name;
use super::text::tens_of_percent;
use super::trouble::Trouble;
use super::{pod, reason};
use crate::component::ComponentKind;

/// Faults of a model: they say more than that a program ends or does not answer because of them.
pub(super) const OF_MODELS: [&str; 5] = [
    reason::MODEL_DOWNLOAD_FAILED,
    reason::MODEL_DIGEST_MISMATCH,
    reason::MODEL_NOT_FOUND,
    reason::MODEL_CACHE_NOT_WRITABLE,
    reason::MODEL_LOAD_FAILED,
];

/// Faults of a program that is started again and again.
const OF_PROGRAMS: [&str; 4] =
    [reason::CRASH_LOOP, reason::OOM_KILLED, reason::PROBE_FAILING, reason::CONTAINER_START_FAILED];

/// The fault of before, when what is seen now is but the next attempt of the same pod at the same spec.
pub(super) fn remembered(kind: ComponentKind, new: &Trouble, scene: Scene<'_>) -> Option<Trouble> {
    let former = scene.deployment.status.as_ref()?;
    let fault = scene.former(kind)?.fault.as_ref()?;
    let same_spec = former.observed_generation == scene.deployment.metadata.generation;
    let pods = scene.found.children.pods.iter().filter(|pod| pod::belongs(pod, kind));
    let same_pod = pods.map(name).any(|pod| fault.message.contains(pod) && new.message.contains(pod));
    if !same_spec || !same_pod {
        return None;
    }
    let of_model = OF_MODELS.into_iter().find(|known| fault.reason == *known);
    let of_program = OF_PROGRAMS.into_iter().find(|known| fault.reason == *known);
    let known = of_model.or(of_program.filter(|_| !new.fails()))?;
    let same = if new.fails() { OF_PROGRAMS.contains(&new.reason) } else { attempt(new) };
    same.then(|| Trouble::failing(known, fault.message.clone()))
}

/// It is only being tried again: nothing has come of it yet.
fn attempt(new: &Trouble) -> bool {
    match new.reason {
        reason::POD_STARTING | reason::MODEL_LOADING | reason::MODEL_WARMING_UP => true,
        reason::MODEL_DOWNLOADING => tens_of_percent(&new.message).is_none_or(|tens| tens == 0),
        _ => false,
    }
}
