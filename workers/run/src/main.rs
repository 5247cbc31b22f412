//! `smallest-worker asr`: flags → telemetry → serve → exit. Exit code 0 after draining, 1 on an error, 2 on wrong flags.

use anyhow::Context;
use clap::Parser;
use workers_run::config::{Cli, Command};

fn main() -> anyhow::Result<()> {
    let Command::Asr(args) = Cli::parse().command;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("failed to start the async runtime")?;
    let _in_runtime = runtime.enter();
    let _guard = telemetry::init(&args.telemetry.config("smallest-worker"))?;
    runtime
        .block_on(workers_run::serve::serve(*args))
        .inspect_err(|error| tracing::error!(%error, "the worker ended"))?;
    Ok(())
}
