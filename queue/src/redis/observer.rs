//! Those who only look: depth, workers and gateways of some components of a deployment, and the wait for news.
//!
//! One script sees everything at one moment; the wait is one blocking `XREAD` on the work streams and on the stream
//! of changes, from the entries that the look saw. It belongs to no group, so it takes nothing from anybody.

use std::time::Duration;

use ::redis::Value;
use async_trait::async_trait;

use super::claims::millis;
use super::link::{Link, Timeouts};
use super::{reply, scripts};
use crate::codec;
use crate::keys::Keys;
use crate::observe::{ComponentSight, Mark, ObserverPort, Sight};
use crate::port::{Depth, QueueError, QueueLimits};

/// Whom to look at.
#[derive(Clone)]
pub struct ObserverConfig {
    /// `redis://[user:password@]host:port[/db]`, or `rediss://` for TLS.
    pub url: String,
    /// Certificate authorities to trust instead of the system's, as PEM; with `rediss://` only.
    pub root_certificates: Option<String>,
    /// The deployment, `namespace/name`.
    pub deployment: String,
    /// `asr`, `tts`, or both.
    pub components: Vec<&'static str>,
    /// The deployment's bounds and leases.
    pub limits: QueueLimits,
    /// How long Redis may take.
    pub timeouts: Timeouts,
}

/// An observer of a deployment on Redis. It holds one connection for looking, and one more while it waits.
#[derive(Debug)]
pub struct RedisObserver {
    link: Link,
    components: Vec<(&'static str, Keys)>,
    limits: QueueLimits,
}

impl RedisObserver {
    /// Connects, and sees that Redis answers and lets us in.
    pub async fn connect(config: &ObserverConfig) -> Result<Self, QueueError> {
        let invalid = |error| QueueError::Unavailable { action: "name its keys", source: Box::new(error) };
        let keys = |name: &&'static str| Ok((*name, Keys::new(&config.deployment, name).map_err(invalid)?));
        let components: Vec<_> = config.components.iter().map(keys).collect::<Result<_, QueueError>>()?;
        // All components of a deployment have its hash tag.
        let key = components.first().map(|(_, keys)| keys.jobs()).unwrap_or_default();
        let at = (config.url.as_str(), config.root_certificates.as_deref());
        let link = Link::open(at, key, config.timeouts).await?;
        Ok(Self { link, components, limits: config.limits.clone() })
    }
}

#[async_trait]
impl ObserverPort for RedisObserver {
    async fn observe(&self) -> Result<Sight, QueueError> {
        let mut call = scripts::OBSERVE.prepare_invoke();
        for (_, keys) in &self.components {
            call.key(keys.jobs()).key(keys.sessions()).key(keys.workers()).key(keys.gateways());
            call.key(keys.changes());
        }
        let limits = &self.limits;
        call.arg(millis(limits.lease)).arg(millis(limits.batch_ttl)).arg(millis(limits.session_ttl));
        for (_, keys) in &self.components {
            call.arg(keys.worker_prefix()).arg(keys.gateway_record_prefix());
        }
        let rows: Vec<Value> = self.link.script("look at the queue", &call).await?;
        let mut sight = Sight { components: Vec::new(), mark: Mark(Vec::new()) };
        for ((component, keys), row) in self.components.iter().zip(rows) {
            let unreadable = || QueueError::Decode {
                key: keys.prefix().to_owned(),
                detail: "the answer of the script observe is not what was expected".to_owned(),
            };
            sight.components.push(read(component, row, &mut sight.mark).ok_or_else(unreadable)?);
        }
        Ok(sight)
    }

    async fn changed(&self, since: &Mark, wait: Duration) -> Result<bool, QueueError> {
        // BLOCK 0 would wait for ever.
        let block = wait.max(Duration::from_millis(1));
        let mut read = ::redis::cmd("XREAD");
        read.arg("COUNT").arg(1).arg("BLOCK").arg(millis(block)).arg("STREAMS");
        for (_, keys) in &self.components {
            read.arg(keys.jobs()).arg(keys.sessions()).arg(keys.changes());
        }
        for id in &since.0 {
            read.arg(id);
        }
        let mut pipeline = ::redis::pipe();
        pipeline.add_command(read);
        let answer = self.link.read(&pipeline, block).await;
        let answer = answer.map_err(|error| self.link.failure("wait for work", error))?;
        Ok(answer.into_iter().any(|value| !matches!(value, Value::Nil)))
    }
}

/// One component's part of the script's answer. Records that a newer program wrote in a way unknown here are left out.
fn read(component: &'static str, row: Value, mark: &mut Mark) -> Option<ComponentSight> {
    let mut row = reply::array(row).into_iter();
    let mut numbers = [0_u64; 6];
    for number in &mut numbers {
        *number = reply::number(&row.next()?)?;
    }
    for _ in 0..3 {
        mark.0.push(reply::text(row.next()?)?);
    }
    let [batch, sessions, batch_oldest_ms, session_oldest_ms, held_jobs, held_sessions] = numbers;
    let mut workers: Vec<crate::registry::WorkerRecord> = records(row.next()?);
    workers.sort_by(|a, b| a.id.cmp(&b.id));
    let mut gateways: Vec<crate::registry::GatewayRecord> = records(row.next()?);
    gateways.sort_by(|a, b| a.id.cmp(&b.id));
    let depth = Depth { batch, sessions, batch_oldest_ms, session_oldest_ms };
    Some(ComponentSight { component, depth, held_jobs, held_sessions, workers, gateways })
}

fn records<T: serde::de::DeserializeOwned>(rows: Value) -> Vec<T> {
    let rows = reply::array(rows).into_iter();
    rows.filter_map(|row| codec::decode(&reply::bytes(row)?).ok()).collect()
}

impl std::fmt::Debug for ObserverConfig {
    /// Without the URL, which may hold a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("ObserverConfig");
        shown.field("deployment", &self.deployment).field("components", &self.components);
        shown.finish_non_exhaustive()
    }
}
