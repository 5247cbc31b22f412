//! Take the Lease, or wait for what? From what was seen of it, and when. Pure.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use tokio::time::Instant;

use super::LEASE_DURATION;

/// What a Lease says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    /// Its resource version: two replicas cannot both replace the same one.
    pub(super) version: String,
    /// Times it changed hands.
    pub(super) transitions: i32,
    holder: Option<String>,
    duration: Duration,
}

/// What was seen of a Lease, and since when it is as it is.
#[derive(Debug, Default)]
pub(super) struct Seen {
    record: Option<(Record, Instant)>,
    /// Between the begin of a list and its end: was it listed?
    listed: bool,
}

/// What a candidate does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// It takes the Lease.
    Take,
    /// It waits until this time, or for news.
    Wait(Option<Instant>),
}

impl Record {
    pub(super) fn of(lease: &Lease) -> Self {
        let spec = lease.spec.clone().unwrap_or_default();
        // A Lease without a duration, made by hand, lasts as long as ours.
        let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        Self {
            version: lease.metadata.resource_version.clone().unwrap_or_default(),
            transitions: spec.lease_transitions.unwrap_or(0),
            holder: spec.holder_identity.filter(|holder| !holder.is_empty()),
            duration: seconds.map_or(LEASE_DURATION, Duration::from_secs),
        }
    }

    pub(super) fn is_held_by(&self, identity: &str) -> bool {
        self.holder.as_deref() == Some(identity)
    }
}

impl Seen {
    pub(super) fn of(record: Option<Record>, now: Instant) -> Self {
        Self { record: record.map(|record| (record, now)), listed: false }
    }

    pub(super) fn record(&self) -> Option<&Record> {
        self.record.as_ref().map(|(record, _)| record)
    }

    /// News of the Lease. Its time starts again only when it changed.
    pub(super) fn update(&mut self, record: Record, now: Instant) {
        self.listed = true;
        if self.record() != Some(&record) {
            self.record = Some((record, now));
        }
    }

    /// A list begins.
    pub(super) fn forget_unlisted(&mut self) {
        self.listed = false;
    }

    /// A list has ended: what was not in it is gone.
    pub(super) fn settle(&mut self) {
        if !self.listed {
            self.record = None;
        }
    }

    /// The Lease was deleted.
    pub(super) fn gone(&mut self) {
        self.record = None;
    }

    pub(super) fn decide(&self, me: &str, now: Instant) -> Step {
        let Some((record, since)) = &self.record else { return Step::Take };
        let free_from = *since + record.duration;
        match &record.holder {
            None => Step::Take,
            Some(holder) if holder == me => Step::Take,
            Some(_) if free_from <= now => Step::Take,
            Some(_) => Step::Wait(Some(free_from)),
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::coordination::v1::LeaseSpec;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    use super::*;

    fn record(holder: &str, version: &str, seconds: Option<i32>) -> Record {
        Record::of(&Lease {
            metadata: ObjectMeta { resource_version: Some(version.to_owned()), ..ObjectMeta::default() },
            spec: Some(LeaseSpec {
                holder_identity: Some(holder.to_owned()),
                lease_duration_seconds: seconds,
                ..LeaseSpec::default()
            }),
        })
    }

    #[test]
    fn what_nobody_holds_is_taken() {
        let now = Instant::now();
        assert_eq!(Seen::default().decide("me", now), Step::Take);
        assert_eq!(Seen::of(Some(record("", "1", Some(1))), now).decide("me", now), Step::Take);
        assert_eq!(Seen::of(Some(record("me", "1", Some(15))), now).decide("me", now), Step::Take);
    }

    #[test]
    fn a_lease_is_free_when_nobody_renews_it_for_its_duration() {
        let start = Instant::now();
        let mut seen = Seen::of(Some(record("other", "1", Some(15))), start);
        let free = start + Duration::from_secs(15);
        assert_eq!(seen.decide("me", start), Step::Wait(Some(free)));
        seen.update(record("other", "1", Some(15)), start + Duration::from_secs(14));
        assert_eq!(seen.decide("me", free), Step::Take, "the same news again is no renewal");
        seen.update(record("other", "2", Some(15)), start + Duration::from_secs(14));
        assert_eq!(seen.decide("me", free), Step::Wait(Some(start + Duration::from_secs(29))));
    }

    #[test]
    fn a_lease_without_a_sensible_duration_lasts_as_long_as_ours() {
        let now = Instant::now();
        for seconds in [None, Some(-7)] {
            let seen = Seen::of(Some(record("other", "1", seconds)), now);
            assert_eq!(seen.decide("me", now), Step::Wait(Some(now + LEASE_DURATION)));
        }
    }

    #[test]
    fn what_a_list_does_not_name_is_gone() {
        let now = Instant::now();
        let mut seen = Seen::of(Some(record("other", "1", Some(15))), now);
        seen.forget_unlisted();
        seen.settle();
        assert_eq!(seen.decide("me", now), Step::Take);
        seen.update(record("other", "2", Some(15)), now);
        seen.gone();
        assert_eq!(seen.decide("me", now), Step::Take);
    }
}
