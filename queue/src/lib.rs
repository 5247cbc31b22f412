//! What passes between gateway and worker, and the Redis contract that carries it.
//!
//! Gateway and workers never call each other: they share this crate. In order of travel:
//! - [`ids`]: names of the parties and of the work;
//! - [`job`]: batch work; [`session`]: live work; both pure;
//! - [`port`]: the two sides of the contract as traits; [`registry`]: how both register themselves, pure;
//! - [`observe`]: the side of those who only look: depth, workers, gateways;
//! - [`verdict`]: what becomes of work at the moment it is claimed, pure;
//! - [`keys`] and [`codec`]: how it looks in Redis, pure;
//! - [`memory`]: both ports in one process, for tests;
//! - `redis` (feature, on by default): both ports on Redis;
//! - `args` (feature): flags that say where Redis is;
//! - `testing` (feature): starts real `redis-server`s for tests.

#[cfg(feature = "args")]
pub mod args;
pub mod codec;
pub mod ids;
pub mod job;
pub mod keys;
pub mod memory;
pub mod observe;
pub mod port;
#[cfg(feature = "redis")]
pub mod redis;
pub mod registry;
pub mod session;
#[cfg(feature = "testing")]
pub mod testing;
pub mod verdict;
