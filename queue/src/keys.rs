//! Names of every Redis key of a deployment: the only place where they are made. Pure.
//!
//! All keys of one component of one deployment share the prefix `smallest:{<deployment>}:<component>:`. The
//! braces are Redis Cluster's hash tag: they put a deployment on one node, so that its scripts and transactions
//! may touch several keys.

use crate::ids::{GatewayId, JobId, SessionId, WorkerId};

/// Name of the consumer group on both work streams; its consumers are named by [`WorkerId`].
pub const GROUP: &str = "workers";

/// A deployment or component that cannot stand in a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to read {what} {text:?}: use 1 to 128 of letters, digits, '.', '_', '-' and '/'")]
pub struct InvalidScope {
    what: &'static str,
    text: String,
}

/// Makes the keys of one component of one deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    prefix: String,
}

impl Keys {
    /// Checks the scope: `deployment` is `namespace/name`, `component` is `asr` or `tts`.
    pub fn new(deployment: &str, component: &str) -> Result<Self, InvalidScope> {
        check("deployment", deployment)?;
        check("component", component)?;
        Ok(Self { prefix: format!("smallest:{{{deployment}}}:{component}:") })
    }

    /// What all keys begin with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Stream of batch jobs.
    pub fn jobs(&self) -> String {
        self.key("jobs")
    }

    /// Stream of sessions that wait or are held.
    pub fn sessions(&self) -> String {
        self.key("sessions")
    }

    /// Stream of work whose attempts are used up.
    pub fn dead(&self) -> String {
        self.key("dead")
    }

    /// Sorted set of workers by the time their registration ends.
    pub fn workers(&self) -> String {
        self.key("workers")
    }

    /// String: entry of a job in the stream of jobs.
    pub fn job(&self, job: &JobId) -> String {
        self.of("job", job.as_str())
    }

    /// List: a job's audio in parts.
    pub fn audio(&self, job: &JobId) -> String {
        self.of("audio", job.as_str())
    }

    /// Hash: everything known of a session but its audio.
    pub fn session(&self, session: &SessionId) -> String {
        self.of("session", session.as_str())
    }

    /// Sorted set of gateways by the time their registration ends.
    pub fn gateways(&self) -> String {
        self.key("gateways")
    }

    /// Stream of one entry, a newer one at each change of a registration: whoever looks on is woken by it.
    pub fn changes(&self) -> String {
        self.key("changes")
    }

    /// What the names of all workers' registrations begin with, for the script that lists them.
    pub fn worker_prefix(&self) -> String {
        self.of("worker", "")
    }

    /// What the names of all gateways' registrations begin with.
    pub fn gateway_record_prefix(&self) -> String {
        self.of("gateway-record", "")
    }

    /// String: a gateway's registration.
    pub fn gateway_record(&self, gateway: &GatewayId) -> String {
        self.of("gateway-record", gateway.as_str())
    }

    /// String: there while the gateway gives signs of life.
    pub fn gateway(&self, gateway: &GatewayId) -> String {
        self.of("gateway", gateway.as_str())
    }

    /// String: a worker's registration.
    pub fn worker(&self, worker: &WorkerId) -> String {
        self.of("worker", worker.as_str())
    }

    /// Stream: a gateway's inbox.
    pub fn to_gateway(&self, gateway: &GatewayId) -> String {
        self.of("to-gateway", gateway.as_str())
    }

    /// Stream: a worker's inbox.
    pub fn to_worker(&self, worker: &WorkerId) -> String {
        self.of("to-worker", worker.as_str())
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn of(&self, kind: &str, id: &str) -> String {
        format!("{}{kind}:{id}", self.prefix)
    }
}

fn check(what: &'static str, text: &str) -> Result<(), InvalidScope> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/');
    if (1..=128).contains(&text.len()) && text.chars().all(good) {
        return Ok(());
    }
    Err(InvalidScope { what, text: text.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_of_a_deployment_is_under_its_prefix_and_hash_tag() {
        let keys = Keys::new("default/quickstart", "asr").unwrap();
        let (job, session): (JobId, SessionId) = ("j1".parse().unwrap(), "s1".parse().unwrap());
        let (gateway, worker): (GatewayId, WorkerId) = ("g1".parse().unwrap(), "w1".parse().unwrap());
        let all = [
            (keys.jobs(), "jobs"),
            (keys.sessions(), "sessions"),
            (keys.dead(), "dead"),
            (keys.workers(), "workers"),
            (keys.gateways(), "gateways"),
            (keys.changes(), "changes"),
            (keys.gateway_record(&gateway), "gateway-record:g1"),
            (keys.gateway_record_prefix(), "gateway-record:"),
            (keys.worker_prefix(), "worker:"),
            (keys.job(&job), "job:j1"),
            (keys.audio(&job), "audio:j1"),
            (keys.session(&session), "session:s1"),
            (keys.gateway(&gateway), "gateway:g1"),
            (keys.worker(&worker), "worker:w1"),
            (keys.to_gateway(&gateway), "to-gateway:g1"),
            (keys.to_worker(&worker), "to-worker:w1"),
        ];
        for (key, rest) in all {
            assert_eq!(key, format!("smallest:{{default/quickstart}}:asr:{rest}"));
        }
    }

    #[test]
    fn scopes_that_would_break_the_hash_tag_are_refused() {
        for bad in ["", "a}b", "{a", "a b", "a:b", "ü", &"x".repeat(129)] {
            assert!(Keys::new(bad, "asr").is_err(), "{bad:?}");
            assert!(Keys::new("default/quickstart", bad).is_err(), "{bad:?}");
        }
    }
}
