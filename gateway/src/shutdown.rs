//! When this program is asked to stop: SIGTERM from whoever runs it, or Ctrl-C.

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
