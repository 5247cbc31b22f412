//! The built `smallest`: as the launcher of shells that play programs, and as a client of a service that is played.

#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod commands;
mod fake;
mod program;
mod supervise;
mod terminal;
mod transcribe;
