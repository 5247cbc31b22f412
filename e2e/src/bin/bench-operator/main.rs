//! Measures the operator on a real apiserver, for `make bench-operator`: how it copes with many resources
//! ([`many`], `tools/bench-operator.sh`), and how fast a cluster reacts to queued work ([`reaction`],
//! `tools/bench-scale.sh`). Prints a table, and appends a row for each figure to `target/bench/operator.jsonl`.

mod beside;
mod cluster;
mod figures;
mod machine;
mod many;
mod operator;
mod reaction;
mod work;

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::{Parser, Subcommand};
use kube::Client;
use tokio::signal::unix::{SignalKind, signal};

use crate::figures::Figure;

#[derive(Debug, Parser)]
#[command(about)]
struct Args {
    /// Where the rows go
    #[arg(long, global = true, default_value = "target/bench/operator.jsonl")]
    rows: PathBuf,
    #[command(subcommand)]
    measure: Measure,
}

#[derive(Debug, Subcommand)]
enum Measure {
    /// Many resources at once: time, writes, memory; then the operator at rest
    Many(many::Args),
    /// Queued work: until the metric, the autoscaler and a sleeping component follow
    Reaction(reaction::Args),
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let client = Client::try_default().await.context("failed to find a cluster: set KUBECONFIG")?;
    let machine = machine::facts(&client).await?;
    println!("{machine}");
    let measured = async {
        match &args.measure {
            Measure::Many(args) => many::measure(args, &client).await,
            Measure::Reaction(args) => reaction::measure(args, &client).await,
        }
    };
    // Whatever was started or made goes in any case.
    let figures = tokio::select! {
        figures = measured => figures,
        () = interrupted()? => Err(anyhow::anyhow!("interrupted")),
    };
    if matches!(args.measure, Measure::Many(_)) {
        cluster::clean(&client).await.context("failed to clean up")?;
    }
    let figures = figures?;
    figures::print(&figures);
    figures::append(&figures, &args.rows, &machine)?;
    if !figures.iter().all(Figure::passes) {
        bail!("a goal was missed");
    }
    Ok(())
}

fn interrupted() -> anyhow::Result<impl Future<Output = ()>> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
    })
}
