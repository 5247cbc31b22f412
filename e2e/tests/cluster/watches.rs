//! What happens to the objects of a namespace: writes of the operator, told from all others by the fields that it
//! manages; and what the cluster's own parts, kubelet and autoscaler, say of a service that did not answer in time.
//!
//! A watch that ends is gone on with from where it was, and a list that had to be made anew is compared with what was
//! known: no write is missed.

use crds::SmallestDeployment;
use e2e::cluster::bring_up::OPERATOR;
use e2e::cluster::{Namespaced, Space};
use futures::stream::{SelectAll, iter};
use futures::{Stream, StreamExt};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::events::v1::Event as Note;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Resource, ResourceExt};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::pin::Pin;

/// Words by which an autoscaler tells that it was not answered in time, whoever was slow.
const SLOW: [&str; 7] = [
    "did not answer",
    "failed to answer",
    "timeout",
    "timed out",
    "deadline exceeded",
    "unable to handle the request",
    "connection",
];

/// What happened.
#[derive(Debug)]
pub(crate) enum News {
    /// The operator wrote the status of the resource, and nothing else of it: the resource as it is now.
    Status(Box<SmallestDeployment>),
    /// The operator wrote something else, or something is gone.
    Write(String),
    /// The cluster says that something did not answer in time.
    Sign(Sign, String),
}

/// Who says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sign {
    /// The kubelet, of a pod.
    Probe,
    /// The autoscaler, of its metric.
    Metric,
}

pub(crate) type Watches = SelectAll<Pin<Box<dyn Stream<Item = News> + Send>>>;

/// Everything that happens to objects of the namespace from now on.
pub(crate) fn all(space: &Space<'_>) -> Watches {
    [
        watch::<SmallestDeployment>(space, of_the_resource),
        watch::<Pod>(space, of_a_pod),
        watch::<HorizontalPodAutoscaler>(space, of_an_autoscaler),
        watch::<Deployment>(space, of_others),
        watch::<StatefulSet>(space, of_others),
        watch::<PodDisruptionBudget>(space, of_others),
        watch::<NetworkPolicy>(space, of_others),
        watch::<Service>(space, of_others),
        watch::<ConfigMap>(space, of_others),
        watch::<Secret>(space, of_others),
        watch::<ServiceAccount>(space, of_others),
        watch::<PersistentVolumeClaim>(space, of_others),
        notes(space),
    ]
    .into_iter()
    .collect()
}

/// Who of the operator's names wrote which part of an object in which way and when; it holds some fields under names of
/// their own, and what it makes by POST is noted as another way than what it applies.
type Written = BTreeMap<(String, Option<String>, Option<String>), Option<Time>>;
/// What a change of an object says; the parts of it that the operator wrote, if any.
type Read<K> = fn(&K, &[Option<String>]) -> Option<News>;

