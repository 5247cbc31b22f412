//! What the autoscaler cannot do: from zero when work waits, to zero when nothing does, and which pod goes first.
//!
//! ```text
//! looks, targets, leadership, clocks ──▶ turn: operator_plan::scale decides ──▶ hand: patches ──▶ decisions
//! ```
//! In: [`ScaleTarget`]s, readings, leadership. Out: patches of `/scale` and of pods, by the leader alone, one at a time for
//! each deployment; decisions for status. Nothing is written while nothing changes.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crds::ScaleDecision;
use futures::StreamExt as _;
use kube::Client;
use operator_plan::scale::{Bounds, Facts, Step, costs, decide};
use operator_plan::{ComponentKind, QueueView};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::time::DelayQueue;

use super::hand::{Hand, Move, Outcome};
use super::queues::Pace;
use super::{Key, Queues};

/// Decisions kept for status.
const DECISIONS: usize = 5;
/// Deletion costs of a component are written this often at most.
const COSTS_EVERY: Duration = Duration::from_secs(30);
/// Pause after a patch that failed; doubles up to the second.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));

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
    /// Between how many replicas it scales now; told anew when a schedule changes them.
    pub(crate) bounds: Bounds,
    /// How long it is idle before its last replica goes, seconds.
    pub(crate) idle_seconds: u32,
    /// `spec.replicas` of its Deployment; `None` while there is no Deployment.
    pub(crate) replicas: Option<Replicas>,
    /// Its pods that are not being deleted.
    pub(crate) pods: Vec<PodCost>,
}

/// A number of replicas, and the version of the Deployment that has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Replicas {
    /// How many are asked for.
    pub(crate) number: u32,
    /// Versions of one object grow; 0 where nothing is known of their order.
    pub(crate) version: u64,
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
    hand: Hand,
    queues: Queues,
    leader: watch::Receiver<bool>,
    shared: Arc<Mutex<HashMap<Key, Scaled>>>,
    /// Its clock began here.
    epoch: Instant,
}

#[derive(Debug, Default)]
struct Scaled {
    target: ScaleTarget,
    decisions: Vec<ScaleDecision>,
    idle_since_ms: BTreeMap<ComponentKind, u64>,
    costs_after: BTreeMap<ComponentKind, Instant>,
    failures: u32,
    retry_at: Option<Instant>,
    /// A patch is under way: the next decision waits for what comes of it.
    under_way: bool,
}

/// Whether this replica writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Leader,
    Standby,
}

/// What a turn found to do, and when to look again.
#[derive(Debug, Default)]
struct Turn {
    moves: Vec<Move>,
    again: Option<Duration>,
}

impl Scaler {
    /// Writes only while `leader` is true.
    pub(crate) fn new(client: Client, queues: Queues, leader: watch::Receiver<bool>) -> Self {
        let hand = Hand::new(client, queues.clone());
        Self { hand, queues, leader, shared: Arc::default(), epoch: Instant::now() }
    }

    /// Tells how a deployment's components scale; `None` when the deployment is gone. The same again changes nothing.
    pub(crate) fn set(&self, key: &Key, target: Option<ScaleTarget>) {
        let mut all = self.lock();
        let Some(target) = target else {
            all.remove(key);
            return;
        };
        let scaled = all.entry(key.clone()).or_default();
        let target = target.after(&scaled.target);
        if scaled.target != target {
            scaled.target = target;
            let pace = scaled.target.pace();
            drop(all);
            self.queues.keep_pace(key, pace);
            self.queues.poke(key);
        }
    }

    /// The last decisions made here, newest first, at most five.
    pub(crate) fn decisions(&self, key: &Key) -> Vec<ScaleDecision> {
        self.lock().get(key).map(|scaled| scaled.decisions.clone()).unwrap_or_default()
    }

