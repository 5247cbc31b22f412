//! One program of a local run: what to start, with what, and how to see that it is ready. Data only.

use std::collections::BTreeMap;
use std::time::Duration;

/// A program that `up` keeps running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// What people call it: `redis`, `license-proxy`, `asr-0`, `gateway`.
    pub name: String,
    /// The executable, such as `smallest-worker`: looked for beside `smallest`, then in `PATH`.
    pub command: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its environment, added to the supervisor's own.
    pub env: BTreeMap<String, String>,
    /// All ports that it listens on.
    pub ports: Vec<u16>,
    /// How to see that it is ready.
    pub probe: Probe,
    /// How long it may finish its work after SIGTERM before it is killed.
    pub drain: Duration,
}

/// How to see that a program is ready. All probes go to the loopback address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// Redis answers PING (or asks for a password: then it is up as well).
    Redis {
        /// Its port.
        port: u16,
    },
    /// GET answers with a status of 200 to 299.
    Http {
        /// Its port.
        port: u16,
        /// The path, such as `/health`.
        path: String,
    },
}
