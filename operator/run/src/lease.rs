//! Who writes: one replica at a time, the holder of a Lease. Out goes a [`Leadership`], which the client's gate
//! (`client`) asks before every write.
//!
//! The holder renews every 2 seconds. A Lease that nobody renews for 15 seconds may be taken; a holder that could
//! not renew for 10 stops writing, so between the last write of the old and the first of the new holder lie
//! seconds, whatever stalls. Times are measured here, on the monotonic clock from when a change was seen: the
//! clocks of the replicas need not agree. A holder that ends gives the Lease back, and a standby, which watches
//! it, takes it at once.

mod decide;

use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, PostParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use self::decide::{Record, Seen, Step};
use crate::random;

/// How long a Lease lasts that nobody renews.
pub(crate) const LEASE_DURATION: Duration = Duration::from_secs(15);
/// How long a holder writes after its last renewal.
pub(crate) const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// Between two renewals, and between two tries.
pub(crate) const RETRY_PERIOD: Duration = Duration::from_secs(2);
/// What a write in flight may take beyond the deadline before it is cut.
const LAST_WRITE: Duration = Duration::from_secs(4);
/// Longest wait for one call.
const CALL_DEADLINE: Duration = Duration::from_secs(5);

/// May this replica write?
#[derive(Debug, Clone)]
pub(crate) struct Leadership(watch::Receiver<Option<Instant>>);

/// The writing half of a [`Leadership`].
#[derive(Debug)]
pub(crate) struct Granted {
    until: watch::Sender<Option<Instant>>,
    flag: watch::Sender<bool>,
}

/// Candidate for a Lease.
pub(crate) struct Candidate {
    api: Api<Lease>,
    name: String,
    me: String,
    granted: Granted,
}

/// Why a call about the Lease failed.
#[derive(Debug, thiserror::Error)]
enum LeaseError {
    #[error("failed to call the apiserver")]
    Call(#[source] kube::Error),
    #[error("failed to call the apiserver: no answer in {} s", CALL_DEADLINE.as_secs())]
    Timeout,
}

/// A pair: who grants, and who asks. Nothing is granted at first.
pub(crate) fn leadership() -> (Granted, Leadership) {
    let (until, receiver) = watch::channel(None);
    (Granted { until, flag: watch::Sender::new(false) }, Leadership(receiver))
}

impl Granted {
    /// Writing is allowed until then.
    pub(crate) fn until(&self, deadline: Instant) {
        self.until.send_replace(Some(deadline));
        self.show(true);
    }

    /// Writing is not allowed any more.
    pub(crate) fn revoke(&self) {
        self.until.send_replace(None);
        self.show(false);
    }

    /// For tests: writing is allowed for good.
    #[cfg(test)]
    pub(crate) fn forever(&self) {
        self.until(Instant::now() + Duration::from_hours(8760));
    }

    /// Leadership as a flag, for those who only start and stop something by it. It can lag; the gate does not.
    pub(crate) fn flag(&self) -> watch::Receiver<bool> {
        self.flag.subscribe()
    }

    fn show(&self, leads: bool) {
        metrics::gauge!("operator_leader").set(f64::from(u8::from(leads)));
        self.flag.send_if_modified(|flag| std::mem::replace(flag, leads) != leads);
    }
}

impl Leadership {
    /// May this replica write now? The clock is asked, not the last news: a program that was stopped for a
    /// minute has no right to write when it goes on, even before it hears of anything.
    pub(crate) fn is_leader(&self) -> bool {
        self.0.borrow().is_some_and(|deadline| Instant::now() < deadline)
    }

    /// Waits until leadership begins (`true`) or ends.
    pub(crate) async fn becomes(&mut self, leads: bool) {
        if self.0.wait_for(|deadline| deadline.is_some() == leads).await.is_err() {
            // Nobody can grant any more: the program ends.
            std::future::pending::<()>().await;
        }
    }

    /// Waits until a write that is under way must be given up.
    pub(crate) async fn lost(mut self) {
        loop {
            let Some(deadline) = *self.0.borrow_and_update() else { return };
            tokio::select! {
                () = sleep_until(deadline + LAST_WRITE) => return,
                changed = self.0.changed() => if changed.is_err() { return },
            }
        }
    }
}

impl Candidate {
    /// A candidate for the Lease of this name; `pod` is its readable name.
    pub(crate) fn new(api: Api<Lease>, name: &str, pod: &str, granted: Granted) -> Self {
        // A restarted container has the name of its pod again, but not the right to go on with its Lease.
        let me = format!("{pod}_{}", random::letters::<8>());
        Self { api, name: name.to_owned(), me, granted }
    }

    /// Stands by, leads, and gives the Lease back when told to stop.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut record = None;
        self.granted.show(false);
        let work = async {
            loop {
                let taken = self.stand_by(record.take()).await;
                tracing::info!(identity = self.me, "leads");
                record = self.lead(taken).await;
                self.granted.revoke();
                tracing::warn!(identity = self.me, "does not lead any more");
            }
        };
        tokio::select! {
            () = work => {}
            () = stop.cancelled() => {}
        }
        self.release().await;
    }

