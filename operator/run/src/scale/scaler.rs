//! What the autoscaler cannot do: from zero when work waits, to zero when nothing does, and which pod goes first.
//!
//! In: [`ScaleTarget`]s, readings, leadership. Out: patches of `/scale` and of pods, and decisions for status.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crds::{ScaleDecision, Scaling};
use kube::Client;
use operator_plan::ComponentKind;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Key, Queues};

/// How a deployment's components scale now.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ScaleTarget {
    /// Components with `scaling`; those with fixed replicas are not here.
    pub(crate) components: Vec<ScaledComponent>,
}

/// One component, as the reconciler last saw it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ScaledComponent {
    /// Which.
    pub(crate) kind: ComponentKind,
    /// Name of its Deployment.
    pub(crate) deployment: String,
    /// How it scales.
    pub(crate) scaling: Scaling,
    /// `spec.replicas` of its Deployment; `None` while there is no Deployment.
    pub(crate) replicas: Option<u32>,
    /// Its pods that are not being deleted.
    pub(crate) pods: Vec<PodCost>,
}

/// A pod and what its deletion costs, as its annotation says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PodCost {
    /// Name of the pod.
    pub(crate) name: String,
    /// `controller.kubernetes.io/pod-deletion-cost`; `None` without the annotation.
    pub(crate) cost: Option<i32>,
}

/// The scaler. Clones share it.
#[derive(Clone)]
pub(crate) struct Scaler {
    _client: Client,
    _queues: Queues,
    _leader: watch::Receiver<bool>,
    shared: Arc<Mutex<HashMap<Key, Scaled>>>,
}

#[derive(Debug, Default)]
struct Scaled {
    target: ScaleTarget,
    decisions: Vec<ScaleDecision>,
}

impl Scaler {
    /// Writes only while `leader` is true.
    pub(crate) fn new(client: Client, queues: Queues, leader: watch::Receiver<bool>) -> Self {
        Self { _client: client, _queues: queues, _leader: leader, shared: Arc::default() }
    }

    /// Tells how a deployment's components scale; `None` when the deployment is gone. The same again changes nothing.
    pub(crate) fn set(&self, key: &Key, target: Option<ScaleTarget>) {
        let mut all = self.lock();
        match target {
            Some(target) => all.entry(key.clone()).or_default().target = target,
            None => {
                all.remove(key);
            }
        }
    }

    /// The last decisions made here, newest first, at most five.
    pub(crate) fn decisions(&self, key: &Key) -> Vec<ScaleDecision> {
        self.lock().get(key).map(|scaled| scaled.decisions.clone()).unwrap_or_default()
    }

    /// Scales until stopped.
    pub(crate) async fn run(self, stop: CancellationToken) {
        stop.cancelled().await;
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Scaled>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
