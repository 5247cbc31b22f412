//! Supervision with real processes: the built `smallest` as the launcher, shells as programs.

#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod supervise;
