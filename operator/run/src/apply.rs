//! [`Desired`] → the cluster: server-side apply in the order of making, then prune what the plan no longer has.
//!
//! The operator is the one manager of the fields that it sets and takes them back from whoever changes them. What
//! is as it was applied, and as nobody touched since, is not sent again: at rest nothing is written. What is not known to
//! be ours is not taken over (`apply/claim`); most of it is made by POST, which costs the apiserver less (`apply/made`).

mod claim;
mod kinds;
mod made;
mod prune;
mod replicas;

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use k8s_openapi::NamespaceResourceScope;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, Resource, ResourceExt as _};
use operator_plan::{ApplyFailure, ApplyFailureKind, Desired};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::client::NotLeader;
use crate::index::{Answer, Index, Kind, Object, describe};
use crate::scale::Key;

pub(crate) use kinds::ServiceMonitor;

/// Name under which the apiserver notes which fields are ours.
pub(crate) const FIELD_MANAGER: &str = "smallest-operator";

/// Carries plans out.
pub(crate) struct Applier {
    client: Client,
    index: Index,
}

/// Why not everything could be applied.
#[derive(Debug)]
pub(crate) struct NotApplied {
    /// What to tell the user: the first failure.
    pub(crate) failure: ApplyFailure,
    /// The apiserver asked for at least this wait.
    pub(crate) retry_after: Option<Duration>,
    /// This replica may not write (any more): no failure of anything.
    pub(crate) not_leader: bool,
}

/// One walk through the objects of one deployment.
struct Round<'a> {
    applier: &'a Applier,
    key: &'a Key,
    /// Of the resource.
    uid: &'a str,
    wanted: BTreeSet<(Kind, String)>,
    failed: Option<NotApplied>,
    answer: Answer,
}

/// Why one object could not be applied.
#[derive(Debug, thiserror::Error)]
enum ApplyError {
    /// The apiserver, or the way to it.
    #[error(transparent)]
    Call(#[from] kube::Error),
    /// It belongs to somebody else.
    #[error("failed to take an object that belongs to somebody else")]
    Foreign,
}

impl Applier {
    /// Writes through this client.
    pub(crate) fn new(client: Client, index: Index) -> Self {
        Self { client, index }
    }

    /// Applies everything, and prunes what the owner of this uid has beyond it.
    pub(crate) async fn apply(&self, key: &Key, uid: &str, desired: Desired) -> Result<Answer, NotApplied> {
        // Every field is named: a kind of object that nobody applies does not compile.
        let Desired {
            service_accounts,
            secrets,
            config_maps,
            persistent_volume_claims,
            services,
            stateful_sets,
            deployments,
            horizontal_pod_autoscalers,
            pod_disruption_budgets,
            network_policies,
            service_monitors,
        } = desired;
        let (wanted, answer) = (BTreeSet::new(), Answer::default());
        let mut round = Round { applier: self, key, uid, wanted, failed: None, answer };
        round.each(service_accounts).await;
        let has_secrets = round.each(secrets).await;
        if !has_secrets {
            // Each attempt has another password until one stands: pods made for it would be replaced at the next one.
            return round.finish().await;
        }
        round.each(config_maps).await;
        round.each(persistent_volume_claims).await;
        round.each(services).await;
        // Before the pods: nobody is reachable for longer than meant.
        round.each(network_policies).await;
        round.each(stateful_sets).await;
        round.keep_replicas(&deployments).await;
        round.each(deployments).await;
        round.each(pod_disruption_budgets).await;
        round.each(horizontal_pod_autoscalers).await;
        round.each(service_monitors.into_iter().filter_map(ServiceMonitor::read).collect()).await;
        round.finish().await
    }
}

impl Round<'_> {
    /// Applies objects of one kind; true when all of them stand. One that fails does not keep the others from it, unless
    /// nobody answers.
    async fn each<O>(&mut self, objects: Vec<O>) -> bool
    where
        O: Object + Resource<Scope = NamespaceResourceScope> + Clone + Debug + Serialize + DeserializeOwned,
    {
        let Some(kind) = O::KIND else { return true };
        let mut all = true;
        for object in objects {
            let name = object.name_any();
            self.wanted.insert((kind, name.clone()));
            if self.failed.as_ref().is_some_and(NotApplied::is_general) {
                all = false;
                continue;
            }
            if let Err(error) = self.one(kind, &name, object).await {
                self.fail(&describe(kind, &name), &error);
                all = false;
            }
        }
        all
    }

