//! The launcher between `up` and a program: ties the program's life to the supervisor's, then becomes it.
//!
//! Comes in: the supervisor's process id and a command. Goes out: nothing, `exec` replaces this process.
//! Linux kills a process with a *parent death signal* when the thread that started it ends, even by
//! `SIGKILL`. Asking for it between fork and exec in the supervisor needs unsafe code; asking for it here,
//! in a process of our own just before `exec`, does not, and the setting survives `exec`.

use crate::args::LaunchArgs;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::getppid;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Why a program could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The kernel refused to tie the lives together.
    #[error("failed to tie the program's life to its supervisor's")]
    TieLives(#[source] nix::Error),
    /// The supervisor ended before this process asked for the signal.
    #[error("failed to start {program}: the supervisor is already gone")]
    FindParent {
        /// The program.
        program: String,
    },
    /// There is no such program, or it cannot be run.
    #[error("failed to start {program}: {hint}")]
    StartProgram {
        /// The program.
        program: String,
        /// What to do.
        hint: &'static str,
        /// The system's word.
        #[source]
        source: std::io::Error,
    },
}

impl LaunchError {
    /// A stable word for logs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::TieLives(_) => "TieLives",
            Self::FindParent { .. } => "FindParent",
            Self::StartProgram { .. } => "StartProgram",
        }
    }
}

/// Replaces this process by the program; returns only when that failed.
pub fn become_program(args: &LaunchArgs) -> LaunchError {
    let [program, rest @ ..] = args.command.as_slice() else {
        unreachable!("clap requires a command");
    };
    let name = program.to_string_lossy().into_owned();
    // SIGKILL and not SIGTERM: whoever killed the supervisor wants everything gone, and nobody is left
    // to bound a drain. Nothing is lost: Redis is the programs' only state and is safe to clear.
    if let Err(source) = prctl::set_pdeathsig(Signal::SIGKILL) {
        return LaunchError::TieLives(source);
    }
    // The supervisor may have died before the line above; then no signal will ever come.
    if getppid().as_raw() != args.parent {
        return LaunchError::FindParent { program: name };
    }
    let source = Command::new(program).args(rest).exec();
    LaunchError::StartProgram { hint: hint(&name), program: name, source }
}

fn hint(program: &str) -> &'static str {
    if program.ends_with("redis-server") {
        "install it (Debian: apt-get install redis-server)"
    } else {
        "build it with `make build`; programs are looked for beside `smallest` and in PATH"
    }
}
