//! The way to Redis: connections, time-outs, retries, back-off. It knows no key and no message.
//!
//! Commands share one multiplexed connection that reconnects by itself. A blocking read occupies a connection,
//! so each takes one of its own from a small pool; a read that is dropped or fails drops its connection too,
//! and Redis forgets the read with it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ::redis::aio::{ConnectionManager, ConnectionManagerConfig, MultiplexedConnection};
use ::redis::io::tcp::TcpSettings;
use ::redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind, FromRedisValue,
    IntoConnectionInfo, Pipeline, RedisError, ScriptInvocation, TlsCertificates, Value,
};
use tokio::time::Instant;

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
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

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

/// The connections of one queue.
pub(super) struct Link {
    client: Client,
    commands: ConnectionManager,
    timeouts: Timeouts,
    address: String,
    pool: Mutex<Vec<MultiplexedConnection>>,
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
    /// Opens the command connection and sees that Redis answers. Beside the address stand the authorities to trust,
    /// where they are not the system's.
    pub(super) async fn open(
        (url, root_certificates): (&str, Option<&str>),
        timeouts: Timeouts,
    ) -> Result<Self, QueueError> {
        // rustls wants to be told which cryptography to use. An error means that the program has chosen already.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let unreadable = |error| unavailable("read REDIS_URL", "the address given", error);
        let info = url.into_connection_info().map_err(unreadable)?;
        let address = info.addr().to_string();
        // Chunks are small and each is waited for: Nagle's algorithm would hold them back.
        let info = info.set_tcp_settings(TcpSettings::default().set_nodelay(true));
        let client = match root_certificates {
            None => Client::open(info),
            Some(pem) => trusting(info, pem),
        };
        let client = client.map_err(unreadable)?;
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(timeouts.connect))
            .set_response_timeout(Some(timeouts.response))
            .set_number_of_retries(1)
            .set_min_delay(BACKOFF.0)
            .set_max_delay(BACKOFF.1);
        let connecting = ConnectionManager::new_with_config(client.clone(), config);
        let bounded = tokio::time::timeout(timeouts.connect * 2 + timeouts.response, connecting);
        let failed = |error| unavailable("connect", &address, error);
        let commands = bounded.await.map_err(|_| failed(too_slow()))?.map_err(failed)?;
        let (pool, outage) = (Mutex::new(Vec::new()), Mutex::new(Outage::default()));
        let link = Self { client, commands, timeouts, address, pool, outage };
        link.command::<()>("connect", &::redis::cmd("PING")).await?;
        Ok(link)
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
        let pooled = self.lock_pool().pop();
        let mut connection = match pooled {
            Some(connection) => connection,
            None => self.connect_reader().await?,
        };
        let answer = commands.query_async(&mut connection);
        let answer = tokio::time::timeout(block + self.timeouts.response, answer).await;
        match answer.unwrap_or_else(|_| Err(too_slow())) {
            Ok(values) => {
                self.recovered();
                let mut pool = self.lock_pool();
                if pool.len() < POOLED {
                    pool.push(connection);
                }
                Ok(values)
            }
            Err(error) => {
                if error.is_io_error() || error.is_unrecoverable_error() {
                    // The others in the pool broke with it.
                    self.lock_pool().clear();
                }
                Err(error)
            }
        }
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
            let attempted = tokio::time::timeout(limit, call.run(self.commands.clone())).await;
            let error = match attempted.unwrap_or_else(|_| Err(too_slow())) {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            failures += 1;
            let next_try = Instant::now() + backoff(failures);
            if !passes_by_itself(&error) || next_try >= give_up {
                return Err(self.failure(action, error));
            }
            tokio::time::sleep_until(next_try).await;
        }
    }

    async fn connect_reader(&self) -> Result<MultiplexedConnection, RedisError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.timeouts.connect))
            .set_response_timeout(None);
        let connecting = self.client.get_multiplexed_async_connection_with_config(&config);
        tokio::time::timeout(self.timeouts.connect, connecting).await.unwrap_or_else(|_| Err(too_slow()))
    }

    fn lock_pool(&self) -> std::sync::MutexGuard<'_, Vec<MultiplexedConnection>> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
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

/// A client that trusts these authorities and no other.
fn trusting(info: ConnectionInfo, pem: &str) -> Result<Client, RedisError> {
    let invalid = |what| Err(RedisError::from((ErrorKind::InvalidClientConfig, what)));
    if !matches!(info.addr(), ConnectionAddr::TcpTls { .. }) {
        return invalid("a certificate authority is named for an address without TLS: use rediss://");
    }
    if !pem.contains("-----BEGIN CERTIFICATE-----") {
        return invalid("the certificate authority is no PEM certificate");
    }
    let certificates = TlsCertificates { client_tls: None, root_cert: Some(pem.as_bytes().to_vec()) };
    Client::build_with_tls(info, certificates)
}

/// A connection that broke, or a Redis that starts, fails over or moves: trying again may help. A time-out is
/// not among them: it used up the caller's patience already, and the command may still run.
fn passes_by_itself(error: &RedisError) -> bool {
    error.is_connection_dropped() || says(error, &["LOADING", "READONLY", "MASTERDOWN", "TRYAGAIN", "BUSY"])
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

fn too_slow() -> RedisError {
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
