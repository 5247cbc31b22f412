//! The whole product on a real cluster: one story a file.
//!
//! Its own harness, because all stories share one cluster, and because a machine that can have none must be told
//! why: such stories are reported as ignored, with the reason, never as passed.

mod at_rest;
mod bad_spec;
mod broken_children;
mod deletion;
mod dry_run;
mod gpu;
mod helm_service;
mod helm_upgrade;
mod hung_worker;
mod install;
mod neighbours;
mod network_policy;
mod no_metric;
mod operator_lost;
mod quickstart;
mod redis_lost;
mod redis_moves;
mod rolls;
mod rules;
mod scale_by_load;
mod scale_by_schedule;
mod scale_in;
mod scale_to_zero;
mod stories;
mod tts;
mod watches;
mod worker_lost;

use e2e::cluster::{Cluster, Started};
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use std::process::ExitCode;
use std::sync::Arc;
use stories::{Story, Way};
use tokio::runtime::Runtime;
use tokio::sync::{OnceCell, RwLock};

/// Stories at a time: they mostly wait for pods, and two cores are to be enough for all of them. One of them is the
/// story of rest, which does nothing for ten minutes.
const PARALLEL: usize = 4;
/// What a story's futures take on the stack when nothing is optimized is more than a thread has by default, bytes.
const STACK: usize = 64 << 20;

/// What all stories share.
struct Suite {
    runtime: Runtime,
    cluster: OnceCell<Result<Started, String>>,
    /// Stories that disturb the operator have it for themselves.
    operator: RwLock<()>,
}

impl Suite {
    async fn run(&self, story: &Story) -> Result<Completion, Failed> {
        let started = self.cluster.get_or_init(|| async {
            Cluster::start().await.map_err(|error| format!("the cluster could not be started: {error:#}"))
        });
        let cluster = match started.await {
            Ok(Started::Up(cluster)) => cluster,
            Ok(Started::Missing(reason)) => return Ok(Completion::ignored_with(reason.clone())),
            Err(error) => return Err(Failed::from(error.clone())),
        };
        let began = tokio::time::Instant::now();
        let result = match story.way {
            Way::Beside => {
                let _shared = self.operator.read().await;
                (story.run)(cluster).await
            }
            Way::Alone => {
                let _alone = self.operator.write().await;
                (story.run)(cluster).await
            }
        };
        eprintln!("story {} took {:.1} s", story.name, began.elapsed().as_secs_f64());
        result.map_err(|error| {
            // At once, since the harness tells of failures only at the end.
            eprintln!("story {} FAILED: {error:#}", story.name);
            Failed::from(format!("{error:#}"))
        })
    }

    fn trial(suite: &Arc<Self>, story: Story) -> Trial {
        let suite = suite.clone();
        Trial::ignorable_test(story.name, move || {
            let told = std::thread::Builder::new()
                .stack_size(STACK)
                .spawn(move || suite.runtime.block_on(suite.run(&story)))
                .map_err(|error| Failed::from(format!("no thread for the story: {error}")))?;
            told.join().map_err(|_panic| Failed::from("the story panicked; its message is above"))?
        })
    }
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(PARALLEL);
    let Ok(runtime) = Runtime::new() else { return ExitCode::FAILURE };
    let suite = Arc::new(Suite { runtime, cluster: OnceCell::new(), operator: RwLock::new(()) });
    let trials = stories::all().into_iter().map(|story| Suite::trial(&suite, story)).collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    if let Some(Ok(Started::Up(cluster))) = suite.cluster.get()
        && let Err(error) = cluster.stop()
    {
        eprintln!("{error:?}");
        return ExitCode::FAILURE;
    }
    conclusion.exit_code()
}
