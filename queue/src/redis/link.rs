//! The way to Redis: time-outs, retries, back-off. It knows no message, and one key, by which its [`node`](super::node)
//! is found.
//!
//! Commands share one multiplexed connection that reconnects by itself. A blocking read occupies a connection,
//! so each takes one of its own from a small pool; a read that is dropped or fails drops its connection too,
//! and Redis forgets the read with it. Whoever reads all the time keeps several of them waiting ([`reads`](super::reads)).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ::redis::aio::ConnectionManager;
use ::redis::{Cmd, FromRedisValue, Pipeline, RedisError, ScriptInvocation, Value};
use tokio::time::Instant;

use super::node::{Node, Seed};
use super::reads::Reads;
use crate::port::QueueError;

/// Bounds on talking to Redis; what follows from an outage is decided with these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Longest wait for a connection, TLS and log-in included.
    pub connect: Duration,
    /// Longest wait for an answer (beyond the wait that a blocking read asked for).
    pub response: Duration,
    /// How long a command is tried again while the connection is down, before its error is given.
    pub retry_for: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(2),
            response: Duration::from_secs(2),
            retry_for: Duration::from_millis(1_500),
        }
    }
}

/// Blocking-read connections that are kept for the next read.
const POOLED: usize = 8;
/// Waits between attempts to reconnect grow from the first to the last of these, each with jitter.
pub(super) const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// What Redis said or failed to say, with the address and without user and password.
#[derive(Debug, thiserror::Error)]
#[error("redis at {address}: {error}{}", advice(error))]
pub struct RedisFailure {
    address: String,
    error: RedisError,
}

/// What to do about a certificate that is not trusted; nothing where the error says enough.
fn advice(error: &RedisError) -> &'static str {
    let said = error.to_string();
    let all = [
        ("UnknownIssuer", UNTRUSTED),
        ("BadSignature", UNTRUSTED),
        ("not valid for name", "; use a host name that its certificate has"),
        ("certificate expired", "; its certificate must be renewed"),
    ];
    all.into_iter().find(|(words, _)| said.contains(words)).map_or("", |(_, advice)| advice)
}

/// Both ways of naming an authority: for programs, and in a resource.
const UNTRUSTED: &str = "; no trusted authority has signed its certificate: name the one that did in REDIS_CA_FILE \
    (in a resource redis.external.tls.caSecretRef)";

/// The way of one queue.
pub(super) struct Link {
    seed: Seed,
    node: Mutex<Arc<Node>>,
    /// Held by whoever looks for the node, so that one looks for all.
    looking: tokio::sync::Mutex<()>,
    timeouts: Timeouts,
    address: String,
    outage: Mutex<Outage>,
}

/// Failed attempts in a row to open a connection for reads, and when to try again.
#[derive(Debug, Default)]
struct Outage {
    failures: u32,
    next_try: Option<Instant>,
}

/// What is sent on the command connection.
#[derive(Clone, Copy)]
enum Call<'a> {
    Command(&'a Cmd),
    Pipeline(&'a Pipeline),
    Script(&'a ScriptInvocation<'a>),
}

impl Call<'_> {
    async fn run<T: FromRedisValue>(self, mut connection: ConnectionManager) -> Result<T, RedisError> {
        match self {
            Self::Command(command) => command.query_async(&mut connection).await,
            Self::Pipeline(pipeline) => pipeline.query_async(&mut connection).await,
            Self::Script(script) => script.invoke_async(&mut connection).await,
        }
    }
}

