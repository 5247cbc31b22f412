//! All parts together: `Ready`, `Progressing`, `Degraded`, and what kstatus reads, `Reconciling` and `Stalled`.
//!
//! - `Ready`: the service answers now, maybe still by an older spec.
//! - `Progressing`: the spec is being carried out, and nobody needs to help.
//! - `Degraded`: something is wrong, whether or not the service answers.
//! - `Reconciling` and `Stalled` are there only while they are true (kstatus: "abnormal-true" conditions); Flux, Argo
//!   CD and Helm 4 wait while the former is there and give up at the latter.

use super::component::Part;
use super::fault;
use super::found::Found;
use super::reason;
use super::text::piece;
use super::trouble::{Trouble, Truth, Verdict};
use crate::component::ComponentKind;
use crate::names;

/// What was found of all parts.
pub(super) struct Whole<'a> {
    pub(super) found: &'a Found<'a>,
    /// The spec as it is has been carried out before.
    pub(super) served_before: bool,
    /// Redis if embedded, workers that are asked for, gateway.
    pub(super) parts: &'a [Part],
    pub(super) redis: &'a Verdict,
    pub(super) license: &'a Verdict,
    pub(super) models: Option<&'a Verdict>,
    /// Scaling, once it has been without a metric for too long.
    pub(super) blind: Option<&'a Verdict>,
    /// Asked for, but not served by this version.
    pub(super) not_served: Option<&'a Verdict>,
    /// What the Service waits for.
    pub(super) service: Option<&'a Trouble>,
}

/// Why it goes no further without a person.
struct Stall {
    reason: String,
    message: String,
}

