//! The contract of the queue, checked on the memory queue and on a real Redis with the same cases, and what only
//! Redis can do wrong.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod batch;
mod faults;
mod live;
mod model;
mod observe;
mod registry;
mod rig;
mod secure;
mod takeover;
