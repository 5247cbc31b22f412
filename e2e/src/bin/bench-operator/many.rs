//! Many resources: created at once, waited for until all are applied, then watched while nothing happens.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::ensure;
use kube::Client;
use tokio::time::{Instant, sleep};

use crate::beside::{self, Used};
use crate::cluster;
use crate::figures::Figure;
use crate::operator::Operator;

/// How long nothing may be written before the cluster counts as at rest.
const QUIET: Duration = Duration::from_secs(15);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The program to measure
    #[arg(long)]
    operator: PathBuf,
    /// As whom it goes to the apiserver; as this program does when absent
    #[arg(long, value_name = "FILE")]
    operator_kubeconfig: Option<PathBuf>,
    /// Resources to create
    #[arg(long, default_value_t = 1000)]
    count: usize,
    /// Seconds to watch the operator at rest
    #[arg(long, default_value_t = 120)]
    rest_seconds: u64,
    /// Stop once everything is applied; the cluster's controllers are held, and nothing comes to rest
    #[arg(long)]
    until_applied: bool,
    /// Longest wait for everything to be applied, seconds
    #[arg(long, default_value_t = 900)]
    deadline_seconds: u64,
    /// A process of the cluster, where the cluster runs on this machine: tells who used the processor
    #[arg(long, value_name = "PID")]
    cluster_process: Option<u32>,
}

/// Prepares the cluster, starts the operator and measures it. Leaves the namespace to its caller.
pub(crate) async fn measure(args: &Args, client: &Client) -> anyhow::Result<Vec<Figure>> {
    cluster::prepare(client).await?;
    let operator = Operator::start(&args.operator, args.operator_kubeconfig.as_deref()).await?;
    let figures = run(args, client, &operator).await;
    operator.stop().await?;
    figures
}

async fn run(args: &Args, client: &Client, operator: &Operator) -> anyhow::Result<Vec<Figure>> {
    let deadline = Duration::from_secs(args.deadline_seconds);
    let before = operator.calls().await?;
    let used = used(args, operator)?;
    let started = Instant::now();
    let created = async {
        cluster::create(client, args.count).await?;
        Ok(started.elapsed())
    };
    let (created, ()) = tokio::try_join!(created, cluster::applied(client, args.count, deadline))?;
    let applied = started.elapsed();
    println!(
        "{} resources: created in {:.1} s, applied in {:.1} s",
        args.count,
        seconds(created),
        seconds(applied)
    );
    tell(&used, args, operator, applied)?;
    let after = operator.calls().await?;
    let peak_applied = operator.peak_memory_bytes()?;
    let objects = cluster::objects(client).await?;
    ensure!(
        objects > 0 && objects % args.count == 0,
        "{objects} objects stand: not the same number for each"
    );
    let count = args.count as f64;
    if args.until_applied {
        let case = |what: &str| format!("{} resources, controllers held: {what}", args.count);
        let writes = (after.writes - before.writes) / objects as f64;
        return Ok(vec![
            Figure::told(case("applied"), seconds(applied), "s").below(60.0),
            Figure::told(case("writes an object"), writes, "writes"),
            Figure::told(case("peak memory"), peak_applied as f64 / 1e6, "MB").below(100.0),
        ]);
    }

    let settled = at_rest(operator, deadline).await?;
    let calm = operator.calls().await?;
    sleep(Duration::from_secs(args.rest_seconds)).await;
    let end = operator.calls().await?;
    let peak = operator.peak_memory_bytes()?;
    let minutes = args.rest_seconds as f64 / 60.0;
    let case = |what: &str| format!("{} resources: {what}", args.count);
    Ok(vec![
        Figure::told(case("applied"), seconds(applied), "s").below(60.0),
        Figure::told(case("objects a resource"), objects as f64 / count, "objects"),
        Figure::told(
            case("writes an object until applied"),
            (after.writes - before.writes) / objects as f64,
            "writes",
        ),
        Figure::told(
            case("writes a resource until at rest"),
            (calm.writes - before.writes) / count,
            "writes",
        ),
        Figure::told(case("reads a resource until at rest"), (calm.reads - before.reads) / count, "reads"),
        Figure::told(case("peak memory until applied"), peak_applied as f64 / 1e6, "MB"),
        Figure::told(case("peak memory"), peak as f64 / 1e6, "MB").below(100.0),
        Figure::told(case("from applied to rest"), seconds(settled), "s"),
        Figure::told(case("requests at rest"), (end.all() - calm.all()) / minutes, "requests/min"),
        Figure::told(case("writes at rest"), end.writes - calm.writes, "writes").below(1.0),
    ])
}

fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

fn used(args: &Args, operator: &Operator) -> anyhow::Result<Used> {
    Ok(beside::used(args.cluster_process, &[operator.pid()?, std::process::id()]))
}

/// Who used the processor until everything was applied.
fn tell(before: &Used, args: &Args, operator: &Operator, wall: Duration) -> anyhow::Result<()> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    println!("CPU seconds meanwhile, of {:.0}:", seconds(wall) * cores as f64);
    for (program, seconds) in beside::between(before, &used(args, operator)?) {
        println!("  {program:<18} {seconds:>7.1}");
    }
    Ok(())
}

/// Waits until nothing is written any more; how long that took.
async fn at_rest(operator: &Operator, deadline: Duration) -> anyhow::Result<Duration> {
    let started = Instant::now();
    let (mut writes, mut since) = (operator.calls().await?.writes, Instant::now());
    while since.elapsed() < QUIET {
        ensure!(started.elapsed() < deadline, "the operator never came to rest");
        sleep(Duration::from_secs(1)).await;
        let now = operator.calls().await?.writes;
        if now > writes {
            (writes, since) = (now, Instant::now());
        }
    }
    Ok(started.elapsed().saturating_sub(QUIET))
}