impl Whole<'_> {
    /// The running pods are those of the spec as it is.
    pub(super) fn current(&self) -> bool {
        self.found.outcome.is_ok() && self.found.applied.is_ok() && self.parts.iter().all(Part::current)
    }

    /// `Ready`.
    pub(super) fn ready(&self) -> Verdict {
        if let Some((reason, message)) = self.silent() {
            // The spec or the apiserver is why nothing runs, when nothing does.
            return match self.stall().filter(|_| self.parts.iter().all(|part| part.workload.is_none())) {
                Some(stall) => Verdict::no(stall.reason, stall.message),
                None => Verdict::no(reason, message),
            };
        }
        let asleep = self.parts.iter().any(|part| part.verdict.reason == reason::SCALED_TO_ZERO);
        let serves = if asleep {
            "the service answers; what sleeps wakes with the first request"
        } else {
            "the service answers"
        };
        let stall = self.stall().map(|stall| stall.message);
        if self.served_before || self.current() {
            return Verdict::yes(
                reason::SERVING,
                stall.map_or(serves.to_owned(), |why| format!("{serves}; but {why}")),
            );
        }
        let why = stall.map_or("the newest one is being carried out".to_owned(), |why| {
            format!("the newest one is not carried out: {why}")
        });
        Verdict::yes(reason::SERVING_PREVIOUS_SPEC, format!("{serves} by the previous spec; {why}"))
    }

    /// `Progressing`.
    pub(super) fn progressing(&self) -> Verdict {
        if let Some(stall) = self.stall() {
            return Verdict::no(stall.reason, stall.message);
        }
        if let Err(failure) = self.found.applied {
            let said = piece(&failure.message);
            let text = format!("failed to apply {}: {said}; {}", failure.object, failure.advice());
            return Verdict::yes(failure.reason(), text);
        }
        let open = self.parts.iter().filter(|part| !part.complete());
        let mut said: Vec<String> = open.map(|part| tell(part.kind, &part.verdict.message)).collect();
        let reason = if said.is_empty() { reason::LOAD_BALANCER_PENDING } else { reason::ROLLING_OUT };
        said.extend(self.service.map(|trouble| trouble.message.clone()));
        if said.is_empty() {
            return Verdict::no(reason::COMPLETE, "the spec is carried out");
        }
        Verdict::yes(reason, said.join("; "))
    }

    /// `Degraded`.
    pub(super) fn degraded(&self) -> Verdict {
        let mut wrong: Vec<(String, String)> = Vec::new();
        if let Some(stall) = self.stall() {
            wrong.push((stall.reason, stall.message));
        }
        let entry =
            |what: &str, verdict: &Verdict| (verdict.reason.clone(), format!("{what}: {}", verdict.message));
        // The same reason again is the same fault, seen from another side.
        let known = |wrong: &[(String, String)], reason: &str| wrong.iter().any(|(known, _)| known == reason);
        let refused = self.license.is(Truth::False) || self.license.reason == reason::GRACE_PERIOD;
        if refused && !known(&wrong, &self.license.reason) {
            wrong.push(entry("license", self.license));
        }
        if self.redis.reason == reason::REDIS_UNREACHABLE {
            wrong.push(entry("redis", self.redis));
        }
        for part in self.parts {
            let overdue = part.workload.as_ref().is_some_and(|workload| workload.overdue);
            if let Some(trouble) =
                part.failing().filter(|trouble| !(overdue && known(&wrong, trouble.reason)))
            {
                wrong.push((trouble.reason.to_owned(), tell(part.kind, &trouble.message)));
            }
        }
        let models = self
            .models
            .filter(|models| models.is(Truth::False) && fault::OF_MODELS.contains(&models.reason.as_str()));
        let models = models.filter(|models| !known(&wrong, &models.reason));
        wrong.extend(models.map(|models| entry("models", models)));
        wrong.extend(self.blind.map(|blind| entry("scaling", blind)));
        wrong.extend(self.not_served.map(|verdict| entry("tts", verdict)));
        let Some((reason, _)) = wrong.first() else {
            return Verdict::no(reason::HEALTHY, "nothing is known to be wrong");
        };
        let reason = reason.clone();
        let said: Vec<String> = wrong.into_iter().map(|(_, message)| message).collect();
        Verdict::yes(reason, said.join("; "))
    }

    /// `Stalled`, while it is so.
    pub(super) fn stalled(&self) -> Option<Verdict> {
        self.stall().map(|stall| Verdict::yes(stall.reason, stall.message))
    }

    /// What keeps the service from answering.
    fn silent(&self) -> Option<(String, String)> {
        if self.license.is(Truth::False) && self.parts.iter().any(|part| part.workload.is_some()) {
            return Some((self.license.reason.clone(), self.license.message.clone()));
        }
        // A part that was stopped on purpose keeps the others from nothing, unless clients need it.
        let needed = |part: &&Part| match part.kind {
            ComponentKind::Asr | ComponentKind::Tts => !part.stopped() || self.all_workers_stopped(),
            ComponentKind::Gateway | ComponentKind::Redis | ComponentKind::LicenseProxy => true,
        };
        let mut down = self.parts.iter().filter(needed).filter(|part| !part.serves());
        let first = down.next();
        let lost = self.redis.reason == reason::REDIS_UNREACHABLE;
        if lost && first.is_some_and(|part| part.kind == ComponentKind::Gateway) {
            // What keeps a gateway from being ready is its queue.
            return Some((self.redis.reason.clone(), self.redis.message.clone()));
        }
        if let Some(part) = first {
            return Some((part.verdict.reason.clone(), tell(part.kind, &part.verdict.message)));
        }
        let workers =
            self.parts.iter().any(|part| matches!(part.kind, ComponentKind::Asr | ComponentKind::Tts));
        match self.not_served {
            Some(verdict) if !workers => Some((verdict.reason.clone(), verdict.message.clone())),
            _ => None,
        }
    }

    fn all_workers_stopped(&self) -> bool {
        let workers =
            self.parts.iter().filter(|part| matches!(part.kind, ComponentKind::Asr | ComponentKind::Tts));
        workers.into_iter().all(Part::stopped)
    }

    /// What a person must do something about before the spec can be carried out.
    fn stall(&self) -> Option<Stall> {
        if let Err(invalid) = self.found.outcome {
            return Some(Stall { reason: invalid.reason().to_owned(), message: invalid.to_string() });
        }
        if let Err(failure) = self.found.applied
            && !failure.is_transient()
        {
            let message = format!(
                "failed to apply {}: {}; {}",
                failure.object,
                piece(&failure.message),
                failure.advice()
            );
            return Some(Stall { reason: failure.reason().to_owned(), message });
        }
        let overdue = self.parts.iter().find(|part| {
            part.workload.as_ref().is_some_and(|workload| workload.overdue && !workload.complete())
        })?;
        let trouble = overdue.trouble.as_ref();
        Some(Stall {
            reason: trouble
                .filter(|trouble| trouble.fails())
                .map_or(reason::PROGRESS_DEADLINE_EXCEEDED, |t| t.reason)
                .to_owned(),
            message: tell(
                overdue.kind,
                &format!(
                    "the rollout has not come on for its progress deadline{}",
                    trouble.map_or_else(String::new, |trouble| format!(": {}", trouble.message))
                ),
            ),
        })
    }
}

fn tell(kind: ComponentKind, message: &str) -> String {
    format!("{}: {message}", names::component(kind))
}
