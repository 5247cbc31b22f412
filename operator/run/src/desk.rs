//! The [`Agenda`] with a clock and a lock: watches wake here, workers wait here for what is next.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::agenda::{Agenda, Next, Turn};
use crate::scale::Key;

/// Where wake-ups come in and work goes out.
#[derive(Default)]
pub(crate) struct Desk {
    agenda: Mutex<Agenda>,
    news: Notify,
}

impl Desk {
    /// Something about these resources changed.
    pub(crate) fn wake(&self, keys: impl IntoIterator<Item = Key>) {
        let now = Instant::now();
        let mut agenda = self.lock();
        let mut any = false;
        for key in keys {
            agenda.wake(&key, now);
            any = true;
        }
        count(&agenda);
        drop(agenda);
        if any {
            self.news.notify_one();
        }
    }

    /// Waits for the next resource to reconcile; give it back with [`Desk::done`].
    pub(crate) async fn next(&self) -> Key {
        loop {
            let news = self.news.notified();
            let next = {
                let mut agenda = self.lock();
                let next = agenda.next(Instant::now());
                count(&agenda);
                next
            };
            match next {
                Next::Work(key) => {
                    // There may be more; whoever waits looks for itself.
                    self.news.notify_one();
                    return key;
                }
                Next::Wait(None) => news.await,
                Next::Wait(Some(due)) => tokio::select! {
                    () = news => {}
                    () = sleep_until(due) => {}
                },
            }
        }
    }

    /// A worker gives a resource back.
    pub(crate) fn done(&self, key: &Key, turn: Turn) {
        let mut agenda = self.lock();
        agenda.done(key, turn, Instant::now());
        count(&agenda);
        drop(agenda);
        self.news.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Agenda> {
        self.agenda.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn count(agenda: &Agenda) {
    metrics::gauge!("operator_queue_length").set(agenda.ready() as f64);
    metrics::gauge!("operator_working").set(agenda.working() as f64);
}
