//! Waiting by watching: one object, or all of a kind in a namespace.

use anyhow::{Context, bail};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::runtime::watcher::{self, Event, watch_object};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::pin::pin;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Waits until the object is as wanted; `None` is an object that is not there. On time-out the error tells what
/// it was like last.
pub async fn until<K>(
    api: &Api<K>,
    name: &str,
    what: &str,
    within: Duration,
    wanted: impl Fn(Option<&K>) -> bool,
) -> anyhow::Result<Option<K>>
where
    K: Resource + Clone + Debug + Send + Serialize + DeserializeOwned + 'static,
{
    let deadline = Instant::now() + within;
    // Boxed: nothing is optimized here, and the watcher's future is large.
    let mut seen = watch_object(api.clone(), name).boxed();
    let mut last: Option<K> = None;
    loop {
        match timeout_at(deadline, seen.next()).await {
            Ok(Some(Ok(found))) if wanted(found.as_ref()) => return Ok(found),
            Ok(Some(Ok(found))) => last = found,
            // The watcher tries again by itself.
            Ok(Some(Err(_))) => {}
            Ok(None) => bail!("the watch of {name} ended while waiting: {what}"),
            Err(_) => {
                let last = last.map_or_else(|| "nothing".to_owned(), |object| text(&object));
                bail!("waited {} s in vain: {what}; {name} was last seen as {last}", within.as_secs());
            }
        }
    }
}

/// Waits until all objects of a kind that a selector finds are as wanted.
pub async fn until_all<K>(
    api: &Api<K>,
    labels: &str,
    what: &str,
    within: Duration,
    mut wanted: impl FnMut(&[&K]) -> bool,
) -> anyhow::Result<Vec<K>>
where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + DeserializeOwned + 'static,
{
    let deadline = Instant::now() + within;
    let events = watch(api.clone(), watcher::Config::default().labels(labels)).default_backoff();
    let mut events = pin!(events);
    let mut found: BTreeMap<String, K> = BTreeMap::new();
    let mut listed = false;
    loop {
        match timeout_at(deadline, events.try_next()).await {
            Ok(Ok(Some(event))) => listed |= take(event, &mut found),
            Ok(Err(_)) => continue,
            Ok(Ok(None)) => bail!("the watch ended while waiting: {what}"),
            Err(_) => {
                let names: Vec<&String> = found.keys().collect();
                bail!("waited {} s in vain: {what}; there are {names:?}", within.as_secs());
            }
        }
        let all: Vec<&K> = found.values().collect();
        if listed && wanted(&all) {
            return Ok(found.into_values().collect());
        }
    }
}

/// Takes an event over; true once the first list is complete.
fn take<K: Resource<DynamicType = ()>>(event: Event<K>, found: &mut BTreeMap<String, K>) -> bool {
    match event {
        Event::Init => found.clear(),
        Event::InitApply(object) | Event::Apply(object) => {
            found.insert(object.name_any(), object);
        }
        Event::Delete(object) => {
            found.remove(&object.name_any());
        }
        Event::InitDone => return true,
    }
    false
}

/// Are all replicas of the wanted version, and ready?
pub fn rolled_out(deployment: &Deployment) -> bool {
    let Some(status) = &deployment.status else { return false };
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    status.observed_generation >= deployment.metadata.generation
        && status.updated_replicas.unwrap_or(0) == wanted
        && status.available_replicas.unwrap_or(0) == wanted
        && status.replicas.unwrap_or(0) == wanted
}

/// The condition of a type.
pub fn condition<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// An object's status, or all of it, as one line.
fn text<K: Serialize>(object: &K) -> String {
    let value = serde_json::to_value(object).unwrap_or_default();
    let shown = value.get("status").cloned().unwrap_or(value);
    serde_json::to_string(&shown).context("JSON").unwrap_or_default()
}
