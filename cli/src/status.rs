//! `smallest status`: how the services that run on this machine are.
//!
//! Comes in: the state files that `up` keeps, the programs' readiness and their metrics. Goes out: tables,
//! or one JSON document. Asks only programs on this machine, over the ports in the state files.

mod metrics;

use crate::args::StatusArgs;
use crate::error::{CliError, exit};
use crate::terminal::{self, Paint, Palette};
use crate::up::probe::Prober;
use crate::up::run_state::{self, RunState};
use metrics::Summary;
use serde::Serialize;
use std::process::ExitCode;

/// Why the status cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// The probing client could not be made.
    #[error("failed to prepare the readiness probes")]
    PrepareProbes(#[source] reqwest::Error),
    /// The document could not be made.
    #[error("failed to write the status as JSON")]
    WriteJson(#[source] serde_json::Error),
}

impl StatusError {
    /// A stable word for logs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::PrepareProbes(_) => "PrepareProbes",
            Self::WriteJson(_) => "WriteJson",
        }
    }

    /// The exit code that goes with it.
    pub fn exit_code(&self) -> u8 {
        exit::FAILED
    }
}

/// One deployment as it is now.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    #[serde(flatten)]
    state: RunState,
    /// In the order of `programs`: none is ready, else why not.
    not_ready: Vec<Option<String>>,
    #[serde(flatten)]
    summary: Summary,
}

/// Prints the status; exit code 1 when something is not ready, 3 when nothing runs.
pub async fn run(args: StatusArgs) -> Result<ExitCode, CliError> {
    let prober = Prober::new().map_err(StatusError::PrepareProbes)?;
    let mut statuses = Vec::new();
    for state in run_state::read_all(&run_state::folder()) {
        statuses.push(look(&prober, state).await);
    }
    if args.json {
        println!("{}", as_json(&statuses));
    } else {
        print(&statuses);
    }
    let ready = statuses.iter().all(|status| status.not_ready.iter().all(Option::is_none));
    Ok(match (statuses.is_empty(), ready) {
        (true, _) => ExitCode::from(exit::UNREACHABLE),
        (false, true) => ExitCode::SUCCESS,
        (false, false) => ExitCode::from(exit::FAILED),
    })
}

fn as_json(statuses: &[Status]) -> String {
    serde_json::to_string_pretty(statuses).expect("strings and numbers always serialize")
}

async fn look(prober: &Prober, state: RunState) -> Status {
    let mut not_ready = Vec::new();
    let mut exposition = String::new();
    for program in &state.programs {
        let ready = match &program.probe_path {
            None => prober.ping(program.probe_port).await,
            Some(path) => prober.get(program.probe_port, path).await.map(|_| ()),
        };
        not_ready.push(ready.err());
        if program.probe_path.is_some() {
            for port in &program.ports {
                exposition.push_str(&prober.get(*port, "/metrics").await.unwrap_or_default());
                exposition.push('\n');
            }
        }
    }
    Status { state, not_ready, summary: Summary::of(&exposition) }
}

fn print(statuses: &[Status]) {
    let palette = Palette::stdout();
    if statuses.is_empty() {
        println!("nothing runs here; start a service with: smallest up -f examples/quickstart.yaml");
    }
    for status in statuses {
        let state = &status.state;
        let started = palette
            .paint(Paint::Dim, &format!("(process {}, from {})", state.supervisor, state.file.display()));
        println!("{} at {} {started}", palette.paint(Paint::Bold, &state.deployment), state.url);
        let mut table = terminal::table(&["program", "ready", "ports", "process", "restarts"]);
        for (program, why) in state.programs.iter().zip(&status.not_ready) {
            let ready = match why {
                None => palette.paint(Paint::Green, "yes"),
                Some(why) => palette.paint(Paint::Red, &format!("no: {why}")),
            };
            let ports = program.ports.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
            let pid = program.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
            table.add_row([program.name.clone(), ready, ports, pid, program.restarts.to_string()]);
        }
        println!("{table}");
        for (what, figure) in status.summary.lines() {
            println!("{what:<14}{figure}");
        }
        println!();
    }
}
