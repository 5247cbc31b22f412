//! A container that ended → whether it was ended because its startup probe failed to the end, as far as times tell. Pure.
//!
//! The kubelet says so in an Event that expires; what a pod keeps is when the container started and ended, and with
//! which code. After the last failure the program is asked to stop (it ends well, or by SIGTERM), and killed when its
//! grace period is over: one that was killed sooner or later than that was killed by somebody else.

use k8s_openapi::api::core::v1::{Container, ContainerStateTerminated, PodSpec, Probe};

/// Exit code of a program that was killed.
pub(super) const KILLED: i32 = 137;
/// What Kubernetes takes where a probe or a pod says nothing.
const DEFAULT_PERIOD: i32 = 10;
const DEFAULT_TIMEOUT: i32 = 1;
const DEFAULT_FAILURES: i32 = 3;
const DEFAULT_GRACE: i64 = 30;
/// Times are whole seconds, and a grace period is cut short by the work of ending.
const EARLY: i64 = 2;
/// A busy node asks late, and is late to end what it has to.
const LATE: i64 = 15;

/// A start that took longer than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StartedTooSlowly {
    /// How long the probe lets it start, seconds.
    pub(super) budget: i64,
    /// How long it then had to end, seconds.
    pub(super) grace: i64,
}

/// Was this end the startup probe's?
pub(super) fn started_too_slowly(
    pod: &PodSpec,
    container: &Container,
    ended: &ContainerStateTerminated,
) -> Option<StartedTooSlowly> {
    let probe = container.startup_probe.as_ref()?;
    let ran = ended.finished_at.as_ref()?.0.duration_since(ended.started_at.as_ref()?.0).as_secs();
    let own = probe.termination_grace_period_seconds;
    let grace = own.or(pod.termination_grace_period_seconds).unwrap_or(DEFAULT_GRACE);
    let (first, last) = last_failure(probe);
    // Whoever ends by itself may do so at any time of the grace period; whoever is killed has had all of it.
    let first = if ended.exit_code == KILLED { first + grace } else { first };
    let in_time = (first - EARLY..=last + grace + LATE).contains(&ran);
    in_time.then(|| StartedTooSlowly { budget: budget(probe), grace })
}

/// When the failure comes that is one too many, seconds after the start: at once when nobody listens, or after a
/// time-out each.
fn last_failure(probe: &Probe) -> (i64, i64) {
    let delay = i64::from(probe.initial_delay_seconds.unwrap_or(0));
    let timeout = i64::from(probe.timeout_seconds.unwrap_or(DEFAULT_TIMEOUT));
    (delay + (failures(probe) - 1) * period(probe), delay + failures(probe) * period(probe).max(timeout))
}

fn budget(probe: &Probe) -> i64 {
    i64::from(probe.initial_delay_seconds.unwrap_or(0)) + failures(probe) * period(probe)
}

fn period(probe: &Probe) -> i64 {
    i64::from(probe.period_seconds.unwrap_or(DEFAULT_PERIOD))
}

fn failures(probe: &Probe) -> i64 {
    i64::from(probe.failure_threshold.unwrap_or(DEFAULT_FAILURES))
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use k8s_openapi::jiff::{SignedDuration, Timestamp};

    /// A start of 20 s (10 times 2 s), and 30 s to end.
    fn check(exit_code: i32, ran: i64) -> bool {
        let probe = Probe {
            period_seconds: Some(2),
            timeout_seconds: Some(2),
            failure_threshold: Some(10),
            ..Probe::default()
        };
        let container = Container { startup_probe: Some(probe), ..Container::default() };
        let start = Timestamp::UNIX_EPOCH;
        let ended = ContainerStateTerminated {
            exit_code,
            started_at: Some(Time(start)),
            finished_at: Some(Time(start + SignedDuration::from_secs(ran))),
            ..ContainerStateTerminated::default()
        };
        let pod = PodSpec { termination_grace_period_seconds: Some(30), ..PodSpec::default() };
        let found = started_too_slowly(&pod, &container, &ended);
        assert!(found.is_none_or(|found| found == StartedTooSlowly { budget: 20, grace: 30 }));
        found.is_some()
    }

    #[test]
    fn an_end_is_the_startup_probes_only_at_its_time() {
        for (exit_code, ran, is_its) in [
            (143, 5, false),
            (143, 19, true),
            (143, 48, true),
            (143, 200, false),
            (0, 21, true),
            (137, 5, false),
            (137, 21, false),
            (137, 48, true),
            (137, 52, true),
            (137, 200, false),
        ] {
            assert_eq!(check(exit_code, ran), is_its, "exit code {exit_code} after {ran} s");
        }
    }

    #[test]
    fn a_container_without_a_startup_probe_has_no_such_end() {
        let ended = ContainerStateTerminated { exit_code: KILLED, ..ContainerStateTerminated::default() };
        assert_eq!(started_too_slowly(&PodSpec::default(), &Container::default(), &ended), None);
    }
}
