//! Reads the worker's inbox: audio, flushes, ends and cancellations from all gateways.
//!
//! Journey: `Redis → [inbox] → sessions → engine thread`. Many messages a read, in order. When the engine's commands
//! are full it waits, and the queue keeps the rest. Must not know: words, replies.

use std::sync::Arc;
use std::time::Duration;

use queue::session::ToWorker;

use crate::engine_thread::Command;
use crate::queue_health::BackOff;
use crate::sessions::Routed;
use crate::worker::Shared;

/// One blocking read.
const WAIT: Duration = Duration::from_secs(2);

/// Reads until the worker stops.
pub(crate) async fn read(shared: Arc<Shared>) {
    let mut back_off = BackOff::default();
    loop {
        let received = tokio::select! {
            received = shared.port.receive(shared.id(), WAIT) => received,
            () = shared.stopped.cancelled() => return,
        };
        shared.health.note(&received);
        match received {
            Ok(messages) => {
                back_off = BackOff::default();
                if !take(&shared, messages).await {
                    return;
                }
            }
            Err(error) => {
                tracing::debug!(reason = error.reason(), %error, "reading the inbox failed");
                back_off.wait(&shared.stopped).await;
            }
        }
    }
}

async fn take(shared: &Shared, messages: Vec<ToWorker>) -> bool {
    let mut asks = Vec::new();
    for message in messages {
        if let ToWorker::CancelBatch { job } = &message {
            let occupant = shared.jobs().of(job);
            if let Some(occupant) = occupant {
                tracing::info!(%job, "the caller is gone");
                shared.drop_job(occupant);
                crate::metrics::finished(Some("Cancelled"));
            }
            continue;
        }
        let Some(room) = shared.engine.reserve().await else { return false };
        // The send happens under the table's lock, so that it cannot overtake an opening.
        let mut sessions = shared.sessions();
        match sessions.route(message, shared.engine.now()) {
            Routed::Input(occupant, input) => room.send(Command::Input(occupant, input)),
            Routed::Ask(ask) => asks.push(ask),
            Routed::Cancelled(entry) => {
                drop(sessions);
                tracing::info!(session = %entry.claim.state.session.id, "the client is gone");
                shared.engine.close(entry.occupant);
                drop(entry);
                shared.tell_less();
                crate::metrics::finished(Some("Cancelled"));
            }
            Routed::Nothing => {}
        }
    }
    if !asks.is_empty() {
        // When it does not arrive, the next message asks again.
        let published = shared.port.publish(&asks).await;
        shared.health.note(&published);
    }
    true
}
