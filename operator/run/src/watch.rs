//! Which kinds wake which resource: watches → index → desk.
//!
//! `SmallestDeployment`s wake themselves; objects of ours, told by their labels, wake the deployment that they name;
//! a Secret wakes those that name it. A watch that breaks starts again with growing pauses, from where it was or
//! with a new list; what the list does not name any more is gone. Every replica watches, so that a standby knows
//! all when it takes over.

mod monitors;
mod synced;

use std::fmt::Debug;
use std::sync::Arc;

use crds::SmallestDeployment;
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

use crate::desk::Desk;
use crate::index::{Index, Object, Relist, Seen};
use crate::scale::Key;

pub(crate) use monitors::Monitors;
pub(crate) use synced::Synced;

/// Label of everything that the operator makes.
const OURS: &str = "app.kubernetes.io/managed-by=smallest-operator";
/// Seconds after which a watch is renewed; a connection that died unseen is noticed then.
const WATCH_SECONDS: u32 = 290;
/// Objects a page of a list has. What is not kept of them (most of all `managedFields`, which becomes tens of
/// kilobytes an object when it is read) is held for a page at a time, and for all kinds at once at the start.
const PAGE_SIZE: u32 = 50;

/// What watches need.
#[derive(Clone)]
pub(crate) struct Watches {
    /// Reads.
    pub(crate) client: Client,
    /// Takes in what is seen.
    pub(crate) index: Index,
    /// Is woken.
    pub(crate) desk: Arc<Desk>,
    /// Hears which watches have listed everything.
    pub(crate) synced: Synced,
    /// One namespace, or all.
    pub(crate) namespace: Option<String>,
    /// Whether there are `ServiceMonitor`s.
    pub(crate) monitors: Monitors,
}

/// What a watch does with what it sees.
trait Sink<O>: Send + 'static {
    /// It is there. Its name in a list, and whom it wakes.
    fn put(&mut self, index: &Index, object: O) -> (Option<(Key, String)>, Vec<Key>);
    /// It is gone.
    fn remove(&mut self, index: &Index, object: &O) -> Vec<Key>;
    /// Only the listed ones are there.
    fn retain(&mut self, index: &Index, listed: &Relist) -> Vec<Key>;
}

struct Resources;
struct Ours;
struct Secrets;

impl Watches {
    /// Starts all watches; they end only when the set is dropped.
    pub(crate) fn start(&self, tasks: &mut JoinSet<&'static str>) {
        let plain = || watcher::Config::default().timeout(WATCH_SECONDS).page_size(PAGE_SIZE);
        self.synced.expect("smallestdeployments");
        self.spawn::<DeserializeGuard<SmallestDeployment>>(
            tasks,
            ("smallestdeployments", plain(), Resources),
        );
        self.synced.expect("secrets");
        self.spawn::<PartialObjectMeta<Secret>>(tasks, ("secrets", plain(), Secrets));
        self.ours::<Deployment>(tasks, "deployments");
        self.ours::<StatefulSet>(tasks, "statefulsets");
        self.ours::<Pod>(tasks, "pods");
        self.ours::<HorizontalPodAutoscaler>(tasks, "horizontalpodautoscalers");
        self.ours::<PersistentVolumeClaim>(tasks, "persistentvolumeclaims");
        self.ours::<Service>(tasks, "services");
        self.ours::<PartialObjectMeta<ServiceAccount>>(tasks, "serviceaccounts");
        self.ours::<PartialObjectMeta<ConfigMap>>(tasks, "configmaps");
        self.ours::<PartialObjectMeta<NetworkPolicy>>(tasks, "networkpolicies");
        self.ours::<PartialObjectMeta<PodDisruptionBudget>>(tasks, "poddisruptionbudgets");
        if self.monitors.served() {
            self.synced.expect(monitors::RESOURCE);
        }
        let monitors = self.clone().follow_monitors();
        tasks.spawn(async move {
            monitors.await;
            monitors::RESOURCE
        });
    }

    /// Watches a kind of ours; nothing is decided before it was listed.
    fn ours<O>(&self, tasks: &mut JoinSet<&'static str>, resource: &'static str)
    where
        O: Object
            + Resource<Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned
            + Send
            + 'static,
    {
        self.synced.expect(resource);
        self.spawn_ours::<O>(tasks, resource);
    }

    fn spawn_ours<O>(&self, tasks: &mut JoinSet<&'static str>, resource: &'static str)
    where
        O: Object
            + Resource<Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned
            + Send
            + 'static,
    {
        let config = watcher::Config::default().timeout(WATCH_SECONDS).page_size(PAGE_SIZE).labels(OURS);
        self.spawn::<O>(tasks, (resource, config, Ours));
    }

