//! The server that holds a deployment's keys: the one that the address names, or, in a Redis Cluster, the node to which
//! that one redirects.
//!
//! All keys of a deployment have one hash tag, so they lie in one slot, and one node has them all: a queue needs no map
//! of the cluster, only the way to that node. It asks for one key of its own and follows the answer `MOVED`. When the
//! slot moves or the node fails over, [`Link`](super::link::Link) asks again, from the address on.

use std::sync::{Mutex, MutexGuard, PoisonError};

use ::redis::aio::{ConnectionManager, ConnectionManagerConfig, MultiplexedConnection};
use ::redis::io::tcp::TcpSettings;
use ::redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo, RedisError,
    TlsCertificates,
};

use super::link::{BACKOFF, Timeouts, says, too_slow};

/// Redirections in a row before a cluster counts as undecided.
const MAX_REDIRECTIONS: usize = 5;

/// Where to begin, and what to look for.
pub(super) struct Seed {
    info: ConnectionInfo,
    root_certificates: Option<String>,
    /// A key of the deployment: all others are where it is.
    key: String,
    timeouts: Timeouts,
}

/// The server that has the keys, and the connections to it.
pub(super) struct Node {
    client: Client,
    /// Of all commands but blocking reads.
    pub(super) commands: ConnectionManager,
    addr: ConnectionAddr,
    timeouts: Timeouts,
    pool: Mutex<Vec<MultiplexedConnection>>,
}

impl Seed {
    /// Reads an address. Beside it stand the authorities to trust, where they are not the system's.
    pub(super) fn parse(
        (url, root_certificates): (&str, Option<&str>),
        key: String,
        timeouts: Timeouts,
    ) -> Result<Self, RedisError> {
        // Chunks are small and each is waited for: Nagle's algorithm would hold them back.
        let info = url.into_connection_info()?.set_tcp_settings(TcpSettings::default().set_nodelay(true));
        let seed = Self { info, root_certificates: root_certificates.map(str::to_owned), key, timeouts };
        seed.client(seed.info.addr()).map(|_| seed)
    }

    /// The address, without user and password.
    pub(super) fn address(&self) -> String {
        self.info.addr().to_string()
    }

    /// The address led to another server than the one that it names: it is a cluster's.
    pub(super) fn leads_elsewhere(&self, node: &Node) -> bool {
        &node.addr != self.info.addr()
    }

    /// Asks for the key, from the address on, until a server has it; `known` goes on when it is that server.
    pub(super) async fn find(&self, known: Option<&Node>) -> Result<Option<Node>, RedisError> {
        let mut addr = self.info.addr().clone();
        for _ in 0..=MAX_REDIRECTIONS {
            let client = self.client(&addr)?;
            let mut connection = connect(&client, self.timeouts).await?;
            let mut question = ::redis::cmd("EXISTS");
            question.arg(&self.key);
            let answer = question.query_async::<bool>(&mut connection);
            let answer = tokio::time::timeout(self.timeouts.response, answer).await;
            let Err(error) = answer.unwrap_or_else(|_| Err(too_slow())) else {
                return match known {
                    Some(node) if node.addr == addr => Ok(None),
                    _ => self.open(client, addr).await.map(Some),
                };
            };
            // `ASK` is for one command while a slot moves: whoever asked tries again.
            let moved = error.redirect_node().filter(|_| says(&error, &["MOVED"]));
            let Some(next) = moved.and_then(|(to, _)| redirected(&addr, to)) else { return Err(error) };
            addr = next;
        }
        Err((ErrorKind::Client, "the nodes of the cluster redirect to each other").into())
    }

    async fn open(&self, client: Client, addr: ConnectionAddr) -> Result<Node, RedisError> {
        let timeouts = self.timeouts;
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(timeouts.connect))
            .set_response_timeout(Some(timeouts.response))
            .set_number_of_retries(1)
            .set_min_delay(BACKOFF.0)
            .set_max_delay(BACKOFF.1);
        let connecting = ConnectionManager::new_with_config(client.clone(), config);
        let bounded = tokio::time::timeout(timeouts.connect * 2 + timeouts.response, connecting);
        let commands = bounded.await.unwrap_or_else(|_| Err(too_slow()))?;
        Ok(Node { client, commands, addr, timeouts, pool: Mutex::default() })
    }

    fn client(&self, addr: &ConnectionAddr) -> Result<Client, RedisError> {
        let info = self.info.clone().set_addr(addr.clone());
        match &self.root_certificates {
            None => Client::open(info),
            Some(pem) => trusting(info, pem),
        }
    }
}

impl Node {
    /// A connection for one read: one that is kept, or a new one.
    pub(super) async fn reader(&self) -> Result<MultiplexedConnection, RedisError> {
        let pooled = self.pool().pop();
        match pooled {
            Some(connection) => Ok(connection),
            None => connect(&self.client, self.timeouts).await,
        }
    }

    /// Connections that wait for the next read.
    pub(super) fn pool(&self) -> MutexGuard<'_, Vec<MultiplexedConnection>> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn connect(client: &Client, timeouts: Timeouts) -> Result<MultiplexedConnection, RedisError> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(timeouts.connect))
        .set_response_timeout(None);
    let connecting = client.get_multiplexed_async_connection_with_config(&config);
    tokio::time::timeout(timeouts.connect, connecting).await.unwrap_or_else(|_| Err(too_slow()))
}

/// The address that `MOVED` names, with the rest as it was: a node that does not know its own name leaves it out.
fn redirected(from: &ConnectionAddr, to: &str) -> Option<ConnectionAddr> {
    let (name, port) = to.rsplit_once(':')?;
    let port = port.parse().ok()?;
    let mut addr = from.clone();
    match &mut addr {
        ConnectionAddr::Tcp(host, at) | ConnectionAddr::TcpTls { host, port: at, .. } => {
            if !name.is_empty() {
                name.trim_matches(['[', ']']).clone_into(host);
            }
            *at = port;
        }
        _ => return None,
    }
    Some(addr)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirection_changes_the_host_and_port_alone() {
        let plain = |host: &str, port| ConnectionAddr::Tcp(host.to_owned(), port);
        for (to, expected) in [
            ("10.0.0.7:7001", Some(plain("10.0.0.7", 7001))),
            (":7001", Some(plain("seed", 7001))),
            ("[2001:db8::1]:7001", Some(plain("2001:db8::1", 7001))),
            ("2001:db8::1:7001", Some(plain("2001:db8::1", 7001))),
            ("redis-2.redis.svc:6379", Some(plain("redis-2.redis.svc", 6379))),
            ("nonsense", None),
            ("host:port", None),
        ] {
            assert_eq!(redirected(&plain("seed", 6379), to), expected, "{to}");
        }
        let info = "rediss://seed:6380".into_connection_info().unwrap();
        let moved = redirected(info.addr(), "other:7001").unwrap();
        assert!(matches!(moved, ConnectionAddr::TcpTls { ref host, port: 7001, .. } if host == "other"));
    }
}
