//! Why a local service could not be started or kept.

use super::plan::PlanError;
use super::ports::Holder;
use super::run_state::ClaimError;
use crate::error::exit;
use std::path::PathBuf;

/// Why `smallest up` failed.
#[derive(Debug, thiserror::Error)]
pub enum UpError {
    /// See [`PlanError`].
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// See [`ClaimError`].
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// Somebody else listens on a port of the plan.
    #[error(
        "failed to start {program}: port {port} is taken by {}; stop that, or use --ports free",
        holder.as_ref().map_or_else(|| "another program".to_owned(), ToString::to_string)
    )]
    UsePort {
        /// The port.
        port: u16,
        /// The program that wants it.
        program: String,
        /// Who has it, where this user may know.
        holder: Option<Holder>,
    },
    /// A file of a program cannot be written.
    #[error("failed to write {}; set SMALLEST_STATE_DIR to a folder that can be written", path.display())]
    WriteFile {
        /// The file.
        path: PathBuf,
        /// The system's word.
        #[source]
        source: std::io::Error,
    },
    /// Signals cannot be heard.
    #[error("failed to listen for Ctrl-C")]
    Listen(#[source] std::io::Error),
    /// The probing client could not be made.
    #[error("failed to prepare the readiness probes")]
    PrepareProbes(#[source] reqwest::Error),
    /// A program ended again and again before it was ready.
    #[error("failed to start {program}: it {ended}, again and again; its last lines are above")]
    StartProgram {
        /// The program.
        program: String,
        /// How it ended the last time.
        ended: String,
    },
    /// A program runs but does not become ready.
    #[error("failed to start {program}: not ready after {seconds} s: {why}")]
    AwaitProgram {
        /// The program.
        program: String,
        /// How long was waited.
        seconds: u64,
        /// What its readiness says.
        why: String,
    },
    /// The demo's recording cannot be used.
    #[error("failed to read {}: {detail}", path.display())]
    ReadDemo {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// The command after `--` cannot be started.
    #[error("failed to run {command}")]
    RunCommand {
        /// The command.
        command: String,
        /// The system's word.
        #[source]
        source: std::io::Error,
    },
}

impl UpError {
    /// A stable word for logs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Plan(error) => error.reason(),
            Self::Claim(_) => "Claim",
            Self::UsePort { .. } => "UsePort",
            Self::WriteFile { .. } => "WriteFile",
            Self::Listen(_) => "Listen",
            Self::PrepareProbes(_) => "PrepareProbes",
            Self::StartProgram { .. } => "StartProgram",
            Self::AwaitProgram { .. } => "AwaitProgram",
            Self::ReadDemo { .. } => "ReadDemo",
            Self::RunCommand { .. } => "RunCommand",
        }
    }

    /// The exit code that goes with it.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Plan(_) | Self::ReadDemo { .. } => exit::BAD_INPUT,
            Self::Claim(ClaimError::Running { .. }) | Self::UsePort { .. } => exit::BUSY,
            _ => exit::FAILED,
        }
    }
}
