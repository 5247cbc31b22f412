//! The gateway: client → \[edge → admit → dispatch\] → Redis → \[relay → edge\] → client.
//!
//! In order of travel:
//! - [`runtime`]: the threads;
//! - [`serve`]: one port for HTTP/1, HTTP/2, WebSocket and gRPC; [`config`]: what it is started with;
//! - [`edge`]: protocol ↔ request and reply, nothing else;
//! - [`request`]: the one internal request behind all edges; [`audio`]: any audio to 16 kHz mono;
//! - [`admit`]: may it enter; [`dispatch`]: accepted work onto the queue;
//! - [`relay`]: what workers answer, to the waiting callers;
//! - [`session`]: the pure state of one live session; [`live`]: the task that runs one;
//! - [`observe`]: what the gateway knows of queue and workers; [`license`]: what it may do;
//! - [`metric`]: what is measured, in words;
//! - [`error`]: the one table from failure to HTTP, gRPC and WebSocket codes.
//!
//! Invariant: the gateway never calls a worker; the `queue` crate is all they share.

pub mod admit;
pub mod audio;
pub mod config;
pub mod dispatch;
pub mod edge;
pub mod error;
pub mod license;
pub mod live;
pub mod metric;
pub mod observe;
pub mod relay;
pub mod request;
pub mod runtime;
pub mod serve;
pub mod session;
pub mod shutdown;

pub use config::Config;
pub use error::Error;
pub use runtime::runtime;
pub use serve::Gateway;
