//! Any interleaving of what gateways and workers may do: every accepted job gets exactly one outcome.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use queue::ids::{GatewayId, JobId, WorkerId};
use queue::memory::MemoryQueue;
use queue::port::{ClaimedJob, GatewayPort, Held, QueueError, QueueLimits, WorkerPort};
use queue::session::ToGateway;

use crate::rig::{LEASE, job, limits, record, success};

const WORKERS: usize = 3;

#[derive(Debug, Clone)]
enum Step {
    Submit,
    Claim {
        worker: usize,
        max: usize,
    },
    Complete {
        worker: usize,
    },
    Release {
        worker: usize,
    },
    Heartbeat {
        worker: usize,
    },
    /// The worker forgets what it held, as after a crash.
    Crash {
        worker: usize,
    },
    Cancel {
        which: usize,
    },
    Pass {
        tenths_of_a_lease: u32,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let worker = || 0..WORKERS;
    prop_oneof![
        3 => Just(Step::Submit),
        4 => (worker(), 1..4_usize).prop_map(|(worker, max)| Step::Claim { worker, max }),
        3 => worker().prop_map(|worker| Step::Complete { worker }),
        1 => worker().prop_map(|worker| Step::Release { worker }),
        2 => worker().prop_map(|worker| Step::Heartbeat { worker }),
        1 => worker().prop_map(|worker| Step::Crash { worker }),
        1 => (0..20_usize).prop_map(|which| Step::Cancel { which }),
        2 => (1..15_u32).prop_map(|tenths_of_a_lease| Step::Pass { tenths_of_a_lease }),
    ]
}

/// What should be true, kept beside the queue.
struct World {
    queue: MemoryQueue,
    gateway: GatewayId,
    workers: Vec<WorkerId>,
    held: Vec<Vec<ClaimedJob>>,
    accepted: Vec<JobId>,
    cancelled: HashSet<JobId>,
    outcomes: HashMap<JobId, u32>,
}

impl World {
    fn new() -> Self {
        let limits = QueueLimits { max_batch_depth: 6, max_attempts: 3, ..limits() };
        Self {
            queue: MemoryQueue::new(limits),
            gateway: GatewayId::generate(),
            workers: (0..WORKERS).map(|_| WorkerId::generate()).collect(),
            held: vec![Vec::new(); WORKERS],
            accepted: Vec::new(),
            cancelled: HashSet::new(),
            outcomes: HashMap::new(),
        }
    }

    async fn take(&mut self, step: &Step) {
        match step {
            Step::Submit => {
                let job = job(&self.gateway);
                match self.queue.submit(&job, Bytes::from_static(b"sound")).await {
                    Ok(()) => self.accepted.push(job.id),
                    Err(error) => {
                        assert!(matches!(error, QueueError::Full { waiting: 6.., limit: 6 }), "{error}");
                    }
                }
            }
            Step::Claim { worker, max } => {
                let claimed =
                    self.queue.claim_jobs(&self.workers[*worker], *max, Duration::ZERO).await.unwrap();
                assert!(claimed.len() <= *max);
                assert!(claimed.iter().all(|c| (1..=3).contains(&c.attempt)));
                assert!(
                    claimed.iter().all(|c| !self.cancelled.contains(&c.job.id)),
                    "cancelled is never claimed"
                );
                self.held[*worker].extend(claimed);
            }
            Step::Complete { worker } => {
                if let Some(claim) = self.held[*worker].pop() {
                    let reply = success(&claim.job, "done");
                    self.queue.complete(&self.workers[*worker], &claim, reply).await.unwrap();
                }
            }
            Step::Release { worker } => {
                if let Some(claim) = self.held[*worker].pop() {
                    self.queue.release_job(&self.workers[*worker], &claim).await.unwrap();
                }
            }
            Step::Heartbeat { worker } => self.beat(*worker).await,
            Step::Crash { worker } => self.held[*worker].clear(),
            Step::Cancel { which } => {
                if let Some(job) = self.accepted.get(*which).cloned() {
                    self.queue.cancel(&job).await.unwrap();
                    self.cancelled.insert(job);
                }
            }
            Step::Pass { tenths_of_a_lease } => {
                tokio::time::advance(LEASE / 10 * *tenths_of_a_lease).await;
            }
        }
        self.listen().await;
    }

    async fn beat(&mut self, worker: usize) {
        let jobs: Vec<String> = self.held[worker].iter().map(|c| c.claim.clone()).collect();
        let held = Held { jobs, sessions: Vec::new() };
        let lost = self.queue.heartbeat(&record(&self.workers[worker]), &held).await.unwrap();
        self.held[worker].retain(|c| !lost.jobs.contains(&c.claim));
    }

    async fn listen(&mut self) {
        let messages = GatewayPort::receive(&self.queue, &self.gateway, Duration::ZERO).await.unwrap();
        for message in messages {
            let ToGateway::Batch(reply) = message else { panic!("{message:?}") };
            *self.outcomes.entry(reply.job).or_default() += 1;
        }
    }

    /// One good worker is left: it must be able to finish everything.
    async fn finish(&mut self) {
        for _ in 0..self.accepted.len() * 4 + 4 {
            tokio::time::advance(LEASE).await;
            let claimed = self.queue.claim_jobs(&self.workers[0], 8, Duration::ZERO).await.unwrap();
            for claim in claimed {
                let reply = success(&claim.job, "done");
                self.queue.complete(&self.workers[0], &claim, reply).await.unwrap();
            }
            self.listen().await;
        }
    }

    async fn check(&self) {
        for job in &self.accepted {
            let outcomes = self.outcomes.get(job).copied().unwrap_or(0);
            if self.cancelled.contains(job) {
                assert!(outcomes <= 1, "{job} was cancelled and answered {outcomes} times");
            } else {
                assert_eq!(outcomes, 1, "{job}");
            }
            assert_eq!(self.queue.audio(job).await.unwrap(), None, "audio of {job} is left");
        }
        assert_eq!(self.outcomes.len(), self.outcomes.keys().filter(|j| self.accepted.contains(j)).count());
        assert_eq!(GatewayPort::depth(&self.queue).await.unwrap(), queue::port::Depth::default());
    }
}

proptest! {
    #[test]
    fn every_accepted_job_gets_exactly_one_outcome(steps in proptest::collection::vec(step(), 1..80)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut world = World::new();
            for step in &steps {
                world.take(step).await;
            }
            world.finish().await;
            world.check().await;
        });
    }
}
