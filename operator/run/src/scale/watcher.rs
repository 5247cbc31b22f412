//! One deployment's task: connect, look, wait for a push, look again; when Redis is away, ever less often.
//!
//! In: a target. Out: looks, published. At rest it costs one connection that is asleep and a look a minute; a Redis
//! that does not exist costs less than a dial a minute. Must not know: what a look is used for.

use std::sync::Arc;
use std::time::Duration;

use operator_plan::ComponentKind;
use queue::observe::{ComponentSight, ObserverPort, Sight};
use queue::port::{QueueError, QueueLimits};
use queue::redis::{ObserverConfig, RedisObserver, Timeouts};
use tokio::time::{Instant, sleep, timeout};

use super::queues::{Pace, Shared, Watched};
use super::reading;

/// Redis may take this long before it counts as away.
const TIMEOUTS: Timeouts =
    Timeouts { connect: Duration::from_secs(2), response: Duration::from_secs(1), retry_for: Duration::ZERO };
/// First and longest pause between two attempts to connect; half of it is jitter.
const BACK_OFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(2));
/// Shortest time between two looks while a component sleeps: its first work must be seen at once.
const ASLEEP_PAUSE: Duration = Duration::from_millis(50);
/// Shortest time between two looks while all are awake: their autoscalers ask on their own.
const AWAKE_PAUSE: Duration = Duration::from_secs(1);
/// A look without news: registrations lapse silently.
const REST: Duration = Duration::from_mins(1);
/// The same while claims are held, which lapse silently too.
const HELD_REST: Duration = Duration::from_secs(5);

/// Watches until it is dropped.
pub(super) async fn watch(shared: &Shared, watched: &Watched) {
    let mut back_off = BackOff::default();
    loop {
        let error = follow(shared, watched, &mut back_off).await;
        watched.connected(None);
        tracing::debug!(deployment = %watched.key, reason = error.reason(), %error, "the queue is away");
        shared.publish(watched, reading::unavailable(&error));
        sleep(back_off.next()).await;
    }
}

/// Follows the queue until it is away.
async fn follow(shared: &Shared, watched: &Watched, back_off: &mut BackOff) -> QueueError {
    let observer = match connect(shared, watched).await {
        Ok(observer) => Arc::new(observer),
        Err(error) => return error,
    };
    loop {
        let sight = match look(observer.as_ref()).await {
            Ok(sight) => sight,
            Err(error) => return error,
        };
        *back_off = BackOff::default();
        watched.connected(Some(observer.clone()));
        let (rest, mark) = (rest(&sight), sight.mark.clone());
        shared.publish(watched, reading::read(sight));
        pause(watched).await;
        let owed = watched.tell_at().map(|at| at.saturating_duration_since(Instant::now()));
        let wait = owed.map_or(rest, |owed| owed.min(rest)).max(Duration::from_millis(1));
        if let Err(error) = observer.changed(&mark, wait).await {
            return error;
        }
    }
}

async fn connect(shared: &Shared, watched: &Watched) -> Result<RedisObserver, QueueError> {
    // Gateways register with ASR, whether there are workers for it or not, and with the other components there are.
    let mut components = vec!["asr"];
    if watched.target.components.contains(&ComponentKind::Tts) {
        components.push("tts");
    }
    let config = ObserverConfig {
        url: watched.target.url.expose().to_owned(),
        root_certificates: watched.target.root_certificates.as_ref().map(|pem| pem.expose().to_owned()),
        deployment: watched.target.scope.clone(),
        components,
        limits: QueueLimits::default(),
        timeouts: TIMEOUTS,
    };
    let _dial = shared.dials.acquire().await;
    metrics::counter!("operator_queue_dials_total").increment(1);
    RedisObserver::connect(&config).await
}

async fn look(observer: &dyn ObserverPort) -> Result<Sight, QueueError> {
    let slow =
        |_| QueueError::Unavailable { action: "look at the queue", source: "no answer in time".into() };
    timeout(TIMEOUTS.connect + TIMEOUTS.response, observer.observe()).await.map_err(slow)?
}

/// Waits until the next look is allowed. A component that falls asleep meanwhile cuts the wait short: its last worker
/// has just told that it goes, and the first work after that must not wait for a pause that began before.
async fn pause(watched: &Watched) {
    sleep(ASLEEP_PAUSE).await;
    let mut pace = watched.pace.subscribe();
    // Whether it fell asleep or the time is over: the next look is allowed.
    let _ =
        timeout(AWAKE_PAUSE.saturating_sub(ASLEEP_PAUSE), pace.wait_for(|pace| *pace == Pace::Asleep)).await;
}

fn rest(sight: &Sight) -> Duration {
    let held = sight.components.iter().any(ComponentSight::holds_work);
    // Not all deployments at the same moment.
    if held { HELD_REST } else { REST.mul_f64(0.75 + crate::random::fraction() / 4.0) }
}

/// Pauses that grow.
#[derive(Debug, Default)]
struct BackOff {
    failures: u32,
}

impl BackOff {
    fn next(&mut self) -> Duration {
        let full = BACK_OFF.0.saturating_mul(1 << self.failures.min(10)).min(BACK_OFF.1);
        self.failures = self.failures.saturating_add(1);
        full.mul_f64(0.5 + crate::random::fraction() / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use operator_plan::{QueueView, SecretText};

    use super::*;
    use crate::scale::{Key, QueueTarget};

    fn watched() -> Watched {
        let target = QueueTarget {
            url: SecretText::new("redis://127.0.0.1:1"),
            root_certificates: None,
            scope: "speech/quickstart".to_owned(),
            components: vec![ComponentKind::Asr],
            up: true,
            started: std::collections::BTreeMap::new(),
        };
        Watched::new(&Key::new("speech", "quickstart"), target, (QueueView::default(), None))
    }

    /// Timers count whole milliseconds.
    fn is_about(took: Duration, expected: Duration) -> bool {
        took.abs_diff(expected) < Duration::from_millis(5)
    }

    #[tokio::test(start_paused = true)]
    async fn what_falls_asleep_is_looked_at_again_at_once() {
        let (watched, began) = (watched(), Instant::now());
        pause(&watched).await;
        assert!(is_about(began.elapsed(), AWAKE_PAUSE), "all are awake");

        let (soon, began) = (Duration::from_millis(120), Instant::now());
        let falls_asleep = async {
            sleep(soon).await;
            watched.pace.send_replace(Pace::Asleep);
        };
        tokio::join!(pause(&watched), falls_asleep);
        assert!(is_about(began.elapsed(), soon), "it falls asleep in the middle of a pause");

        let began = Instant::now();
        pause(&watched).await;
        assert!(is_about(began.elapsed(), ASLEEP_PAUSE), "it sleeps");
    }

    #[test]
    fn a_redis_that_does_not_exist_is_dialled_less_than_once_a_minute() {
        let mut back_off = BackOff::default();
        let pauses: Vec<_> = (0..50).map(|_| back_off.next()).collect();
        assert!(pauses[0] <= BACK_OFF.0, "the first attempt follows soon: {:?}", pauses[0]);
        assert!(pauses[8..].iter().all(|pause| (60..=120).contains(&pause.as_secs())), "{pauses:?}");
        assert!(pauses[8..].windows(2).any(|two| two[0] != two[1]), "jitter");
    }
}
