//! `smallest-operator`: configuration → telemetry → Lease, watches, workers; or a plan printed.
//!
//! ```text
//! apiserver ──watch──▶ index ──▶ desk ──▶ reconcile: fetch → validate → plan → desired → apply → status
//!     ▲                                                 │                          │        │
//!     └────────────── client (gate: only the holder of the Lease writes) ◀─────────┴────────┘
//! Redis ──scale──▶ readings: status, external metrics, 0 ↔ 1
//! ```

mod agenda;
mod apply;
mod client;
mod config;
mod desk;
mod error;
mod fetch;
mod index;
mod lease;
mod metric;
mod operate;
mod print;
mod random;
mod reconcile;
mod report;
mod scale;
#[cfg(test)]
mod scenario;
mod server;
mod targets;
mod watch;

use clap::Parser as _;

use crate::config::Cli;

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    if let Some(file) = &cli.print_plan {
        return print::plan(file, cli.place, &cli.images.place(&cli.run.pod_namespace));
    }
    if let Some(file) = &cli.print_objects {
        return print::objects(file, &cli.images.place(&cli.run.pod_namespace));
    }
    // One thread plans a thousand resources in less time than the apiserver takes for one of them.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(operate::operate(cli))
}