    fn spawn<O>(
        &self,
        tasks: &mut JoinSet<&'static str>,
        (resource, config, sink): (&'static str, watcher::Config, impl Sink<O>),
    ) where
        O: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned
            + Send
            + 'static,
    {
        let api: Api<O> = match &self.namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        };
        let events = watcher(api, config).inspect_err(move |error| failed(resource, error)).default_backoff();
        let watches = self.clone();
        tasks.spawn(async move {
            watches.follow(resource, events, sink).await;
            resource
        });
    }

    async fn follow<O>(
        self,
        resource: &'static str,
        events: impl Stream<Item = watcher::Result<Event<O>>>,
        mut sink: impl Sink<O>,
    ) {
        let mut events = std::pin::pin!(events);
        let mut listed = Relist::default();
        while let Some(event) = events.next().await {
            let woken = match event {
                // It has been counted, and the stream goes on after a pause.
                Err(_) => Vec::new(),
                Ok(Event::Init) => {
                    listed = Relist::default();
                    metrics::counter!("operator_watch_lists_total", "resource" => resource).increment(1);
                    Vec::new()
                }
                Ok(Event::InitApply(object)) => {
                    let (id, woken) = sink.put(&self.index, object);
                    if let Some((key, name)) = id {
                        listed.add(key, name);
                    }
                    woken
                }
                Ok(Event::InitDone) => {
                    let woken = sink.retain(&self.index, &std::mem::take(&mut listed));
                    self.synced.done(resource);
                    woken
                }
                Ok(Event::Apply(object)) => sink.put(&self.index, object).1,
                Ok(Event::Delete(object)) => sink.remove(&self.index, &object),
            };
            self.desk.wake(woken);
        }
    }
}

fn failed(resource: &'static str, error: &watcher::Error) {
    let reason = match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => crate::error::reason(error),
        watcher::Error::WatchError(status) if status.code == 410 => "Expired",
        watcher::Error::WatchError(_) => "ApiError",
        watcher::Error::NoResourceVersion => "UnreadableAnswer",
    };
    metrics::counter!("operator_watch_errors_total", "resource" => resource, "reason" => reason).increment(1);
    // An apiserver that restarts, or a version that expired, is everyday life.
    if reason == "Expired" {
        tracing::debug!(resource, "the watch starts again with a new list");
    } else {
        tracing::warn!(resource, reason, error = crate::error::causes(error), "failed to watch; tries again");
    }
}

impl Sink<DeserializeGuard<SmallestDeployment>> for Resources {
    fn put(
        &mut self,
        index: &Index,
        object: DeserializeGuard<SmallestDeployment>,
    ) -> (Option<(Key, String)>, Vec<Key>) {
        let id = id(object.meta());
        (id, index.put_resource(Seen::from(object)).into_iter().collect())
    }

    fn remove(&mut self, index: &Index, object: &DeserializeGuard<SmallestDeployment>) -> Vec<Key> {
        index.remove_resource(object.meta()).into_iter().collect()
    }

    fn retain(&mut self, index: &Index, listed: &Relist) -> Vec<Key> {
        index.retain_resources(listed)
    }
}

impl<O: Object> Sink<O> for Ours {
    fn put(&mut self, index: &Index, object: O) -> (Option<(Key, String)>, Vec<Key>) {
        let id = Index::id(object.meta());
        (id, index.put(object).into_iter().collect())
    }

    fn remove(&mut self, index: &Index, object: &O) -> Vec<Key> {
        index.remove(object).into_iter().collect()
    }

    fn retain(&mut self, index: &Index, listed: &Relist) -> Vec<Key> {
        index.retain::<O>(listed)
    }
}

/// Those that users name, and those of ours.
impl Sink<PartialObjectMeta<Secret>> for Secrets {
    fn put(&mut self, index: &Index, object: PartialObjectMeta<Secret>) -> (Option<(Key, String)>, Vec<Key>) {
        let id = id(object.meta()).map(|(key, name)| (Key::new(key.namespace, ""), name));
        let mut woken = index.put_secret(object.meta());
        if is_ours(&object) {
            woken.extend(index.put(object));
        }
        (id, woken)
    }

    fn remove(&mut self, index: &Index, object: &PartialObjectMeta<Secret>) -> Vec<Key> {
        let mut woken = index.remove_secret(object.meta());
        if is_ours(object) {
            woken.extend(index.remove(object));
        }
        woken
    }

    fn retain(&mut self, index: &Index, listed: &Relist) -> Vec<Key> {
        index.retain_secrets(listed)
    }
}

fn is_ours(secret: &PartialObjectMeta<Secret>) -> bool {
    let labels = secret.metadata.labels.iter().flatten();
    let (name, value) = OURS.split_once('=').unwrap_or((OURS, ""));
    labels.into_iter().any(|(label, content)| label == name && content == value)
}

fn id(metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> Option<(Key, String)> {
    let name = metadata.name.clone()?;
    Some((Key::new(metadata.namespace.clone()?, name.clone()), name))
}