impl Link {
    /// Finds the server that has `key`, opens the command connection and sees that Redis answers. Beside the address
    /// stand the authorities to trust, where they are not the system's.
    pub(super) async fn open(
        at: (&str, Option<&str>),
        key: String,
        timeouts: Timeouts,
    ) -> Result<Self, QueueError> {
        // rustls wants to be told which cryptography to use. An error means that the program has chosen already.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let unreadable = |error| unavailable("read REDIS_URL", "the address given", error);
        let seed = Seed::parse(at, key, timeouts).map_err(unreadable)?;
        let address = seed.address();
        let failed = |error| unavailable("connect", &address, error);
        let give_up = Instant::now() + timeouts.retry_for;
        let mut failures = 0;
        let node = loop {
            failures += 1;
            let next_try = Instant::now() + backoff(failures);
            match seed.find(None).await {
                Ok(Some(node)) => break node,
                Err(error) if passes_by_itself(&error) && next_try < give_up => {
                    tokio::time::sleep_until(next_try).await;
                }
                Ok(None) => return Err(failed(too_slow())),
                Err(error) => return Err(failed(error)),
            }
        };
        let (node, looking, outage) =
            (Mutex::new(Arc::new(node)), tokio::sync::Mutex::default(), Mutex::default());
        Ok(Self { seed, node, looking, timeouts, address, outage })
    }

    /// Runs a command; it may run twice when the connection breaks, so it must be safe to repeat.
    pub(super) async fn command<T: FromRedisValue>(
        &self,
        action: &'static str,
        command: &Cmd,
    ) -> Result<T, QueueError> {
        self.retried(action, Call::Command(command)).await
    }

    /// Runs commands in one round trip; they may run twice, like [`Link::command`].
    pub(super) async fn pipeline<T: FromRedisValue>(
        &self,
        action: &'static str,
        pipeline: &Pipeline,
    ) -> Result<T, QueueError> {
        self.retried(action, Call::Pipeline(pipeline)).await
    }

    /// Runs a script; it may run twice, like [`Link::command`].
    pub(super) async fn script<T: FromRedisValue>(
        &self,
        action: &'static str,
        script: &ScriptInvocation<'_>,
    ) -> Result<T, QueueError> {
        self.retried(action, Call::Script(script)).await
    }

    /// A blocking read that is sent with other commands before it, in one round trip: the last one of
    /// `commands` may block for `block`. Not retried: whoever reads decides what comes next.
    pub(super) async fn read(&self, commands: &Pipeline, block: Duration) -> Result<Vec<Value>, RedisError> {
        let node = self.node();
        let read = async {
            let mut connection = node.reader().await?;
            let answer = commands.query_async(&mut connection);
            let answer = tokio::time::timeout(block + self.timeouts.response, answer).await;
            answer.unwrap_or_else(|_| Err(too_slow())).map(|values| (values, connection))
        };
        match read.await {
            Ok((values, connection)) => {
                self.recovered();
                let mut pool = node.pool();
                if pool.len() < POOLED {
                    pool.push(connection);
                }
                Ok(values)
            }
            Err(error) => {
                self.failed_at(&node, &error).await;
                Err(error)
            }
        }
    }

    /// A connection for reads that wait in Redis one behind the other, each for at most `block`.
    pub(super) async fn reads(&self, block: Duration) -> Result<Reads, RedisError> {
        let node = self.node();
        match node.reader().await {
            Ok(connection) => Ok(Reads::new(node, connection, block + self.timeouts.response)),
            Err(error) => {
                self.failed_at(&node, &error).await;
                Err(error)
            }
        }
    }

    /// What came of a read: whether Redis answers, and whether it is the right one.
    pub(super) async fn heed<T: Sync>(&self, node: &Arc<Node>, answer: &Result<T, RedisError>) {
        match answer {
            Ok(_) => self.recovered(),
            Err(error) => self.failed_at(node, error).await,
        }
    }

    async fn failed_at(&self, node: &Arc<Node>, error: &RedisError) {
        if error.is_io_error() || error.is_unrecoverable_error() {
            // The others in the pool broke with it.
            node.pool().clear();
        }
        self.look_again(node, error).await;
    }

    /// After a failed read: waits until the next attempt is due and says whether there is time for one before
    /// `deadline`. Without time it waits until `deadline`, so that a caller's loop never spins on a dead Redis.
    pub(super) async fn wait_for_next_try(&self, deadline: Instant) -> bool {
        let next_try = self.failed();
        tokio::time::sleep_until(next_try.min(deadline)).await;
        next_try < deadline
    }

    /// Puts the address to an error and says what was tried.
    pub(super) fn failure(&self, action: &'static str, error: RedisError) -> QueueError {
        unavailable(action, &self.address, error)
    }

