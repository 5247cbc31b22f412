//! The contract of the queue, checked on the memory queue, on a real Redis and on a real Redis Cluster with the same cases, and what only
//! Redis can do wrong.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod batch;
mod cluster;
mod faults;
mod inbox;
mod live;
mod model;
mod observe;
mod registry;
mod rig;
mod secure;
mod takeover;
