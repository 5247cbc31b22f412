//! Blocking reads that wait in Redis one behind the other on one connection. It knows no message.
//!
//! Redis answers the first, and goes on with the next that it has already: whoever reads need not ask again before every
//! message, which would wake Redis once more for each. Answers come in the order of the questions.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use ::redis::aio::{ConnectionLike as _, MultiplexedConnection};
use ::redis::{Cmd, Pipeline, RedisError, Value};
use futures::FutureExt as _;
use futures::future::{BoxFuture, ready};
use tokio::task::unconstrained;
use tokio::time::{Instant, timeout_at};

use super::link::too_slow;
use super::node::Node;

type Answer = Result<Value, RedisError>;

/// A connection and the reads that wait on it. Redis forgets them when it is dropped.
pub(super) struct Reads {
    node: Arc<Node>,
    connection: MultiplexedConnection,
    waiting: VecDeque<BoxFuture<'static, Answer>>,
    /// A read that waits for longer than this got lost.
    patience: Duration,
    /// Since when the first of them waits.
    since: Instant,
}

impl Reads {
    pub(super) fn new(node: Arc<Node>, connection: MultiplexedConnection, patience: Duration) -> Self {
        Self { node, connection, waiting: VecDeque::new(), patience, since: Instant::now() }
    }

    /// Where they wait.
    pub(super) fn node(&self) -> Arc<Node> {
        self.node.clone()
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Sends commands that do not block, before all reads.
    pub(super) async fn prepare(&mut self, commands: &Pipeline) -> Result<(), RedisError> {
        let answer = commands.query_async(&mut self.connection);
        timeout_at(Instant::now() + self.patience, answer).await.unwrap_or_else(|_| Err(too_slow()))
    }

    /// Sends as many more of a read. Each is on its way before the next one is made: that is their order.
    pub(super) fn ask(&mut self, read: &Arc<Cmd>, times: usize) {
        if self.waiting.is_empty() {
            self.since = Instant::now();
        }
        for _ in 0..times {
            let (mut connection, read) = (self.connection.clone(), read.clone());
            // Without a budget: the first poll sends it.
            let mut answer =
                unconstrained(async move { connection.req_packed_command(&read).await?.extract_error() })
                    .boxed();
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            let sent = answer.as_mut().poll(&mut context);
            self.waiting.push_back(match sent {
                Poll::Pending => answer,
                Poll::Ready(answer) => ready(answer).boxed(),
            });
        }
    }

    /// The answer to the first read; `None` when there is none until then. A caller that does not wait any more loses
    /// nothing.
    pub(super) async fn next(&mut self, until: Instant) -> Option<Answer> {
        let Some(first) = self.waiting.front_mut() else { return Some(Err(too_slow())) };
        let lost = self.since + self.patience;
        let answer = match timeout_at(until.min(lost), first).await {
            Ok(answer) => answer,
            Err(_) if lost <= until => Err(too_slow()),
            Err(_) => return None,
        };
        self.waiting.pop_front();
        self.since = Instant::now();
        Some(answer)
    }
}

impl std::fmt::Debug for Reads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reads").field("waiting", &self.waiting.len()).finish_non_exhaustive()
    }
}
