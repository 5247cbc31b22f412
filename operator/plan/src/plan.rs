//! [`plan`]: what must run, what is waited for and why, from a [`Valid`] deployment and what was observed. Pure.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::Serialize;

use crate::build;
use crate::component::{Component, ComponentKind, Value};
use crate::names;
use crate::place::Place;
use crate::scale::Bounds;
use crate::secret::{SecretRef, SecretText, Secrets};
use crate::valid::{Valid, ValidRedis};

/// What was found of an earlier run, or was drawn for this one.
#[derive(Debug, Clone)]
pub struct Observed {
    /// Password of the embedded Redis: the one it has, or a fresh random one of letters and digits.
    pub redis_password: SecretText,
}

/// What must run. So specific that whoever carries it out has nothing left to decide.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// `namespace/name`.
    pub deployment: String,
    /// Where it is for.
    pub place: Place,
    /// Secrets that the plan itself makes.
    pub secrets: Vec<GeneratedSecret>,
    /// Address of the queue.
    pub queue: Value,
    /// What the queue's certificate is trusted by; the system's authorities when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_authority: Option<SecretRef>,
    /// What must run, in the order of starting.
    pub components: Vec<Component>,
    /// What is not so, and why.
    pub conditions: Vec<Condition>,
}

/// One entry of a Secret that the plan makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GeneratedSecret {
    /// Where it is.
    pub reference: SecretRef,
    /// What it is.
    pub value: SecretText,
}

/// A condition of the resource's status.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Such as `TTSReady`.
    #[serde(rename = "type")]
    pub type_: &'static str,
    /// `True`, `False` or `Unknown`.
    pub status: &'static str,
    /// A stable word.
    pub reason: &'static str,
    /// For people: what is so, and what to do.
    pub message: String,
    /// Generation of the spec it speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Since when.
    pub last_transition_time: Time,
}

impl Plan {
    /// Between how many replicas a component scales; `None` when it does not.
    pub fn bounds(&self, kind: ComponentKind) -> Option<&Bounds> {
        self.components.iter().find(|component| component.kind == kind)?.bounds.as_ref()
    }

    /// How long the plan holds: until a schedule opens or closes a window. `None`: for ever.
    pub fn holds_for(&self, now: &Time) -> Option<Duration> {
        let changes =
            self.components.iter().filter_map(|component| component.bounds.as_ref()?.next_change.as_ref());
        let next = changes.min()?;
        Some(Duration::try_from(next.0.duration_since(now.0)).unwrap_or_default())
    }

    /// Address of the queue with its password; `secrets` are those that the plan was validated with. `None` when
    /// the Secret that holds it is not among them.
    pub fn queue_url(&self, secrets: &Secrets) -> Option<SecretText> {
        match &self.queue {
            Value::Text(url) => Some(SecretText::new(url.clone())),
            Value::Secret(reference) => {
                let made = self.secrets.iter().find(|secret| secret.reference == *reference);
                let value = made.map(|secret| &secret.value).or_else(|| secrets.get(reference))?;
                Some(SecretText::new(value.expose().trim()))
            }
            Value::Port(_) | Value::File(_) => None,
        }
    }
}

/// Plans a deployment. The same input gives the same plan.
pub fn plan(valid: &Valid, observed: &Observed, now: &Time) -> Plan {
    let mut components = Vec::new();
    if let ValidRedis::Embedded(embedded) = &valid.redis {
        components.push(build::redis(valid, embedded));
    }
    components.extend(valid.workers().map(|worker| build::worker(valid, worker)));
    components.push(build::gateway(valid));
    if valid.place.cluster().is_some() {
        for component in &mut components {
            component.bounds = valid.timetable(component.kind).map(|timetable| timetable.at(now));
        }
    }
    Plan {
        deployment: names::scope(&valid.namespace, &valid.name),
        place: valid.place.clone(),
        secrets: build::secrets(valid, observed),
        queue: build::queue(valid),
        queue_authority: valid.redis_authority().cloned(),
        components,
        conditions: conditions(valid, now),
    }
}

fn conditions(valid: &Valid, now: &Time) -> Vec<Condition> {
    let not_served = Condition {
        type_: "TTSReady",
        status: "False",
        reason: "NotYetServed",
        message: "this version has no engine for speech synthesis: nothing runs for spec.tts".to_owned(),
        observed_generation: valid.generation,
        last_transition_time: now.clone(),
    };
    valid.tts_not_served.then_some(not_served).into_iter().collect()
}
