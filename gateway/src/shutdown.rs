//! When this program is asked to stop: SIGTERM from whoever runs it, or Ctrl-C.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal as listen};

/// Returns at the first SIGTERM or SIGINT. A signal that cannot be listened for is never seen.
pub async fn signal() {
    let wait = |kind: SignalKind| async move {
        match listen(kind) {
            Ok(mut signal) => drop(signal.recv().await),
            Err(e) => {
                tracing::warn!(error = %e, "failed to listen for a signal");
                std::future::pending::<()>().await;
            }
        }
    };
    tokio::select! {
        () = wait(SignalKind::terminate()) => {}
        () = wait(SignalKind::interrupt()) => {}
    }
}

/// Returns so long after the first signal, or at once at the second. A cluster tells a program to stop and the load
/// balancers to leave it out at the same time: what they send until they have heard it is still to be answered.
pub async fn signal_and(delay: Duration) {
    signal().await;
    tokio::select! {
        () = tokio::time::sleep(delay) => {}
        () = signal() => {}
    }
}
