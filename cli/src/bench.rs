//! `smallest bench asr`: what a running service can do, measured from outside, through the public API;
//! [`service`]: what starting and keeping one costs.
//!
//! Live part: many sessions at the same time, each speaking recordings in real time, one after the other,
//! with jittered starts. Batch part: long recordings as fast as the service takes them. Every part also
//! counts word errors against what was really said, so that speed never hides garbage.
//! Goes out: a table for people, and one JSON object a row for machines. No figure passes or fails the
//! command: a missed goal is printed as missed.

mod batch;
mod live;
mod machine;
mod report;
mod samples;
pub mod service;
pub mod stats;

use crate::args::BenchAsrArgs;
use crate::client::ClientError;
use crate::error::{CliError, exit};
use report::Row;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// A service holds a number of streams while the 99th percentile of the chunk latency is below this.
const P99_GOAL_MS: f64 = 100.0;

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The samples cannot be used.
    #[error("failed to read samples in {}: {detail}", dir.display())]
    ReadSamples {
        /// The folder.
        dir: PathBuf,
        /// What is wrong and what is expected.
        detail: String,
    },
    /// The service told no positions.
    #[error("failed to find the steps of the model: a stream of 1.5 s was told fewer than two positions")]
    FindSteps,
    /// The service that was to be measured did not start.
    #[error("failed to start the service of {}: {detail}", file.display())]
    StartService {
        /// Its resource.
        file: PathBuf,
        /// What happened.
        detail: String,
    },
    /// The rows cannot be written.
    #[error("failed to write {}", path.display())]
    WriteRows {
        /// The file.
        path: PathBuf,
        /// The system's word.
        #[source]
        source: std::io::Error,
    },
    /// See [`ClientError`].
    #[error(transparent)]
    Client(#[from] ClientError),
}

impl BenchError {
    /// A stable word for logs.
    pub fn reason(&self) -> &str {
        match self {
            Self::ReadSamples { .. } => "ReadSamples",
            Self::FindSteps => "FindSteps",
            Self::StartService { .. } => "StartService",
            Self::WriteRows { .. } => "WriteRows",
            Self::Client(error) => error.reason(),
        }
    }

    /// The exit code that goes with it.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::ReadSamples { .. } => exit::BAD_INPUT,
            Self::FindSteps | Self::StartService { .. } | Self::WriteRows { .. } => exit::FAILED,
            Self::Client(error) => error.exit_code(),
        }
    }
}

/// Runs the command.
pub async fn run(args: BenchAsrArgs) -> Result<ExitCode, CliError> {
    let samples = samples::load(&args.samples)?;
    let machine = machine::facts();
    println!("machine: {machine}");
    let grid = live::calibrate(&args.service, &samples[0], args.lookahead).await?;
    println!(
        "look-ahead {}: a step takes {} ms of audio, the first {} ms",
        args.lookahead, grid.step_ms, grid.first_ms
    );
    let load = |streams| live::Load {
        streams,
        duration: Duration::from_secs(args.seconds),
        lookahead: args.lookahead,
        grid,
    };
    let mut rows: Vec<Row> = Vec::new();
    if args.find_capacity {
        rows.extend(find_capacity(&args, &samples, load).await?);
    } else {
        let outcome = live::run(&args.service, &samples, load(args.streams)).await?;
        rows.extend(report::live_rows(args.streams, grid.step_ms, &outcome));
    }
    if !args.no_batch {
        rows.extend(report::batch_rows(&batch::run(&args.service, &samples).await?));
    }
    if let Some(label) = &args.label {
        for row in &mut rows {
            row.label(label);
        }
    }
    report::finish(&args.out, &rows, &machine)?;
    Ok(ExitCode::SUCCESS)
}

/// Steps the streams up by a quarter until the goal is missed; the rows of the last good step come back.
async fn find_capacity(
    args: &BenchAsrArgs,
    samples: &[samples::Sample],
    load: impl Fn(u32) -> live::Load,
) -> Result<Vec<Row>, BenchError> {
    let mut held: Option<(u32, live::Outcome)> = None;
    let mut streams = args.streams;
    // 1.25^40 is more than 7,000 times the start: the loop ends long before.
    for _ in 0..40 {
        let outcome = live::run(&args.service, samples, load(streams)).await?;
        let p99 = stats::Distribution::of(&outcome.chunks_ms).p99;
        println!(
            "{streams} streams: chunk latency p99 {p99:.1} ms, {} failed sessions",
            outcome.failures.len()
        );
        if p99 >= P99_GOAL_MS || !outcome.failures.is_empty() {
            break;
        }
        held = Some((streams, outcome));
        streams += (streams / 4).max(1);
    }
    let (streams, outcome) = held.unwrap_or_default();
    let mut rows = vec![report::capacity_row(streams)];
    rows.extend(report::live_rows(streams, load(streams).grid.step_ms, &outcome));
    Ok(rows)
}
