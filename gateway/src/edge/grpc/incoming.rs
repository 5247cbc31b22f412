//! The message of a `Recognize` call on its way in: its memory, its pace, and what is wrong with it.
//!
//! tonic holds a whole message before a handler sees it, and answers a broken one itself, with a code and no details.
//! So the body is watched in front of tonic: every frame is taken out of the memory of all requests, a pause that is
//! too long ends it, and a message that never became one is answered from the table of errors.

use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use futures::{StreamExt as _, stream};
use tonic::{Code, Status};

use crate::audio::pool::Lease;
use crate::error::Error;
use crate::serve::Gateway;

/// One message that comes in; an extension of its request.
#[derive(Clone)]
pub(super) struct Incoming {
    state: Arc<Mutex<State>>,
}

enum State {
    /// It comes, and holds this memory.
    Coming(Lease),
    /// It was given up.
    Failed(Error),
    /// The handler has it.
    Arrived,
}

impl Incoming {
    /// Watches a body.
    pub(super) fn watch(gateway: &Gateway, body: Body) -> (Self, Body) {
        let incoming = Self { state: Arc::new(Mutex::new(State::Coming(gateway.budget.lease()))) };
        let idle = gateway.config.limits.idle_timeout_ms;
        let frames = (body.into_data_stream(), incoming.clone());
        let watched = stream::unfold(frames, move |(mut frames, incoming)| async move {
            let frame = match tokio::time::timeout(idle, frames.next()).await {
                Ok(None) => return None,
                Ok(Some(Err(_))) => incoming.fail(Error::ClientGone),
                Ok(Some(Ok(bytes))) => incoming.grow(bytes.len() as u64).map(|()| bytes),
                Err(_) => incoming.fail(Error::RequestTimeout(idle)),
            };
            Some((frame, (frames, incoming)))
        });
        (incoming, Body::from_stream(watched))
    }

    /// The message is there: its memory goes to the handler.
    pub(super) fn arrive(&self) -> Option<Lease> {
        match std::mem::replace(&mut *self.state(), State::Arrived) {
            State::Coming(lease) => Some(lease),
            State::Failed(_) | State::Arrived => None,
        }
    }

    /// Why the handler never saw the message, by what was found here and by what tonic said of it; `None` when it did,
    /// or when tonic's own answer is the right one.
    pub(super) fn failure(&self, told: Option<&Status>, limit_bytes: u64) -> Option<Error> {
        match std::mem::replace(&mut *self.state(), State::Arrived) {
            State::Failed(error) => Some(error),
            State::Coming(_) => told.and_then(|status| malformed(status, limit_bytes)),
            State::Arrived => None,
        }
    }

    fn grow(&self, bytes: u64) -> Result<(), Ended> {
        let grown = match &mut *self.state() {
            State::Coming(lease) => lease.grow(bytes),
            State::Failed(_) | State::Arrived => Ok(()),
        };
        grown.or_else(|error| self.fail(error))
    }

    fn fail<T>(&self, error: Error) -> Result<T, Ended> {
        *self.state() = State::Failed(error);
        Err(Ended)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is wrong with a message that tonic could not read; `None` when the message is not to blame.
pub(super) fn malformed(told: &Status, limit_bytes: u64) -> Option<Error> {
    match told.code() {
        Code::OutOfRange => Some(Error::BodyTooLarge { limit_bytes }),
        // A transport that broke says so in its source; what is left are bytes that are no message.
        Code::Internal if std::error::Error::source(told).is_none() => {
            Some(Error::InvalidMessage(told.message().to_owned()))
        }
        _ => None,
    }
}

/// The body ends early; why stands beside it.
#[derive(Debug, thiserror::Error)]
#[error("the message was given up")]
struct Ended;
