//! The queues of all deployments, as they were last seen.
//!
//! In: [`QueueTarget`]s. Out: [`QueueView`]s, and the keys of deployments whose view changed. Each deployment has a task
//! of its own (`watcher`) that is woken by its Redis; whoever wants a number of this very moment asks with `read`.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use operator_plan::scale::{News, news};
use operator_plan::{ComponentKind, QueueView, SecretText};
use queue::observe::ObserverPort as _;
use queue::redis::RedisObserver;
use tokio::sync::{Semaphore, broadcast, mpsc, watch};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::{Key, reading, watcher};

/// Changed keys that may wait for the reconciler; one more of a key that waits already says nothing new.
const CHANGES: usize = 4_096;
/// Looks that the scaler may not have heard of yet; when there are more, it decides about everything anew.
const LOOKS: usize = 1_024;
/// Connections to Redis that are opened at the same time.
const DIALS: usize = 16;
/// A view of this age is as good as a new one.
const FRESH: Duration = Duration::from_millis(250);
/// Longest wait for a new one.
const DEADLINE: Duration = Duration::from_millis(500);
/// So many questions in a row without an answer make a queue unavailable: one alone may be a moment of a busy machine, and
/// a status must not follow every moment.
const MISSES: u32 = 2;
/// Numbers that move are told this often.
pub(super) const TELL_EVERY: Duration = Duration::from_secs(5);

/// Where a deployment's queue is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct QueueTarget {
    /// `redis://…`, with the password.
    pub(crate) url: SecretText,
    /// Authorities to trust instead of the system's, as PEM.
    pub(crate) root_certificates: Option<SecretText>,
    /// `namespace/name`, as its keys have it.
    pub(crate) scope: String,
    /// Components that have a queue there: ASR, TTS.
    pub(crate) components: Vec<ComponentKind>,
    /// False while it is known that Redis does not run (no ready pod of its StatefulSet): then nothing is dialled, and
    /// the first `true` after that is dialled at once. An external Redis is always up.
    pub(crate) up: bool,
    /// Pods that have started, by component: those of a component of whom nobody is registered hold what nobody knows.
    pub(crate) started: BTreeMap<ComponentKind, u32>,
}

/// The queues of all deployments. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Queues {
    shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    all: Mutex<HashMap<Key, Arc<Watched>>>,
    changed: mpsc::Sender<Key>,
    looked: broadcast::Sender<Key>,
    pub(super) dials: Semaphore,
}

/// How soon changes of a queue must be seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Pace {
    /// At once: a component sleeps, and its first work is to wake it.
    Asleep,
    /// After a while: autoscalers ask on their own.
    #[default]
    Awake,
}

/// One deployment's queue.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) key: Key,
    pub(super) target: QueueTarget,
    pub(super) pace: watch::Sender<Pace>,
    state: Mutex<State>,
    /// Held by whoever asks Redis on demand: the others take that answer.
    asking: tokio::sync::Mutex<()>,
    stop: CancellationToken,
}

#[derive(Debug, Default)]
struct State {
    view: QueueView,
    at: Option<Instant>,
    /// The view as it was last told, and when.
    told: (QueueView, Option<Instant>),
    /// Set while Redis is connected.
    observer: Option<Arc<RedisObserver>>,
    /// Questions in a row that nobody answered.
    missed: u32,
    /// Pods that have started, by component.
    started: BTreeMap<ComponentKind, u32>,
}

