//! The journey of a resource: fetch → validate → plan → desired → apply → status, as often as something wakes it.
//!
//! Each turn starts from what is, not from what happened, so any number of turns ends in the same state. A standby
//! makes the same journey as far as it changes nothing: it knows the queues when it takes over, and serves their
//! figures before that.

use std::sync::Arc;
use std::time::Duration;

use crds::SmallestDeployment;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;
use operator_plan::{Children, ClusterPlace, Desired, Fetched, Invalid, Place, Plan, status};
use tokio::time::{Instant, timeout};

use crate::agenda::Turn;
use crate::apply::Applier;
use crate::error::{ReconcileError, causes, is_end};
use crate::fetch::{FetchError, Fetcher, Found};
use crate::index::{Answer, Index, Seen};
use crate::lease::Leadership;
use crate::metric::Step;
use crate::report::Reporting;
use crate::scale::{Key, Queues, Scaler};
use crate::watch::Monitors;
use crate::{random, targets};

/// Longest turn. It is longer than any single call, and ends calls whose answer never ends.
const TURN_DEADLINE: Duration = Duration::from_mins(2);

/// What a turn needs.
pub(crate) struct Reconciler {
    pub(crate) index: Index,
    pub(crate) fetcher: Fetcher,
    pub(crate) applier: Applier,
    pub(crate) reporting: Reporting,
    pub(crate) queues: Queues,
    pub(crate) scaler: Scaler,
    pub(crate) leadership: Leadership,
    pub(crate) place: ClusterPlace,
    pub(crate) monitors: Monitors,
    pub(crate) clock: Clock,
}

/// What time it is: of the machine, or of a test.
pub(crate) type Clock = Arc<dyn Fn() -> Time + Send + Sync>;

/// What a resource leads to.
struct Decided {
    outcome: Result<Plan, Invalid>,
    desired: Desired,
}

/// A status that stands.
struct Told {
    /// Whether somebody else wrote it meanwhile.
    answer: Answer,
    /// How long until time alone would change it.
    look_again: Option<Duration>,
}

impl Reconciler {
    /// One turn of a resource, and when it is to be looked at again.
    pub(crate) async fn turn(&self, key: &Key) -> Turn {
        let _step = Step::start("turn");
        let late = || Err(ReconcileError::Timeout { seconds: TURN_DEADLINE.as_secs() });
        let ended = timeout(TURN_DEADLINE, self.reconcile(key)).await.unwrap_or_else(|_| late());
        match ended {
            Ok(turn) => turn,
            // Leadership wakes all resources when it begins, and what is going away wakes when it is gone.
            Err(ReconcileError::Ended) => Turn::Settled(None),
            Err(error) => {
                metrics::counter!("operator_errors_total", "reason" => error.reason()).increment(1);
                tracing::warn!(deployment = %key, reason = error.reason(), error = causes(&error), "failed to reconcile");
                Turn::Failed { not_before: error.retry_after(), jitter: random::fraction() }
            }
        }
    }

    async fn reconcile(&self, key: &Key) -> Result<Turn, ReconcileError> {
        // Watch: what has been seen of it (no call).
        let Some(seen) = self.index.resource(key) else { return Ok(self.forget(key)) };
        let deployment = match seen {
            Seen::Valid(deployment) => deployment,
            Seen::Unreadable { metadata, error } => return self.unreadable(&metadata, &error).await,
        };
        if deployment.metadata.deletion_timestamp.is_some() {
            // What we made goes with its owner.
            return Ok(self.forget(key));
        }
        // Fetch (calls: gets).
        let found = match self.fetch(&deployment).await {
            Ok(found) => found,
            Err(error) => return self.cannot_fetch(key, &deployment, error).await,
        };
        // Validate, plan, desired (pure).
        let decided = self.decide(key, &deployment, &found);
        self.aim(key, &deployment, &decided, &found);
        if !self.leadership.is_leader() {
            // What it would do from nothing changes with the schedules.
            let holds_for = decided.outcome.ok().and_then(|plan| plan.holds_for(&(self.clock)()));
            return Ok(Turn::Settled(holds_for.map(|after| Instant::now() + after)));
        }
        // Apply (calls: patches, deletes).
        let applied = self.apply(key, &deployment, decided.outcome.is_ok(), decided.desired).await;
        if matches!(applied, Err(ReconcileError::Ended)) {
            return applied.map(|_| Turn::Settled(None));
        }
        // Status (pure, after a reading of the queue), report (calls: a patch when it changed, Events).
        let told = self.report(key, &deployment, decided.outcome.as_ref(), applied.as_ref().err()).await?;
        Ok(match applied?.max(told.answer) {
            Answer::Overtaken => Turn::Overtaken,
            Answer::Newest => Turn::Settled(told.look_again.map(|after| Instant::now() + after)),
        })
    }