fn watch<K>(space: &Space<'_>, read: Read<K>) -> Pin<Box<dyn Stream<Item = News> + Send>>
where
    K: Namespaced,
{
    let mut known = Known::default();
    let events = watcher(space.api::<K>(), watcher::Config::default()).default_backoff();
    // An error is none of the objects': the watcher tries again by itself.
    let news =
        events.flat_map(move |event| iter(event.map(|event| known.take(event, read)).unwrap_or_default()));
    Box::pin(news)
}

/// Objects of a kind as they were last seen.
#[derive(Default)]
struct Known {
    all: BTreeMap<String, Written>,
    /// Those of a list that is being read.
    listed: BTreeMap<String, Written>,
    /// A list has been read.
    complete: bool,
}

impl Known {
    fn take<K: Resource<DynamicType = ()>>(&mut self, event: Event<K>, read: Read<K>) -> Vec<News> {
        match event {
            Event::Init => {
                self.listed.clear();
                Vec::new()
            }
            Event::InitApply(object) => {
                self.listed.insert(object.name_any(), written(&object));
                // The first list is what was there before.
                if self.complete { self.changed(&object, read) } else { Vec::new() }
            }
            Event::InitDone => {
                let listed = std::mem::take(&mut self.listed);
                let former = std::mem::replace(&mut self.all, listed);
                self.complete = true;
                former
                    .keys()
                    .filter(|name| !self.all.contains_key(*name))
                    .map(|name| gone::<K>(name))
                    .collect()
            }
            Event::Apply(object) => self.changed(&object, read),
            Event::Delete(object) => {
                let name = object.name_any();
                self.all.remove(&name);
                vec![gone::<K>(&name)]
            }
        }
    }

    fn changed<K: Resource<DynamicType = ()>>(&mut self, object: &K, read: Read<K>) -> Vec<News> {
        let now = written(object);
        let before = self.all.insert(object.name_any(), now.clone()).unwrap_or_default();
        let parts: Vec<Option<String>> = now
            .into_iter()
            .filter(|(part, time)| before.get(part) != Some(time))
            .map(|((_, _, subresource), _)| subresource)
            .collect();
        read(object, &parts).into_iter().collect()
    }
}

fn written<K: Resource<DynamicType = ()>>(object: &K) -> Written {
    let ours = object.managed_fields().iter().filter_map(|entry| {
        let manager = entry.manager.clone().filter(|manager| manager.starts_with(OPERATOR))?;
        Some(((manager, entry.operation.clone(), entry.subresource.clone()), entry.time.clone()))
    });
    ours.collect()
}

fn gone<K: Resource<DynamicType = ()>>(name: &str) -> News {
    News::Write(format!("{} {name} is gone", K::kind(&())))
}

fn of_the_resource(resource: &SmallestDeployment, parts: &[Option<String>]) -> Option<News> {
    match parts {
        [] => None,
        [Some(part)] if part == "status" => Some(News::Status(Box::new(resource.clone()))),
        _ => of_others(resource, parts),
    }
}

fn of_others<K: Resource<DynamicType = ()> + Debug>(object: &K, parts: &[Option<String>]) -> Option<News> {
    let written = || News::Write(format!("{} {}: {object:?}", K::kind(&()), object.name_any()));
    (!parts.is_empty()).then(written)
}

fn of_a_pod(pod: &Pod, parts: &[Option<String>]) -> Option<News> {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref()).into_iter().flatten();
    let mut unready = conditions.filter(|one| one.type_ == "Ready" && one.status == "False");
    let said = unready.next().map(|one| one.message.clone().unwrap_or_default());
    let sign =
        said.map(|said| News::Sign(Sign::Probe, format!("pod {} is not ready: {said}", pod.name_any())));
    of_others(pod, parts).or(sign)
}

fn of_an_autoscaler(autoscaler: &HorizontalPodAutoscaler, parts: &[Option<String>]) -> Option<News> {
    let status = autoscaler.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_ref()).into_iter().flatten();
    let mut blind = conditions.filter(|one| one.type_ == "ScalingActive" && one.status == "False");
    let sign = blind.next().and_then(|one| slow(one.message.as_deref().unwrap_or_default()));
    of_others(autoscaler, parts).or(sign)
}

/// What kubelet and autoscaler note beside pods and autoscalers. What the operator notes comes with its statuses.
fn notes(space: &Space<'_>) -> Pin<Box<dyn Stream<Item = News> + Send>> {
    let events = watcher(space.api::<Note>(), watcher::Config::default()).default_backoff();
    let news = events.filter_map(async |event| {
        let Ok(Event::Apply(note)) = event else { return None };
        let text = note.note.unwrap_or_default();
        match note.reason.as_deref() {
            Some("Unhealthy") => Some(News::Sign(Sign::Probe, text)),
            Some("FailedGetExternalMetric" | "FailedComputeMetricsReplicas") => slow(&text),
            _ => None,
        }
    });
    Box::pin(news)
}

/// An autoscaler that was not answered in time. Any other answer than a number would be the operator's own doing.
fn slow(said: &str) -> Option<News> {
    let lower = said.to_lowercase();
    let slow = SLOW.iter().any(|word| lower.contains(word));
    slow.then(|| News::Sign(Sign::Metric, said.to_owned()))
}
