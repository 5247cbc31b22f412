//! What goes wrong in a turn, and what follows of it: a word for the metrics, and when to try again.

use std::error::Error;
use std::time::Duration;

use operator_plan::ApplyFailure;

use crate::client::{NoAnswer, NotLeader};
use crate::fetch::FetchError;
use crate::report::ReportError;

/// Longest text of causes; they end in conditions and Events.
const MAX_CAUSES: usize = 512;
/// A server that asks for a longer pause than this is not believed.
const MAX_RETRY_AFTER: Duration = Duration::from_mins(2);

/// Why a turn failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReconcileError {
    /// What the resource refers to could not be read.
    #[error("failed to fetch what the resource refers to")]
    Fetch(#[source] FetchError),
    /// Something could not be applied; status says so too.
    #[error("failed to apply the plan")]
    Apply {
        /// What.
        #[source]
        failure: ApplyFailure,
        /// The apiserver asked for at least this wait.
        retry_after: Option<Duration>,
    },
    /// The status could not be written.
    #[error("failed to report")]
    Report(#[source] ReportError),
    /// The turn took too long.
    #[error("failed to finish the turn in {} s", seconds)]
    Timeout {
        /// How long it took at most.
        seconds: u64,
    },
    /// There is nothing more to do here: another replica leads, or the resource is gone.
    #[error("failed to go on: another replica leads, or the resource is gone")]
    Ended,
}

impl ReconcileError {
    /// A stable word for metrics and logs.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Fetch(error) => reason(&error.source),
            Self::Apply { failure, .. } => failure.reason(),
            Self::Report(error) => reason(&error.0),
            Self::Timeout { .. } => "TurnTimeout",
            Self::Ended => "Ended",
        }
    }

    /// The apiserver asked for at least this wait.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Fetch(error) => retry_after(&error.source),
            Self::Apply { retry_after, .. } => *retry_after,
            Self::Report(error) => retry_after(&error.0),
            Self::Timeout { .. } | Self::Ended => None,
        }
    }
}

/// A stable word for what the apiserver, or the way to it, said.
pub(crate) fn reason(error: &kube::Error) -> &'static str {
    match error {
        kube::Error::Api(status) => match status.code {
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "NotFound",
            409 => "Conflict",
            410 => "Expired",
            422 => "Invalid",
            429 => "TooManyRequests",
            500..=599 => "ServerError",
            _ => "ApiError",
        },
        kube::Error::Service(inner) if inner.downcast_ref::<NotLeader>().is_some() => "NotLeader",
        kube::Error::Service(inner) if inner.downcast_ref::<NoAnswer>().is_some() => "NoAnswer",
        kube::Error::SerdeError(_) => "UnreadableAnswer",
        _ => "ConnectionFailed",
    }
}

/// This replica may not write, or there is nothing any more to write to.
pub(crate) fn is_end(error: &kube::Error) -> bool {
    matches!(reason(error), "NotLeader" | "NotFound")
}

/// How long the apiserver wants to be left alone.
pub(crate) fn retry_after(error: &kube::Error) -> Option<Duration> {
    let kube::Error::Api(status) = error else { return None };
    let seconds = status.details.as_ref()?.retry_after_seconds;
    (seconds > 0).then(|| Duration::from_secs(u64::from(seconds)).min(MAX_RETRY_AFTER))
}

/// An error with all its causes, in one line.
pub(crate) fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Many errors repeat their source in their own text.
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    match text.char_indices().nth(MAX_CAUSES) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
