//! May this request enter: key, license, limits → [`Admitted`], or the error that says why not.
//!
//! [`decide`] and [`resolve`] are pure; [`Door`] holds the counters. Comes before a body is read, so that what
//! is refused costs nothing. Knows no protocol and no queue.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use queue::job::{RecognizeOptions, WorkError, WorkErrorKind};
use queue::port::{Served, WorkerRecord};
use tokio::sync::Notify;

use crate::config::{Aliases, Config, Keys};
use crate::error::Error;
use crate::license::{Allowance, License};
use crate::request::Wanted;

/// What wants to enter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A recording.
    Batch,
    /// A live session.
    Live,
}

/// A request that may use this gateway; its place is free again when this is dropped.
#[derive(Debug, Clone)]
pub struct Admitted {
    _place: Arc<Place>,
}

/// Facts that the decision rests on.
#[derive(Debug)]
pub struct Facts<'a> {
    /// This gateway is shutting down.
    pub draining: bool,
    /// The keys that are accepted.
    pub keys: &'a Keys,
    /// The key that was given.
    pub key: Option<&'a str>,
    /// What the license says.
    pub license: Result<Allowance, Error>,
    /// What wants to enter.
    pub kind: Kind,
    /// How many of this kind are inside.
    pub active: u32,
    /// How many of this kind may be inside.
    pub limit: u32,
}

/// The decision. Pure. Who may not come in learns nothing about license and load.
pub fn decide(facts: Facts<'_>) -> Result<(), Error> {
    match facts.key {
        Some(key) if !facts.keys.accept(key) => return Err(Error::KeyInvalid),
        None if *facts.keys != Keys::Anonymous => return Err(Error::KeyMissing),
        _ => {}
    }
    if facts.draining {
        return Err(Error::Draining);
    }
    let allowance = facts.license?;
    let (what, limit) = match facts.kind {
        Kind::Batch => ("requests", facts.limit),
        Kind::Live => ("streams", allowance.max_streams.map_or(facts.limit, |m| m.min(facts.limit))),
    };
    if facts.active >= limit {
        return Err(Error::Overloaded { what, limit: u64::from(limit) });
    }
    Ok(())
}

/// What is wanted, in the words of the workers: model names and languages that they know. Pure.
///
/// Without any known worker the request goes to the queue as it is; the worker that comes will answer.
pub fn resolve(
    wanted: &Wanted,
    workers: &[WorkerRecord],
    aliases: &Aliases,
    default_language: &str,
) -> Result<RecognizeOptions, Error> {
    let model = wanted.model.clone().filter(|m| !aliases.contains(&m.to_lowercase()));
    let mut options = RecognizeOptions {
        language: String::new(),
        lookahead: wanted.lookahead,
        word_timestamps: wanted.word_timestamps,
        endpointing_ms: wanted.endpointing_ms,
        model,
    };
    let given = wanted.language.as_deref().filter(|l| !is_any_language(l));
    // A worker that still loads has not said what it serves.
    let loaded: Vec<_> = workers.iter().filter(|w| !w.model.is_empty()).collect();
    let serves = |w: &&&WorkerRecord| options.model.as_ref().is_none_or(|m| *m == w.model);
    let Some(worker) = loaded.iter().find(serves) else {
        if let (Some(model), Some(_)) = (&options.model, loaded.first()) {
            return Err(unknown_model(model, &loaded));
        }
        options.language = given.map_or(default_language, primary).to_lowercase();
        return Ok(options);
    };
    let known = |wanted: &str| worker.languages.iter().find(|l| l.eq_ignore_ascii_case(wanted)).cloned();
    let language = match given {
        None => worker.languages.first().cloned(),
        Some(given) => known(given).or_else(|| known(primary(given))),
    };
    options.language = language.unwrap_or_else(|| given.unwrap_or(default_language).to_owned());
    let capability = Served {
        model: worker.model.clone(),
        languages: worker.languages.clone(),
        lookaheads: options.lookahead.into_iter().collect(),
    };
    capability.check(&options)?;
    Ok(options)
}

/// Names that published clients use for "whatever is spoken".
fn is_any_language(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name == "auto" || name == "multi" || name.starts_with("multi-")
}

/// `en-US` → `en`.
fn primary(tag: &str) -> &str {
    tag.split(['-', '_']).next().unwrap_or(tag)
}

fn unknown_model(model: &str, workers: &[&WorkerRecord]) -> Error {
    let mut served: Vec<_> = workers.iter().map(|w| w.model.as_str()).collect();
    served.sort_unstable();
    served.dedup();
    let message = format!("model {model:?} is not served here; served: {}", served.join(", "));
    Error::Work(WorkError { kind: WorkErrorKind::UnknownModel, message })
}

/// The door: counts who is inside.
#[derive(Debug, Default)]
pub struct Door {
    batch: Arc<Room>,
    live: Arc<Room>,
    draining: AtomicBool,
}

#[derive(Debug, Default)]
struct Room {
    active: AtomicU32,
    left: Notify,
}