    /// Watches the Lease until it can be taken, and takes it.
    async fn stand_by(&self, known: Option<Record>) -> (Record, Instant) {
        let config = watcher::Config::default().fields(&format!("metadata.name={}", self.name));
        let mut news = watcher(self.api.clone(), config).default_backoff().boxed();
        let mut seen = Seen::of(known, Instant::now());
        let mut listed = false;
        loop {
            let step = seen.decide(&self.me, Instant::now());
            let wait_until = match step {
                Step::Wait(until) => until,
                Step::Take if !listed => None,
                Step::Take => match self.take(seen.record()).await {
                    Ok(taken) => return taken,
                    Err(error) => {
                        tracing::debug!(error = &error as &dyn std::error::Error, "failed to take the Lease");
                        Some(Instant::now() + RETRY_PERIOD.mul_f64(0.5 + random::fraction()))
                    }
                },
            };
            tokio::select! {
                event = news.next() => match event {
                    Some(Ok(watcher::Event::Init)) => seen.forget_unlisted(),
                    Some(Ok(watcher::Event::InitDone)) => {
                        listed = true;
                        seen.settle();
                    }
                    Some(Ok(watcher::Event::InitApply(lease) | watcher::Event::Apply(lease))) => {
                        seen.update(Record::of(&lease), Instant::now());
                    }
                    Some(Ok(watcher::Event::Delete(_))) => seen.gone(),
                    Some(Err(error)) => tracing::debug!(%error, "failed to watch the Lease"),
                    None => sleep(RETRY_PERIOD).await,
                },
                () = at(wait_until) => {}
            }
        }
    }

    /// Creates or replaces the Lease with this replica as its holder.
    async fn take(&self, record: Option<&Record>) -> Result<(Record, Instant), LeaseError> {
        let started = Instant::now();
        let transitions = record.map_or(0, |record| record.transitions.saturating_add(1));
        let lease = self.lease(record.map(|record| record.version.clone()), transitions);
        let answer = match record {
            None => call(self.api.create(&PostParams::default(), &lease)).await?,
            Some(_) => call(self.api.replace(&self.name, &PostParams::default(), &lease)).await?,
        };
        self.granted.until(started + RENEW_DEADLINE);
        Ok((Record::of(&answer), started))
    }

    /// Renews until that fails for too long, or somebody else holds the Lease; what is known of it then.
    async fn lead(&self, (mut record, mut renewed): (Record, Instant)) -> Option<Record> {
        let mut next = renewed + RETRY_PERIOD;
        loop {
            let deadline = renewed + RENEW_DEADLINE;
            sleep_until(next.min(deadline)).await;
            if Instant::now() >= deadline {
                tracing::warn!("the Lease could not be renewed in time");
                return None;
            }
            let started = Instant::now();
            next = started + RETRY_PERIOD;
            let lease = self.lease(Some(record.version.clone()), record.transitions);
            match call(self.api.replace(&self.name, &PostParams::default(), &lease)).await {
                Ok(answer) => {
                    record = Record::of(&answer);
                    renewed = started;
                    self.granted.until(renewed + RENEW_DEADLINE);
                }
                // Somebody wrote to it: a person who edits it, or a replica that took it.
                Err(LeaseError::Call(kube::Error::Api(status))) if status.is_conflict() => {
                    match call(self.api.get_opt(&self.name)).await {
                        Ok(Some(lease)) if Record::of(&lease).is_held_by(&self.me) => {
                            record = Record::of(&lease);
                            next = Instant::now();
                        }
                        Ok(other) => return other.as_ref().map(Record::of),
                        Err(error) => tracing::warn!(
                            error = &error as &dyn std::error::Error,
                            "failed to read the Lease"
                        ),
                    }
                }
                Err(LeaseError::Call(kube::Error::Api(status))) if status.is_not_found() => return None,
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "failed to renew the Lease");
                }
            }
        }
    }

    /// Gives the Lease back, so that a standby need not wait for its end.
    async fn release(&self) {
        let leads = self.granted.until.borrow().is_some();
        self.granted.revoke();
        if !leads {
            return;
        }
        let Ok(Some(lease)) = call(self.api.get_opt(&self.name)).await else { return };
        let record = Record::of(&lease);
        if !record.is_held_by(&self.me) {
            return;
        }
        let mut lease = self.lease(Some(record.version), record.transitions);
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
        }
        match call(self.api.replace(&self.name, &PostParams::default(), &lease)).await {
            Ok(_) => tracing::info!(identity = self.me, "gave the Lease back"),
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "failed to give the Lease back");
            }
        }
    }

    fn lease(&self, version: Option<String>, transitions: i32) -> Lease {
        let now = MicroTime(Timestamp::now());
        let metadata =
            ObjectMeta { name: Some(self.name.clone()), resource_version: version, ..ObjectMeta::default() };
        let spec = LeaseSpec {
            holder_identity: Some(self.me.clone()),
            lease_duration_seconds: i32::try_from(LEASE_DURATION.as_secs()).ok(),
            lease_transitions: Some(transitions),
            renew_time: Some(now.clone()),
            acquire_time: Some(now),
            ..LeaseSpec::default()
        };
        Lease { metadata, spec: Some(spec) }
    }
}

async fn call<T>(answer: impl Future<Output = kube::Result<T>>) -> Result<T, LeaseError> {
    timeout(CALL_DEADLINE, answer).await.map_err(|_| LeaseError::Timeout)?.map_err(LeaseError::Call)
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}
