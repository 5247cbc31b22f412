//! `smallest-operator`: a resource file → its plan, printed. It talks to no cluster: the loop that carries
//! plans out in Kubernetes is not part of this version, and the program says so instead of idling.

mod print;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};

/// What the program ends with when it is asked for what this version does not do.
const NOT_IN_THIS_VERSION: u8 = 4;

/// Plans a `SmallestDeployment`. Carrying plans out in Kubernetes is not part of this version.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Cli {
    /// Print the plan of this resource file as YAML; secrets stay hidden
    #[arg(long, value_name = "FILE")]
    print_plan: Option<PathBuf>,
    /// What the plan is for
    #[arg(long, value_enum, default_value_t = Target::Cluster, requires = "print_plan")]
    place: Target,
    #[command(flatten)]
    telemetry: telemetry::TelemetryArgs,
}

/// What a plan is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Target {
    /// Pods of a cluster.
    Cluster,
    /// Programs of this machine, as `smallest up` starts them.
    Local,
}

fn main() -> anyhow::Result<ExitCode> {
    let cli = Cli::parse();
    let config =
        telemetry::TelemetryConfig { otlp_endpoint: None, ..cli.telemetry.config("smallest-operator") };
    let _guard = telemetry::init(&config)?;
    if let Some(file) = cli.print_plan {
        print::plan(&file, cli.place)?;
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!(
        "failed to start: reconciling SmallestDeployments in Kubernetes is not part of version {}.\n\
         Run a deployment on this machine with `smallest up -f FILE`, or see its plan with --print-plan FILE.",
        telemetry::build_info().version
    );
    Ok(ExitCode::from(NOT_IN_THIS_VERSION))
}
