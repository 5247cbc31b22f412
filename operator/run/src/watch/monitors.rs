//! `ServiceMonitor`s: a kind that a cluster may learn or lose while the operator runs.
//!
//! In: the definition of `ServiceMonitor`, and no other, by a watch. Out: whether plans may have some, and a watch of
//! those that are ours, while there is the kind. Only for all namespaces: in one namespace the operator may not see
//! definitions, and goes by what the cluster served at its start.

use std::borrow::Cow;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::ClusterResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::PartialObjectMeta;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Resource};
use serde::Deserialize;
use tokio::task::JoinSet;

use super::{WATCH_SECONDS, Watches, failed};
use crate::apply::ServiceMonitor;
use crate::index::Relist;

/// Resource name in logs, metrics and `/readyz`.
pub(super) const RESOURCE: &str = "servicemonitors";
const DEFINITIONS: &str = "customresourcedefinitions";
const DEFINITION: &str = "servicemonitors.monitoring.coreos.com";

/// Whether the cluster has `ServiceMonitor`s. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Monitors(Arc<AtomicBool>);

impl Monitors {
    /// As was found at the start.
    pub(crate) fn new(served: bool) -> Self {
        Self(Arc::new(AtomicBool::new(served)))
    }

    /// Plans may have some.
    pub(crate) fn served(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A definition, as far as it is looked at.
#[derive(Debug, Clone, Deserialize)]
struct Definition {
    metadata: ObjectMeta,
    status: Option<DefinitionStatus>,
}

#[derive(Debug, Clone, Deserialize)]
struct DefinitionStatus {
    /// Null at first.
    conditions: Option<Vec<DefinitionCondition>>,
}

#[derive(Debug, Clone, Deserialize)]
struct DefinitionCondition {
    #[serde(rename = "type")]
    type_: String,
    status: String,
}

impl Definition {
    /// The apiserver serves it, or is about to.
    fn is_established(&self) -> bool {
        let mut conditions = self.status.iter().flat_map(|status| status.conditions.iter().flatten());
        self.metadata.deletion_timestamp.is_none()
            && conditions.any(|condition| condition.type_ == "Established" && condition.status == "True")
    }
}

impl Resource for Definition {
    type DynamicType = ();
    type Scope = ClusterResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        "CustomResourceDefinition".into()
    }

    fn group((): &()) -> Cow<'_, str> {
        "apiextensions.k8s.io".into()
    }

    fn version((): &()) -> Cow<'_, str> {
        "v1".into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        DEFINITIONS.into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl Watches {
    /// Follows the kind, and its objects while there is the kind. Never ends.
    pub(super) async fn follow_monitors(self) {
        let mut watching = JoinSet::new();
        if self.monitors.served() {
            self.spawn_ours::<PartialObjectMeta<ServiceMonitor>>(&mut watching, RESOURCE);
        }
        if self.namespace.is_none() {
            self.follow_definition(&mut watching).await;
        }
        pending::<()>().await;
    }

    /// Ends only when the operator may not see the definition.
    async fn follow_definition(&self, watching: &mut JoinSet<&'static str>) {
        let only =
            watcher::Config::default().timeout(WATCH_SECONDS).fields(&format!("metadata.name={DEFINITION}"));
        let events = watcher(Api::<Definition>::all(self.client.clone()), only);
        let mut events =
            std::pin::pin!(events.inspect_err(|error| failed(DEFINITIONS, error)).default_backoff());
        let mut listed = false;
        while let Some(event) = events.next().await {
            let served = match event {
                Ok(Event::Init) => {
                    listed = false;
                    continue;
                }
                Ok(Event::InitApply(definition)) => {
                    listed = definition.is_established();
                    continue;
                }
                Ok(Event::InitDone) => listed,
                Ok(Event::Apply(definition)) => definition.is_established(),
                Ok(Event::Delete(_)) => false,
                // What was found at the start stays true: a role of before has no such right.
                Err(error) if is_forbidden(&error) => return,
                Err(_) => continue,
            };
            self.turn(served, watching);
        }
    }

    /// The kind is there now, or is no more.
    fn turn(&self, served: bool, watching: &mut JoinSet<&'static str>) {
        if self.monitors.0.swap(served, Ordering::Relaxed) == served {
            return;
        }
        tracing::info!(served, "the cluster changed whether it has ServiceMonitors");
        if served {
            self.spawn_ours::<PartialObjectMeta<ServiceMonitor>>(watching, RESOURCE);
        } else {
            watching.abort_all();
            // They went with their kind.
            self.index.retain::<PartialObjectMeta<ServiceMonitor>>(&Relist::default());
        }
        self.desk.wake(self.index.keys());
    }
}

fn is_forbidden(error: &watcher::Error) -> bool {
    let (watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error)) = error else {
        return false;
    };
    matches!(crate::error::reason(error), "Forbidden" | "Unauthorized")
}
