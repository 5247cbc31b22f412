//! All errors of the commands in one place, and the exit code of each.

use crate::bench::BenchError;
use crate::client::ClientError;
use crate::launch::LaunchError;
use crate::model::ModelError;
use crate::status::StatusError;
use crate::transcribe::TranscribeError;
use crate::up::UpError;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The system gave no threads or no event queue.
    #[error("failed to start the runtime")]
    StartRuntime(#[source] std::io::Error),
    /// See [`LaunchError`].
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// See [`UpError`].
    #[error(transparent)]
    Up(#[from] UpError),
    /// See [`StatusError`].
    #[error(transparent)]
    Status(#[from] StatusError),
    /// See [`TranscribeError`].
    #[error(transparent)]
    Transcribe(#[from] TranscribeError),
    /// See [`BenchError`].
    #[error(transparent)]
    Bench(#[from] BenchError),
    /// See [`ModelError`].
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// The exit codes, as `--help` lists them.
pub mod exit {
    /// The work failed.
    pub const FAILED: u8 = 1;
    /// Nothing answers at the address.
    pub const UNREACHABLE: u8 = 3;
    /// The service refused: key, license, limit or overload.
    pub const REFUSED: u8 = 4;
    /// An input cannot be used.
    pub const BAD_INPUT: u8 = 5;
    /// A port is taken, or the deployment already runs.
    pub const BUSY: u8 = 6;
}

impl CliError {
    /// The exit code of the program.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::StartRuntime(_) | Self::Launch(_) => exit::FAILED,
            Self::Up(error) => error.exit_code(),
            Self::Status(error) => error.exit_code(),
            Self::Transcribe(error) => error.exit_code(),
            Self::Bench(error) => error.exit_code(),
            Self::Model(_) => exit::BAD_INPUT,
        }
    }
}

impl From<ClientError> for CliError {
    fn from(error: ClientError) -> Self {
        Self::Transcribe(error.into())
    }
}

impl From<crate::up::plan::PlanError> for CliError {
    fn from(error: crate::up::plan::PlanError) -> Self {
        Self::Up(error.into())
    }
}