#[derive(Debug)]
struct Place {
    room: Arc<Room>,
    kind: Kind,
}

impl Door {
    /// Lets a request in, or says why not.
    pub fn enter(
        &self,
        kind: Kind,
        key: Option<&str>,
        config: &Config,
        license: &dyn License,
    ) -> Result<Admitted, Error> {
        let (room, limit) = match kind {
            Kind::Batch => (&self.batch, config.limits.max_active_requests),
            Kind::Live => (&self.live, config.limits.max_streams),
        };
        // Take a place first, so that two at once cannot both take the last one.
        let active = room.active.fetch_add(1, Ordering::AcqRel);
        let place = Place { room: room.clone(), kind };
        place.record();
        let draining = self.is_draining();
        decide(Facts { draining, keys: &config.keys, key, license: license.check(), kind, active, limit })?;
        Ok(Admitted { _place: Arc::new(place) })
    }

    /// From now on nobody enters.
    pub fn close(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// The door is closed.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Requests and streams inside.
    pub fn active(&self) -> (u32, u32) {
        (self.batch.active.load(Ordering::Acquire), self.live.active.load(Ordering::Acquire))
    }

    /// Returns when nobody is inside.
    pub async fn empty(&self) {
        for room in [&self.batch, &self.live] {
            loop {
                let left = room.left.notified();
                tokio::pin!(left);
                left.as_mut().enable();
                if room.active.load(Ordering::Acquire) == 0 {
                    break;
                }
                left.await;
            }
        }
    }
}

impl Place {
    fn record(&self) {
        let active = f64::from(self.room.active.load(Ordering::Acquire));
        match self.kind {
            Kind::Batch => metrics::gauge!("gateway_active_requests").set(active),
            Kind::Live => metrics::gauge!("gateway_active_streams").set(active),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.room.active.fetch_sub(1, Ordering::AcqRel);
        self.record();
        self.room.left.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(model: &str, languages: &[&str]) -> WorkerRecord {
        WorkerRecord {
            model: model.to_owned(),
            languages: languages.iter().map(|l| (*l).to_owned()).collect(),
            slots: 1,
            ..WorkerRecord::ready(queue::ids::WorkerId::generate(), "asr")
        }
    }

    #[test]
    fn refusals_come_in_order_of_what_a_stranger_may_know() {
        let keys = Keys::parse("good").unwrap();
        let case = |key, draining, license: Result<Allowance, Error>, active| {
            let facts = Facts { draining, keys: &keys, key, license, kind: Kind::Live, active, limit: 2 };
            decide(facts).map_err(|e| e.reason())
        };
        let granted = || Ok(Allowance::default());
        let expired = || Err(Error::LicenseExpired("yesterday".to_owned()));
        assert_eq!(case(None, true, expired(), 9), Err("KeyMissing"));
        assert_eq!(case(Some("bad"), true, expired(), 9), Err("KeyInvalid"));
        assert_eq!(case(Some("good"), true, expired(), 9), Err("Draining"));
        assert_eq!(case(Some("good"), false, expired(), 9), Err("LicenseExpired"));
        assert_eq!(case(Some("good"), false, granted(), 2), Err("Overloaded"));
        assert_eq!(case(Some("good"), false, granted(), 1), Ok(()));
        assert_eq!(case(Some("good"), false, Ok(Allowance { max_streams: Some(1) }), 1), Err("Overloaded"));
    }

    #[test]
    fn models_and_languages_are_those_the_workers_know() {
        let aliases: Aliases = ["pulse".to_owned()].into();
        let workers = [worker("demo-asr", &["en", "de"]), worker("big", &["fr"])];
        let run = |model: &str, language: &str, workers: &[WorkerRecord]| {
            let text = |t: &str| (!t.is_empty()).then(|| t.to_owned());
            let wanted = Wanted { model: text(model), language: text(language), ..Wanted::default() };
            resolve(&wanted, workers, &aliases, "en")
                .map(|o| (o.model.unwrap_or_default(), o.language))
                .map_err(|e| e.reason())
        };
        let ok = |model: &str, language: &str| Ok((model.to_owned(), language.to_owned()));
        assert_eq!(run("", "", &workers), ok("", "en"));
        assert_eq!(run("Pulse", "en-US", &workers), ok("", "en"));
        assert_eq!(run("demo-asr", "DE", &workers), ok("demo-asr", "de"));
        assert_eq!(run("big", "multi-eu", &workers), ok("big", "fr"));
        assert_eq!(run("big", "en", &workers), Err("UnknownLanguage"));
        assert_eq!(run("", "tlh", &workers), Err("UnknownLanguage"));
        assert_eq!(run("other", "en", &workers), Err("UnknownModel"));
        assert_eq!(run("other", "en-GB", &[]), ok("other", "en"));
        assert_eq!(run("", "", &[]), ok("", "en"));
        let loading = [WorkerRecord::starting(queue::ids::WorkerId::generate(), "asr")];
        assert_eq!(run("other", "en-GB", &loading), ok("other", "en"));
    }
}
