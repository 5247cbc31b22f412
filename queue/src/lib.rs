//! What passes between gateway and worker, and the Redis contract that carries it.
//!
//! Gateway and workers never call each other: they share this crate. In order of travel:
//! - [`ids`]: names of the parties and of the work;
//! - [`job`]: batch work; [`session`]: live work; both pure;
//! - [`port`]: the two sides of the contract as traits.

pub mod ids;
pub mod job;
pub mod port;
pub mod session;