    fn fail(&mut self, object: &str, error: &ApplyError) {
        let failed = NotApplied::of(object, error);
        if failed.is_end() {
            tracing::debug!(deployment = %self.key, error = %failed.failure, "does not apply any more");
        } else {
            tracing::warn!(deployment = %self.key, error = %failed.failure, "failed to apply");
        }
        self.failed.get_or_insert(failed);
    }

    async fn one<O>(&mut self, kind: Kind, name: &str, object: O) -> Result<(), ApplyError>
    where
        O: Object + Resource<Scope = NamespaceResourceScope> + Clone + Debug + Serialize + DeserializeOwned,
    {
        let hash = fingerprint(&object).map_err(kube::Error::SerdeError)?;
        let Applier { client, index } = self.applier;
        let id = (kind, name.to_owned());
        if index.is_current(self.key, &id, hash) {
            return Ok(());
        }
        let api: Api<O> = Api::namespaced(client.clone(), &self.key.namespace);
        let known = index.live(self.key, &id);
        let flight = index.applying(self.key, id);
        let answer = match known {
            // Boxed, since it is seldom: every turn would have room for it.
            Some(live) if live.is_made => Box::pin(made::apply_once(&api, name, &object)).await?,
            Some(_) => send(&api, name, &object, &as_ours()).await?,
            None => self.claim(&api, (kind, name), &object).await?,
        };
        tracing::debug!(deployment = %self.key, object = describe(kind, name), "applied");
        self.answer = self.answer.max(flight.answered(answer, hash));
        Ok(())
    }

    /// Prunes only once everything stands: what is new must be there before what is old goes.
    async fn finish(mut self) -> Result<Answer, NotApplied> {
        if self.failed.is_none() {
            self.failed = self.applier.prune(self.key, self.uid, &self.wanted).await.err();
        }
        self.failed.map_or(Ok(self.answer), Err)
    }
}

impl NotApplied {
    fn of(object: &str, error: &ApplyError) -> Self {
        match error {
            ApplyError::Call(error) => Self::of_call(object, error),
            ApplyError::Foreign => {
                Self { failure: ApplyFailure::foreign(object), retry_after: None, not_leader: false }
            }
        }
    }

    fn of_call(object: &str, error: &kube::Error) -> Self {
        let not_leader =
            matches!(error, kube::Error::Service(inner) if inner.downcast_ref::<NotLeader>().is_some());
        let failure = match error {
            kube::Error::Api(status) => {
                ApplyFailure::from_answer(object, status.code, &status.reason, &status.message)
            }
            other => ApplyFailure::unanswered(object, crate::error::causes(other)),
        };
        Self { failure, retry_after: crate::error::retry_after(error), not_leader }
    }

    /// Every other object would meet the same.
    fn is_general(&self) -> bool {
        self.is_end() || self.failure.kind == ApplyFailureKind::Unavailable
    }

    /// Nothing is wrong, and trying again is of no use: another replica leads, or the namespace is going away and
    /// the resource with it.
    pub(crate) fn is_end(&self) -> bool {
        self.not_leader || self.failure.kind == ApplyFailureKind::NamespaceTerminating
    }
}

/// Server-side apply under our name. The apiserver reads the body a second time only to warn of fields that it does not
/// know, which nobody here would hear; an apply with such fields it refuses in any case.
pub(crate) fn as_ours() -> PatchParams {
    PatchParams::apply(FIELD_MANAGER).force().validation_ignore()
}

/// Applies one object. Of the answer no more is asked for than is kept: most of it is what was sent, and the apiserver
/// would have to write it and we to read it.
async fn send<O>(api: &Api<O>, name: &str, object: &O, params: &PatchParams) -> kube::Result<O>
where
    O: Object + Clone + Debug + Serialize + DeserializeOwned,
{
    let patch = Patch::Apply(object);
    match O::OF_METADATA {
        Some(read) => api.patch_metadata(name, params, &patch).await.map(|answer| read(answer.metadata)),
        None => api.patch(name, params, &patch).await,
    }
}

/// Fingerprint of what is to be applied. It is only compared within this process.
fn fingerprint(object: &impl Serialize) -> Result<u64, serde_json::Error> {
    let mut hasher = DefaultHasher::new();
    serde_json::to_vec(object)?.hash(&mut hasher);
    Ok(hasher.finish())
}
