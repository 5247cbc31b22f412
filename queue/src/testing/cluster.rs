//! A real Redis Cluster for tests: two nodes, of which the one that is named holds nothing, so that everything is
//! redirected; and slots that move.

use std::process::Command;
use std::time::{Duration, Instant};

use super::{RedisServer, ServerError, free_port};

/// Longest wait for the nodes to know each other.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running cluster; killed when dropped.
#[derive(Debug)]
pub struct RedisCluster {
    /// Named to clients; holds no slot at first.
    seed: RedisServer,
    /// Holds all slots at first.
    owner: RedisServer,
}

impl RedisCluster {
    /// Starts both nodes and waits until the first redirects to the second.
    pub fn start() -> Result<Self, ServerError> {
        let (seed, _) = node()?;
        let (owner, bus_port) = node()?;
        let cluster = Self { seed, owner };
        ask(&cluster.owner, &["CLUSTER", "ADDSLOTSRANGE", "0", "16383"])?;
        let (port, bus_port) = (cluster.owner.port().to_string(), bus_port.to_string());
        ask(&cluster.seed, &["CLUSTER", "MEET", "127.0.0.1", &port, &bus_port])?;
        cluster.until(&cluster.seed, "MOVED")?;
        cluster.until(&cluster.owner, "0")?;
        Ok(cluster)
    }

    /// The address of the node that redirects.
    pub fn url(&self) -> String {
        self.seed.url()
    }

    /// Moves the slot of a key, with all that is in it, to the node that held nothing.
    pub fn move_slot_of(&self, key: &str) -> Result<(), ServerError> {
        let slot = ask(&self.seed, &["CLUSTER", "KEYSLOT", key])?;
        let (from, to) = (ask(&self.owner, &["CLUSTER", "MYID"])?, ask(&self.seed, &["CLUSTER", "MYID"])?);
        ask(&self.seed, &["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from])?;
        ask(&self.owner, &["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to])?;
        let port = self.seed.port().to_string();
        loop {
            let keys = ask(&self.owner, &["CLUSTER", "GETKEYSINSLOT", &slot, "100"])?;
            let keys: Vec<&str> = keys.lines().filter(|key| !key.is_empty()).collect();
            if keys.is_empty() {
                break;
            }
            let migrate = ["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
            ask(&self.owner, &[&migrate[..], &keys].concat())?;
        }
        for node in [&self.seed, &self.owner] {
            ask(node, &["CLUSTER", "SETSLOT", &slot, "NODE", &to])?;
        }
        Ok(())
    }

    /// Waits until a node answers a question for a key in these words.
    #[expect(
        clippy::disallowed_methods,
        reason = "nodes do not tell when they know each other: they are asked"
    )]
    fn until(&self, node: &RedisServer, answer: &str) -> Result<(), ServerError> {
        let began = Instant::now();
        loop {
            let said = ask(node, &["EXISTS", "nothing"])?;
            if said.starts_with(answer) {
                return Ok(());
            }
            if began.elapsed() > PATIENCE {
                return Err(ServerError::Ended { log: format!("{self:?} says {said:?}, not {answer:?}") });
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A node, and the port at which others meet it.
fn node() -> Result<(RedisServer, u16), ServerError> {
    let bus_port = free_port().map_err(ServerError::Run)?;
    let port = bus_port.to_string();
    let cluster = ["--cluster-enabled", "yes", "--cluster-port", &port, "--cluster-node-timeout", "2000"];
    Ok((RedisServer::start_with(&cluster)?, bus_port))
}

/// What a node says to one command.
fn ask(node: &RedisServer, command: &[&str]) -> Result<String, ServerError> {
    let port = node.port().to_string();
    let output =
        Command::new("redis-cli").args(["-p", &port]).args(command).output().map_err(ServerError::Run)?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