    async fn retried<T: FromRedisValue>(
        &self,
        action: &'static str,
        call: Call<'_>,
    ) -> Result<T, QueueError> {
        let give_up = Instant::now() + self.timeouts.retry_for;
        let mut failures = 0;
        loop {
            // The manager's own time-out is for the answer only; it waits for a reconnection before.
            let limit = self.timeouts.connect + self.timeouts.response;
            let node = self.node();
            let attempted = tokio::time::timeout(limit, call.run(node.commands.clone())).await;
            let error = match attempted.unwrap_or_else(|_| Err(too_slow())) {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            failures += 1;
            let next_try = Instant::now() + backoff(failures);
            let moved = self.look_again(&node, &error).await;
            if !(moved || passes_by_itself(&error)) || next_try >= give_up {
                return Err(self.failure(action, error));
            }
            if moved {
                continue;
            }
            tokio::time::sleep_until(next_try).await;
        }
    }

    fn node(&self) -> Arc<Node> {
        self.lock_node().clone()
    }

    fn lock_node(&self) -> std::sync::MutexGuard<'_, Arc<Node>> {
        self.node.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// After an error of a node: when it may be the wrong one by now, looks which one is right; true when it is another.
    async fn look_again(&self, node: &Arc<Node>, error: &RedisError) -> bool {
        let redirected = says(error, &["MOVED"]);
        let lost = error.is_io_error() && self.seed.leads_elsewhere(node);
        if !(redirected || lost) {
            return false;
        }
        let _one = self.looking.lock().await;
        if !Arc::ptr_eq(&self.node(), node) {
            // Somebody else found it meanwhile.
            return true;
        }
        match self.seed.find(Some(node)).await {
            Ok(Some(found)) => {
                *self.lock_node() = Arc::new(found);
                true
            }
            Ok(None) => false,
            Err(error) => {
                tracing::debug!(%error, address = self.address, "failed to find the node of the cluster");
                false
            }
        }
    }

    fn recovered(&self) {
        *self.outage.lock().unwrap_or_else(PoisonError::into_inner) = Outage::default();
    }

    /// Counts a failure, unless another reader's failure of the same moment was counted already.
    fn failed(&self) -> Instant {
        let mut outage = self.outage.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        match outage.next_try {
            Some(at) if at > now => at,
            _ => {
                outage.failures += 1;
                let next_try = now + backoff(outage.failures);
                *outage.next_try.insert(next_try)
            }
        }
    }
}

/// A connection that broke, or a Redis that starts, fails over or moves: trying again may help. A time-out is
/// not among them: it used up the caller's patience already, and the command may still run.
fn passes_by_itself(error: &RedisError) -> bool {
    error.is_connection_dropped()
        || says(error, &["LOADING", "READONLY", "MASTERDOWN", "TRYAGAIN", "BUSY", "CLUSTERDOWN", "ASK"])
}

/// Redis refused with one of these codes. A command of a pipeline is refused inside the pipeline's error, which
/// tells the code in its text only.
pub(super) fn says(error: &RedisError, codes: &[&str]) -> bool {
    if let Some(code) = error.code() {
        return codes.contains(&code);
    }
    let text = error.to_string();
    text.starts_with("Pipeline failure") && codes.iter().any(|code| text.contains(&format!("\"{code}\"")))
}

pub(super) fn too_slow() -> RedisError {
    std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer in time").into()
}

fn unavailable(action: &'static str, address: &str, error: RedisError) -> QueueError {
    let source = RedisFailure { address: address.to_owned(), error };
    QueueError::Unavailable { action, source: Box::new(source) }
}

/// Grows from the first to the last bound, with jitter between half and all of it, so that the processes that
/// lost the same Redis do not come back at the same moment.
fn backoff(failures: u32) -> Duration {
    let full = BACKOFF.0.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(BACKOFF.1);
    let random = u32::from(uuid::Uuid::now_v7().as_bytes()[15]);
    full / 2 + full * random / 512
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("address", &self.address).finish_non_exhaustive()
    }
}