    /// Scales until stopped; patches under way are finished.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut looks = self.queues.looks();
        let mut leader = self.leader.clone();
        let mut clocks = Clocks::default();
        let mut hands = JoinSet::new();
        let mut due = self.keys();
        loop {
            for key in due.drain(..) {
                self.turn(&key, &mut clocks, &mut hands);
            }
            due = tokio::select! {
                () = stop.cancelled() => break,
                look = looks.recv() => match look {
                    Ok(key) => vec![key],
                    Err(RecvError::Lagged(_)) => self.keys(),
                    Err(RecvError::Closed) => break,
                },
                Ok(()) = leader.changed() => self.keys(),
                Some(key) = clocks.next() => vec![key],
                Some(Ok((key, outcome))) = hands.join_next() => {
                    self.came_of_it(&key, outcome);
                    vec![key]
                }
            };
        }
        while let Some(ended) = hands.join_next().await {
            if let Ok((key, outcome)) = ended {
                self.came_of_it(&key, outcome);
            }
        }
    }

    fn turn(&self, key: &Key, clocks: &mut Clocks, hands: &mut JoinSet<(Key, Outcome)>) {
        let view = self.queues.last(key);
        let role = if *self.leader.borrow() { Role::Leader } else { Role::Standby };
        let Turn { moves, again } = {
            let mut all = self.lock();
            let Some(scaled) = all.get_mut(key) else { return clocks.forget(key) };
            if scaled.under_way {
                return;
            }
            let started = |kind| self.queues.started(key, kind);
            let turn = scaled.turn((&view, &started), (self.epoch, Instant::now()), role);
            scaled.under_way = !turn.moves.is_empty();
            turn
        };
        match again {
            Some(again) => clocks.set(key, again),
            None => clocks.forget(key),
        }
        if !moves.is_empty() {
            let (hand, key) = (self.hand.clone(), key.clone());
            hands.spawn(async move {
                let outcome = hand.carry_out(&key, moves).await;
                (key, outcome)
            });
        }
    }

    fn came_of_it(&self, key: &Key, outcome: Outcome) {
        let mut all = self.lock();
        let Some(scaled) = all.get_mut(key) else { return };
        let tell = !outcome.decisions.is_empty();
        scaled.learn(outcome);
        let pace = scaled.target.pace();
        drop(all);
        self.queues.keep_pace(key, pace);
        if tell {
            self.queues.tell(key);
        }
    }

    fn keys(&self) -> Vec<Key> {
        self.lock().keys().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Scaled>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ScaleTarget {
    /// Keeps replicas that were scaled after the cluster was seen like this: whoever tells a target may not have seen
    /// yet what the scaler did, and a component that sleeps would be thought awake until the next target.
    fn after(mut self, known: &Self) -> Self {
        for component in &mut self.components {
            let mut same = known.components.iter().filter(|known| known.deployment == component.deployment);
            let newer = same.next().and_then(|known| known.replicas);
            if let (Some(seen), Some(newer)) = (&mut component.replicas, newer)
                && newer.version > seen.version
            {
                *seen = newer;
            }
        }
        self
    }

    /// How soon changes of the queue must be seen.
    fn pace(&self) -> Pace {
        let sleeps = |component: &ScaledComponent| component.replicas.is_some_and(|seen| seen.number == 0);
        if self.components.iter().any(sleeps) { Pace::Asleep } else { Pace::Awake }
    }
}

impl Scaled {
    /// Decides about every component, by what is in the queue and how many pods have started.
    fn turn(
        &mut self,
        (view, started): (&QueueView, &dyn Fn(ComponentKind) -> u32),
        (epoch, now): (Instant, Instant),
        role: Role,
    ) -> Turn {
        let mut turn = Turn::default();
        if let Some(pause) =
            self.retry_at.map(|at| at.saturating_duration_since(now)).filter(|p| !p.is_zero())
        {
            turn.again = Some(pause);
            return turn;
        }
        for component in &self.target.components {
            let Some(Replicas { number: replicas, .. }) = component.replicas else { continue };
            let facts = Facts {
                kind: component.kind,
                bounds: &component.bounds,
                idle_seconds: component.idle_seconds,
                replicas,
                started: started(component.kind),
                view,
                idle_since_ms: self.idle_since_ms.get(&component.kind).copied(),
                now_ms: (now - epoch).as_millis() as u64,
            };
            let decision = decide(&facts);
            match decision.step {
                Step::Stay => {}
                Step::DecideAgain { at_ms } => {
                    turn.look_again(Duration::from_millis(at_ms.saturating_sub(facts.now_ms)));
                }
                // Who does not lead keeps its clocks, so that it can go on from there.
                Step::ScaleTo { .. } if role == Role::Standby => continue,
                Step::ScaleTo { replicas: to, inputs } => {
                    turn.moves.push(Move::scale(component, (replicas, to), inputs));
                    continue;
                }
            }
            match decision.idle_since_ms {
                Some(since) => drop(self.idle_since_ms.insert(component.kind, since)),
                None => drop(self.idle_since_ms.remove(&component.kind)),
            }
            if role == Role::Leader {
                let after = self.costs_after.get(&component.kind).copied();
                turn.order(component, view, after.map(|after| after.saturating_duration_since(now)));
            }
        }
        for moved in &turn.moves {
            if let Move::Order { kind, .. } = moved {
                self.costs_after.insert(*kind, now + COSTS_EVERY);
            }
        }
        turn
    }

    fn learn(&mut self, outcome: Outcome) {
        self.under_way = false;
        for (kind, replicas) in outcome.replicas {
            self.idle_since_ms.remove(&kind);
            for component in self.target.components.iter_mut().filter(|component| component.kind == kind) {
                component.replicas = Some(replicas);
            }
        }
        self.decisions.splice(0..0, outcome.decisions);
        self.decisions.truncate(DECISIONS);
        if outcome.failed {
            let pause = RETRY.0.saturating_mul(1 << self.failures.min(10)).min(RETRY.1);
            self.failures = self.failures.saturating_add(1);
            self.retry_at = Some(Instant::now() + pause.mul_f64(0.5 + crate::random::fraction() / 2.0));
        } else {
            (self.failures, self.retry_at) = (0, None);
        }
    }
}

impl Turn {
    fn look_again(&mut self, after: Duration) {
        self.again = Some(self.again.map_or(after, |again| again.min(after)));
    }

    /// Has the emptiest pods go first; `wait` is what is left of the time in which costs were written already.
    fn order(&mut self, component: &ScaledComponent, view: &QueueView, wait: Option<Duration>) {
        let QueueView::Read(reading) = view else { return };
        let Some(reading) = reading.component(component.kind) else { return };
        let pods = component.pods.iter().map(|pod| (pod.name.as_str(), pod.cost));
        let costs: Vec<_> =
            costs(reading, pods).into_iter().map(|(pod, cost)| (pod.to_owned(), cost)).collect();
        match wait.filter(|wait| !wait.is_zero()) {
            _ if costs.is_empty() => {}
            Some(wait) => self.look_again(wait),
            None => self.moves.push(Move::Order { kind: component.kind, costs }),
        }
    }
}

/// When to decide about whom without being told.
#[derive(Default)]
struct Clocks {
    queue: DelayQueue<Key>,
    keys: HashMap<Key, tokio_util::time::delay_queue::Key>,
}

impl Clocks {
    fn set(&mut self, key: &Key, after: Duration) {
        if let Some(at) = self.keys.get(key) {
            self.queue.reset(at, after);
        } else {
            let at = self.queue.insert(key.clone(), after);
            self.keys.insert(key.clone(), at);
        }
    }

    fn forget(&mut self, key: &Key) {
        if let Some(at) = self.keys.remove(key) {
            self.queue.remove(&at);
        }
    }

    /// The next key that is due; never, while nothing is set.
    async fn next(&mut self) -> Option<Key> {
        let Some(expired) = self.queue.next().await else { return std::future::pending().await };
        let key = expired.into_inner();
        self.keys.remove(&key);
        Some(key)
    }
}
