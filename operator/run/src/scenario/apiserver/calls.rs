//! What the apiserver in memory notes of a call, and what can go wrong with one.

use http::Response;
use serde_json::json;

use super::AnyBody;
use super::wire::{refuse, respond, status};

/// One call that came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::scenario) struct Call {
    pub(in crate::scenario) method: String,
    pub(in crate::scenario) path: String,
    pub(in crate::scenario) is_watch: bool,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy)]
pub(in crate::scenario) enum Wrong {
    /// This code instead of an answer.
    Code(u16),
    /// 429, with a wait of so many seconds.
    TooMany(u32),
    /// The namespace is going away.
    Terminating,
    /// No more objects of the kind may be made.
    Quota,
    /// No answer, ever.
    Silence,
    /// It is done, and no answer comes.
    Unheard,
    /// Somebody writes the object a moment before.
    Overtaken,
}

impl Wrong {
    /// What is said instead of doing it.
    pub(super) fn answer(self) -> Response<AnyBody> {
        match self {
            Self::Code(code) => refuse(code, "injected"),
            Self::Terminating => {
                let message = "unable to create new content in namespace ns because it is being terminated";
                respond(403, &status(403, "Forbidden", message))
            }
            Self::Quota => respond(403, &status(403, "Forbidden", "exceeded quota: of-ns")),
            Self::TooMany(seconds) => {
                let mut body = status(429, "TooManyRequests", "injected");
                body["details"] = json!({ "retryAfterSeconds": seconds });
                respond(429, &body)
            }
            Self::Silence | Self::Unheard | Self::Overtaken => unreachable!("nothing is said instead"),
        }
    }
}

/// One of these, for so many calls.
pub(super) struct Fault {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    pub(super) times: usize,
    pub(super) wrong: Wrong,
}
