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

#[cfg(test)]
mod tests {
    use super::*;

    fn terminate() {
        let pid = std::process::id().to_string();
        let sent = std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        assert!(sent.success());
    }

    /// Signals go to the whole process: one test for both, and a listener that keeps it alive throughout.
    #[tokio::test]
    async fn the_delay_follows_the_first_signal_and_ends_with_the_second() {
        let mut heard = listen(SignalKind::terminate()).unwrap();
        let patience = Duration::from_secs(20);
        let short = tokio::spawn(signal_and(Duration::ZERO));
        let long = tokio::spawn(signal_and(Duration::from_hours(1)));
        // Both listen once they have run up to their first wait.
        tokio::task::yield_now().await;
        terminate();
        tokio::time::timeout(patience, heard.recv()).await.unwrap();
        tokio::time::timeout(patience, short).await.unwrap().unwrap();
        assert!(!long.is_finished(), "it takes work for an hour");
        let second = async {
            while !long.is_finished() {
                terminate();
                heard.recv().await;
            }
        };
        tokio::time::timeout(patience, second).await.unwrap();
    }
}
