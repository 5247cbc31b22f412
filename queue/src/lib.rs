//! What passes between gateway and worker, and the Redis contract that carries it.
//!
//! Gateway and workers never call each other: they share this crate. In order of travel:
//! - [`ids`]: names of the parties and of the work;
//! - [`job`]: batch work; [`session`]: live work; both pure;
//! - [`port`]: the two sides of the contract as traits;
//! - [`verdict`]: what becomes of work at the moment it is claimed, pure;
//! - [`memory`]: both ports in one process, for tests;
//! - `testing` (feature): starts real `redis-server`s for tests.

pub mod ids;
pub mod job;
pub mod memory;
pub mod port;
pub mod session;
#[cfg(feature = "testing")]
pub mod testing;
pub mod verdict;