impl Queues {
    /// None yet; the receiver gives the keys whose view changed in a way that status shows.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Key>) {
        let (changed, told) = mpsc::channel(CHANGES);
        let (looked, _) = broadcast::channel(LOOKS);
        let shared = Shared { all: Mutex::default(), changed, looked, dials: Semaphore::new(DIALS) };
        (Self { shared: Arc::new(shared) }, told)
    }

    /// Tells where a deployment's queue is; `None` when the deployment is gone. The same again changes nothing.
    pub(crate) fn set(&self, key: &Key, mut target: Option<QueueTarget>) {
        // Pods come and go; the queue stays where it is.
        let started = target.as_mut().map(|target| std::mem::take(&mut target.started)).unwrap_or_default();
        let mut all = self.shared.lock();
        let before = all.get(key);
        if before.map(|watched| &watched.target) == target.as_ref() {
            if let Some(before) = before {
                before.lock().started = started;
            }
            return;
        }
        if let Some(before) = before {
            before.stop.cancel();
        }
        let told = before.map(|watched| watched.lock().told.clone()).unwrap_or_default();
        let pace = before.map(|watched| *watched.pace.borrow()).unwrap_or_default();
        let Some(target) = target else {
            all.remove(key);
            return;
        };
        let watched = Arc::new(Watched::new(key, target, told));
        watched.pace.send_replace(pace);
        watched.lock().started = started;
        all.insert(key.clone(), watched.clone());
        drop(all);
        if watched.target.up {
            let (shared, stop) = (self.shared.clone(), watched.stop.clone());
            tokio::spawn(async move { stop.run_until_cancelled(watcher::watch(&shared, &watched)).await });
        } else {
            let message = "Redis has no ready pod yet".to_owned();
            self.shared.note(&watched, QueueView::Unavailable { reason: "RedisNotReady", message });
        }
    }

    /// Tells how soon changes of a deployment's queue must be seen, from now on.
    pub(super) fn keep_pace(&self, key: &Key, pace: Pace) {
        if let Some(watched) = self.shared.lock().get(key) {
            watched.pace.send_replace(pace);
        }
    }

    /// The queue now, at most 250 ms old; within 500 ms. One question at a time is on its way for each deployment, and
    /// while Redis is not connected nothing is waited for: the first look is told.
    pub(crate) async fn read(&self, key: &Key) -> QueueView {
        let Some(watched) = self.shared.lock().get(key).cloned() else { return QueueView::NotRead };
        let deadline = Instant::now() + DEADLINE;
        let Ok(_asking) = timeout_at(deadline, watched.asking.lock()).await else { return too_slow() };
        let (view, fresh, observer) = {
            let state = watched.lock();
            (state.view.clone(), state.at.is_some_and(|at| at.elapsed() < FRESH), state.observer.clone())
        };
        let Some(observer) = observer.filter(|_| !fresh) else { return view };
        let view = match timeout_at(deadline, observer.observe()).await {
            Ok(Ok(sight)) => reading::read(sight),
            Ok(Err(error)) => reading::unavailable(&error),
            Err(_) => too_slow(),
        };
        // Whoever asks is told at once; all others only when it lasts.
        if watched.lasts(&view) {
            self.shared.publish(&watched, view.clone());
        }
        view
    }

    /// The queue as it was last seen.
    pub(crate) fn last(&self, key: &Key) -> QueueView {
        self.shared.lock().get(key).map(|watched| watched.lock().view.clone()).unwrap_or_default()
    }

    /// Pods of a component that have started.
    pub(super) fn started(&self, key: &Key, kind: ComponentKind) -> u32 {
        let all = self.shared.lock();
        all.get(key).and_then(|watched| watched.lock().started.get(&kind).copied()).unwrap_or(0)
    }

    /// Deployments of a namespace and the components that have a queue.
    pub(super) fn of_namespace(&self, namespace: &str) -> Vec<(Key, Vec<ComponentKind>)> {
        let all = self.shared.lock();
        let of = all.iter().filter(|(key, _)| key.namespace == namespace);
        of.map(|(key, watched)| (key.clone(), watched.target.components.clone())).collect()
    }

    /// The key of every look from now on.
    pub(super) fn looks(&self) -> broadcast::Receiver<Key> {
        self.shared.looked.subscribe()
    }

    /// Has the scaler decide about a deployment.
    pub(super) fn poke(&self, key: &Key) {
        // Nobody listens while the scaler does not run.
        let _ = self.shared.looked.send(key.clone());
    }

    /// Has the reconciler look at a deployment.
    pub(super) fn tell(&self, key: &Key) {
        // A full channel means that the reconciler has enough to do; this key is told with its next change.
        let _ = self.shared.changed.try_send(key.clone());
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Arc<Watched>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a look known to those whom it concerns.
    pub(super) fn publish(&self, watched: &Watched, view: QueueView) {
        let now = Instant::now();
        let tell = {
            let mut state = watched.lock();
            state.view = view;
            state.at = Some(now);
            let (told, at) = &state.told;
            let tell = match news(told, &state.view) {
                News::None => false,
                News::Later => at.is_none_or(|at| now - at >= TELL_EVERY),
                News::Now => true,
            };
            if tell {
                state.told = (state.view.clone(), Some(now));
            }
            tell
        };
        // Nobody listens while the scaler does not run; a full channel makes it decide about everything.
        let _ = self.looked.send(watched.key.clone());
        if tell {
            let _ = self.changed.try_send(watched.key.clone());
        }
    }

    /// The same for what the reconciler said itself: it reads that in the same turn, and needs no other turn for it.
    fn note(&self, watched: &Watched, view: QueueView) {
        let now = Instant::now();
        let mut state = watched.lock();
        state.told = (view.clone(), Some(now));
        (state.view, state.at) = (view, Some(now));
        drop(state);
        let _ = self.looked.send(watched.key.clone());
    }
}

impl Watched {
    pub(super) fn new(key: &Key, target: QueueTarget, told: (QueueView, Option<Instant>)) -> Self {
        let state = State { told, ..State::default() };
        Self {
            key: key.clone(),
            target,
            pace: watch::Sender::default(),
            state: Mutex::new(state),
            asking: tokio::sync::Mutex::default(),
            stop: CancellationToken::new(),
        }
    }

    /// Counts a question; false for the first ones that get no answer.
    fn lasts(&self, view: &QueueView) -> bool {
        let mut state = self.lock();
        state.missed = if matches!(view, QueueView::Unavailable { .. }) { state.missed + 1 } else { 0 };
        state.missed == 0 || state.missed >= MISSES
    }

    /// Redis is connected, or no longer.
    pub(super) fn connected(&self, observer: Option<Arc<RedisObserver>>) {
        self.lock().observer = observer;
    }

    /// When what was not told yet is due.
    pub(super) fn tell_at(&self) -> Option<Instant> {
        let state = self.lock();
        let (told, at) = &state.told;
        (news(told, &state.view) == News::Later).then(|| at.map(|at| at + TELL_EVERY)).flatten()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn too_slow() -> QueueView {
    let message = format!("Redis did not answer within {} ms", DEADLINE.as_millis());
    QueueView::Unavailable { reason: "QueueTooSlow", message }
}
