//! The queues of all deployments, as they were last seen.
//!
//! In: [`QueueTarget`]s. Out: [`QueueView`]s, and the keys of deployments whose view changed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use operator_plan::{ComponentKind, QueueView, SecretText};
use tokio::sync::mpsc;

use super::Key;

/// Changed keys that may wait for the reconciler; one more of a key that waits already says nothing new.
const CHANGES: usize = 4_096;

/// Where a deployment's queue is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct QueueTarget {
    /// `redis://…`, with the password.
    pub(crate) url: SecretText,
    /// `namespace/name`, as its keys have it.
    pub(crate) scope: String,
    /// Components that have a queue there: ASR, TTS.
    pub(crate) components: Vec<ComponentKind>,
    /// False while it is known that Redis does not run (no ready pod of its StatefulSet): then nothing is dialled, and
    /// the first `true` after that is dialled at once. An external Redis is always up.
    pub(crate) up: bool,
}

/// The queues of all deployments. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Queues {
    shared: Arc<Mutex<HashMap<Key, Watched>>>,
    changed: mpsc::Sender<Key>,
}

#[derive(Debug)]
struct Watched {
    target: QueueTarget,
    view: QueueView,
}

impl Queues {
    /// None yet; the receiver gives the keys whose view changed in a way that status shows.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Key>) {
        let (changed, changes) = mpsc::channel(CHANGES);
        (Self { shared: Arc::default(), changed }, changes)
    }

    /// Tells where a deployment's queue is; `None` when the deployment is gone. The same again changes nothing.
    pub(crate) fn set(&self, key: &Key, target: Option<QueueTarget>) {
        let mut all = self.lock();
        let Some(target) = target else {
            all.remove(key);
            return;
        };
        match all.get_mut(key) {
            Some(watched) if watched.target == target => {}
            Some(watched) => watched.target = target,
            None => {
                all.insert(key.clone(), Watched { target, view: QueueView::NotRead });
                // A full channel means that the reconciler has enough to do, and will look at this one by itself.
                let _ = self.changed.try_send(key.clone());
            }
        }
    }

    /// The queue now, at most 250 ms old; within 500 ms.
    #[expect(clippy::unused_async, reason = "readings come with the connection")]
    pub(crate) async fn read(&self, key: &Key) -> QueueView {
        self.last(key)
    }

    /// The queue as it was last seen.
    pub(crate) fn last(&self, key: &Key) -> QueueView {
        self.lock().get(key).map(|watched| watched.view.clone()).unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Watched>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
