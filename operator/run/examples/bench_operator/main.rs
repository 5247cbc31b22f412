//! Measures the operator against a real apiserver: creates many `SmallestDeployment`s at once, waits until all are
//! applied, then looks at what happens when nothing happens. `tools/bench-operator.sh` brings up the cluster.
//!
//! Prints a table, and appends a row for each figure to `target/bench/operator.jsonl`.

mod cluster;
mod figures;
mod operator;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use kube::Client;
use tokio::time::{Instant, sleep};

use crate::figures::{Figure, Goal};
use crate::operator::Operator;

/// How long nothing may be written before the cluster counts as at rest.
const QUIET: Duration = Duration::from_secs(15);

#[derive(Debug, Parser)]
struct Args {
    /// The program to measure
    #[arg(long)]
    operator: PathBuf,
    /// Resources to create
    #[arg(long, default_value_t = 1000)]
    count: usize,
    /// Seconds to watch the operator at rest
    #[arg(long, default_value_t = 120)]
    rest_seconds: u64,
    /// Longest wait for everything to be applied, seconds
    #[arg(long, default_value_t = 900)]
    deadline_seconds: u64,
    /// Where the rows go
    #[arg(long, default_value = "target/bench/operator.jsonl")]
    rows: PathBuf,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let client = Client::try_default().await.context("failed to find a cluster: set KUBECONFIG")?;
    cluster::prepare(&client).await?;
    let operator = Operator::start(&args.operator).await?;
    let before = operator.calls().await?;

    let deadline = Duration::from_secs(args.deadline_seconds);
    let started = Instant::now();
    cluster::create(&client, args.count).await?;
    let created = started.elapsed();
    cluster::applied(&client, args.count, deadline).await?;
    let applied = started.elapsed();
    let after = operator.calls().await?;
    let objects = cluster::objects(&client).await?;
    println!(
        "{} resources: created in {:.1} s, applied in {:.1} s, {objects} objects",
        args.count,
        created.as_secs_f64(),
        applied.as_secs_f64()
    );

    let settled = at_rest(&operator, deadline).await?;
    let calm = operator.calls().await?;
    sleep(Duration::from_secs(args.rest_seconds)).await;
    let end = operator.calls().await?;
    let peak_bytes = operator.peak_memory_bytes()?;
    let minutes = args.rest_seconds as f64 / 60.0;
    let count = args.count as f64;
    let figures = [
        Figure::new("applied", applied.as_secs_f64(), "s", Goal::Below(60.0)),
        Figure::new(
            "writes per object",
            (after.writes - before.writes) / objects as f64,
            "writes",
            Goal::None,
        ),
        Figure::new("writes per resource, all", (calm.writes - before.writes) / count, "writes", Goal::None),
        Figure::new("reads per resource, all", (calm.reads - before.reads) / count, "reads", Goal::None),
        Figure::new("peak memory", peak_bytes as f64 / 1e6, "MB", Goal::Below(100.0)),
        Figure::new("time to rest", settled.as_secs_f64(), "s", Goal::None),
        Figure::new("requests at rest", (end.all() - calm.all()) / minutes, "requests/min", Goal::None),
        Figure::new("writes at rest", end.writes - calm.writes, "writes", Goal::Below(1.0)),
    ];
    figures::print(&figures, args.count);
    figures::append(&figures, &args.rows, args.count)?;
    operator.stop().await?;
    cluster::clean(&client).await?;
    anyhow::ensure!(figures.iter().all(Figure::passes), "a goal was missed");
    Ok(())
}

/// Waits until nothing is written any more; how long that took.
async fn at_rest(operator: &Operator, deadline: Duration) -> anyhow::Result<Duration> {
    let started = Instant::now();
    let (mut writes, mut since) = (operator.calls().await?.writes, Instant::now());
    while since.elapsed() < QUIET {
        anyhow::ensure!(started.elapsed() < deadline, "the operator never came to rest");
        sleep(Duration::from_secs(1)).await;
        let now = operator.calls().await?.writes;
        if now > writes {
            (writes, since) = (now, Instant::now());
        }
    }
    Ok(started.elapsed().saturating_sub(QUIET))
}
