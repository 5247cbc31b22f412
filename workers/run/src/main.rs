//! `smallest-worker asr|tts`: flags → telemetry → serve → exit.
//!
//! Exit codes: 0 after draining, 1 on an error, 2 on wrong flags, 4 when asked for what this version does not do
//! (`tts` with another engine than the fake one).

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use workers_run::config::Cli;
use workers_run::serve::{ServeError, serve};

/// Trying again does not help.
const NOT_IN_THIS_VERSION: u8 = 4;

fn main() -> anyhow::Result<ExitCode> {
    let (component, args) = Cli::parse().command.parts();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("failed to start the async runtime")?;
    let _in_runtime = runtime.enter();
    let _guard = telemetry::init(&args.telemetry.config("smallest-worker"))?;
    match runtime.block_on(serve(component, args)) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error @ ServeError::NoSynthesis) => {
            tracing::error!(%error, "the worker ended");
            Ok(ExitCode::from(NOT_IN_THIS_VERSION))
        }
        Err(error) => {
            tracing::error!(%error, "the worker ended");
            Err(error.into())
        }
    }
}
