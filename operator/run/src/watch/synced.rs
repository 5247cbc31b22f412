//! Which watches have listed everything once: before that nothing is decided, and the program is not ready.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

/// Resources, and whether each was listed. Clones share it.
#[derive(Clone)]
pub(crate) struct Synced(Arc<watch::Sender<BTreeMap<&'static str, bool>>>);

impl Default for Synced {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(BTreeMap::new())))
    }
}

impl Synced {
    /// There is a watch of this resource.
    pub(super) fn expect(&self, resource: &'static str) {
        self.0.send_modify(|all| {
            all.insert(resource, false);
        });
    }

    /// Its first list is in.
    pub(super) fn done(&self, resource: &'static str) {
        self.0.send_if_modified(|all| all.insert(resource, true) == Some(false));
    }

    /// Resources that were never listed.
    pub(crate) fn missing(&self) -> Vec<&'static str> {
        let all = self.0.borrow();
        all.iter().filter(|(_, listed)| !**listed).map(|(resource, _)| *resource).collect()
    }

    /// Waits until all were.
    pub(crate) async fn all(&self) {
        let mut receiver = self.0.subscribe();
        // The sender lives as long as `self`.
        let _ = receiver.wait_for(|all| all.values().all(|listed| *listed)).await;
    }
}