    async fn fetch(&self, deployment: &SmallestDeployment) -> Result<Found, FetchError> {
        let _step = Step::start("fetch");
        self.fetcher.fetch(deployment).await
    }

    /// What cannot be read is told like what is wrong with a spec; the turn has failed all the same, and is tried
    /// again.
    async fn cannot_fetch(
        &self,
        key: &Key,
        deployment: &Arc<SmallestDeployment>,
        error: FetchError,
    ) -> Result<Turn, ReconcileError> {
        if let Some(invalid) = error.told().filter(|_| self.leadership.is_leader()) {
            self.report(key, deployment, Err(&invalid), None).await?;
        }
        Err(ReconcileError::Fetch(error))
    }

    /// Nothing is desired of what is not valid: what runs goes on running.
    fn decide(&self, key: &Key, deployment: &SmallestDeployment, found: &Found) -> Decided {
        let _step = Step::start("plan");
        let place = ClusterPlace { service_monitors: self.monitors.served(), ..self.place.clone() };
        let fetched = Fetched { secrets: found.secrets.clone(), place: Place::Cluster(place) };
        match operator_plan::validate(deployment, &fetched) {
            Err(invalid) => Decided { outcome: Err(invalid), desired: Desired::default() },
            Ok(valid) => {
                let plan = operator_plan::plan(&valid, &found.observed, &(self.clock)());
                let desired = operator_plan::desired(&valid, &plan);
                let desired = desired.with_way_to_former(&self.index.children(key));
                Decided { desired, outcome: Ok(plan) }
            }
        }
    }

    /// Tells the queues where to look and the scaler what to scale. Of what is not valid the former aim stays.
    fn aim(&self, key: &Key, deployment: &SmallestDeployment, decided: &Decided, found: &Found) {
        let Ok(plan) = &decided.outcome else { return };
        let owned = self.index.owned(key);
        let children = self.index.children(key);
        self.queues.set(key, targets::queue(plan, &found.secrets, &children));
        self.scaler.set(key, Some(targets::scale(deployment, plan, &decided.desired, (&owned, &children))));
    }

    async fn apply(
        &self,
        key: &Key,
        deployment: &SmallestDeployment,
        is_valid: bool,
        desired: Desired,
    ) -> Result<Answer, ReconcileError> {
        if !is_valid {
            return Ok(Answer::Newest);
        }
        let _step = Step::start("apply");
        let uid = deployment.uid().unwrap_or_default();
        self.applier.apply(key, &uid, desired).await.map_err(|failed| {
            if failed.is_end() {
                ReconcileError::Ended
            } else {
                ReconcileError::Apply { failure: failed.failure, retry_after: failed.retry_after }
            }
        })
    }

    /// Writes what was found.
    async fn report(
        &self,
        key: &Key,
        deployment: &Arc<SmallestDeployment>,
        outcome: Result<&Plan, &Invalid>,
        not_applied: Option<&ReconcileError>,
    ) -> Result<Told, ReconcileError> {
        let _step = Step::start("report");
        let queue = self.queues.read(key).await;
        // As the answers to apply have them, not as they were before it.
        let children: Children = self.index.children(key);
        let applied = match not_applied {
            Some(ReconcileError::Apply { failure, .. }) => Err(failure),
            _ => Ok(()),
        };
        let decisions = self.scaler.decisions(key);
        let found = operator_plan::Found {
            outcome,
            applied,
            children: &children,
            queue: &queue,
            decisions: &decisions,
        };
        let now = (self.clock)();
        let after = status(deployment, &found, &now);
        let look_again = operator_plan::look_again(deployment, &found, &now);
        match self.reporting.report(deployment, after).await {
            Err(error) if is_end(&error.0) => Err(ReconcileError::Ended),
            Err(error) => Err(ReconcileError::Report(error)),
            Ok(answer) => Ok(Told { answer, look_again }),
        }
    }

    async fn unreadable(
        &self,
        metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
        error: &str,
    ) -> Result<Turn, ReconcileError> {
        if self.leadership.is_leader() {
            self.reporting.unreadable(metadata, error).await.map_err(ReconcileError::Report)?;
        }
        Ok(Turn::Settled(None))
    }

    fn forget(&self, key: &Key) -> Turn {
        self.queues.set(key, None);
        self.scaler.set(key, None);
        self.fetcher.tidy();
        Turn::Gone
    }
}
