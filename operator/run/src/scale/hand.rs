//! The scaler's hand: patches of `/scale` and of pods. IO; decides nothing but whether a decision still holds.
//!
//! A number of replicas is changed only from the number that the decision saw: the patch names the version that was read,
//! so whoever was faster (the autoscaler, a person) wins. Before a component is sent to sleep its queue is read once more.

use std::sync::Arc;
use std::time::Duration;

use crds::ScaleDecision;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, Error};
use operator_plan::scale::DELETION_COST;
use operator_plan::{ComponentKind, QueueView};
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::scaler::{Replicas, ScaledComponent};
use super::{Key, Queues};
use crate::index::version;

/// Who writes.
const MANAGER: &str = "smallest-operator-scaler";
/// Patches at the same time.
const PATCHES: usize = 16;
/// Longest wait for the apiserver, for each deployment.
const PATIENCE: Duration = Duration::from_secs(10);

/// Something to do.
#[derive(Debug, Clone)]
pub(super) enum Move {
    /// Another number of replicas.
    Scale(Resize),
    /// Another order in which pods go.
    Order { kind: ComponentKind, costs: Vec<(String, i32)> },
}

/// A number of replicas to change.
#[derive(Debug, Clone)]
pub(super) struct Resize {
    kind: ComponentKind,
    /// Name of the Deployment.
    deployment: String,
    /// Replicas that the decision saw.
    from: u32,
    /// Replicas to ask for.
    to: u32,
    /// What the decision rests on.
    inputs: String,
}

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Replicas as they are now.
    pub(super) replicas: Vec<(ComponentKind, Replicas)>,
    /// What was changed.
    pub(super) decisions: Vec<ScaleDecision>,
    /// Something did not work and is worth another attempt.
    pub(super) failed: bool,
}

/// Carries moves out. Clones share its bounds.
#[derive(Clone)]
pub(super) struct Hand {
    client: Client,
    queues: Queues,
    patches: Arc<Semaphore>,
}

impl Move {
    pub(super) fn scale(component: &ScaledComponent, (from, to): (u32, u32), inputs: String) -> Self {
        let (kind, deployment) = (component.kind, component.deployment.clone());
        Self::Scale(Resize { kind, deployment, from, to, inputs })
    }
}

impl Hand {
    pub(super) fn new(client: Client, queues: Queues) -> Self {
        Self { client, queues, patches: Arc::new(Semaphore::new(PATCHES)) }
    }

    pub(super) async fn carry_out(&self, key: &Key, moves: Vec<Move>) -> Outcome {
        let _patch = self.patches.acquire().await;
        let mut outcome = Outcome::default();
        for step in moves {
            let done = timeout(PATIENCE, self.step(key, step, &mut outcome)).await;
            let failure = match done {
                Ok(Ok(())) => continue,
                Ok(Err(error)) => crate::error::causes(&error),
                Err(_) => format!("no answer within {} s", PATIENCE.as_secs()),
            };
            tracing::warn!(deployment = %key, error = failure, "failed to scale; tries again");
            outcome.failed = true;
        }
        outcome
    }

    async fn step(&self, key: &Key, step: Move, outcome: &mut Outcome) -> Result<(), Error> {
        match step {
            Move::Scale(resize) => self.scale(key, resize, outcome).await,
            Move::Order { costs, .. } => self.order(key, &costs).await,
        }
    }

    async fn scale(
        &self,
        key: &Key,
        Resize { kind, deployment, from, to, inputs }: Resize,
        outcome: &mut Outcome,
    ) -> Result<(), Error> {
        let began = Instant::now();
        if to == 0 && self.is_busy(key, kind).await {
            return Ok(());
        }
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), &key.namespace);
        let seen = api.get_scale(&deployment).await?;
        let now = replicas(&seen);
        if now.number != from {
            outcome.replicas.push((kind, now));
            return Ok(());
        }
        let patch = json!({
            "metadata": { "resourceVersion": seen.metadata.resource_version },
            "spec": { "replicas": to },
        });
        let scaled = match api.patch_scale(&deployment, &parameters(), &Patch::Merge(patch)).await {
            Ok(scaled) => replicas(&scaled),
            // Somebody else changed it in between: the next look decides anew.
            Err(Error::Api(status)) if status.code == 409 => return Ok(()),
            Err(error) => return Err(error),
        };
        let component = word(kind);
        let elapsed_ms = began.elapsed().as_millis() as u64;
        tracing::info!(deployment = %key, component, from, to, inputs, elapsed_ms, "scaled");
        metrics::counter!("operator_scale_decisions_total", "component" => component, "to" => if to == 0 { "zero" } else { "one" })
            .increment(1);
        if from == 0 {
            metrics::histogram!("operator_wake_seconds")
                .record(self.waited(key, kind) + began.elapsed().as_secs_f64());
        }
        let decision = ScaleDecision {
            time: Time(Timestamp::now()),
            component: component.to_owned(),
            from,
            to,
            inputs,
            by: "operator".to_owned(),
        };
        outcome.decisions.push(decision);
        outcome.replicas.push((kind, scaled));
        Ok(())
    }

    /// Nobody may have queued anything since the decision; what is not known counts as busy.
    async fn is_busy(&self, key: &Key, kind: ComponentKind) -> bool {
        let QueueView::Read(reading) = self.queues.read(key).await else { return true };
        !reading.is_idle(kind, self.queues.started(key, kind))
    }

    /// How long the first work had waited when it was seen, seconds.
    fn waited(&self, key: &Key, kind: ComponentKind) -> f64 {
        let QueueView::Read(reading) = self.queues.last(key) else { return 0.0 };
        reading.component(kind).map_or(0.0, |component| component.oldest_wait_ms() as f64 / 1e3)
    }

    async fn order(&self, key: &Key, costs: &[(String, i32)]) -> Result<(), Error> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        for (pod, cost) in costs {
            let patch = json!({ "metadata": { "annotations": { DELETION_COST: cost.to_string() } } });
            match api.patch_metadata(pod, &parameters(), &Patch::Merge(patch)).await {
                Ok(_) => {}
                // It went meanwhile.
                Err(Error::Api(status)) if status.code == 404 => {}
                Err(error) => return Err(error),
            }
            metrics::counter!("operator_deletion_cost_writes_total").increment(1);
        }
        Ok(())
    }
}

/// What the apiserver says of a Deployment's replicas.
fn replicas(scale: &Scale) -> Replicas {
    let number = scale.spec.as_ref().and_then(|spec| spec.replicas).and_then(|n| u32::try_from(n).ok());
    Replicas { number: number.unwrap_or(0), version: version(&scale.metadata).unwrap_or(0) }
}

fn parameters() -> PatchParams {
    PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() }
}

fn word(kind: ComponentKind) -> &'static str {
    match kind {
        ComponentKind::Asr => "asr",
        ComponentKind::Tts => "tts",
        ComponentKind::Gateway => "gateway",
        ComponentKind::Redis => "redis",
        ComponentKind::LicenseProxy => "license-proxy",
    }
}
