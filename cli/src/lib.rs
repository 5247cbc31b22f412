//! The library of `smallest`, the command line of the platform.
//!
//! Each command is one module: [`up`] runs a whole service on this machine from a `SmallestDeployment`,
//! [`demo`] speaks a sentence at it, [`status`] tells how it is, [`transcribe`] sends recordings or live
//! audio, [`bench`] measures, [`model`] names a model folder by its digest. They share [`client`] (the
//! public API), [`wav`] (audio files) and [`terminal`] (colour, tables, exit codes).
//! Nothing here knows Redis keys, engines or Kubernetes clients.

pub mod args;
pub mod bench;
pub mod client;
pub mod demo;
pub mod error;
pub mod launch;
pub mod model;
pub mod status;
pub mod terminal;
pub mod transcribe;
pub mod up;
pub mod wav;

use args::{Args, BenchCommand, Command, ModelCommand};
use clap::CommandFactory;
use error::CliError;
use std::process::ExitCode;

/// Runs one command to its end.
///
/// `up` and the launcher run on one thread: a child's life is tied to the *thread* that started it
/// (see [`launch`]), so that thread must be the main one.
pub fn run(args: Args) -> Result<ExitCode, CliError> {
    match args.command {
        Command::Launch(args) => Err(launch::become_program(&args).into()),
        Command::Up(args) => one_thread()?.block_on(up::run(args)),
        Command::Status(args) => one_thread()?.block_on(status::run(args)),
        Command::Transcribe(args) => one_thread()?.block_on(transcribe::run(args)),
        Command::Bench { what: BenchCommand::Asr(args) } => all_threads()?.block_on(bench::run(args)),
        Command::Bench { what: BenchCommand::Service(args) } => {
            one_thread()?.block_on(bench::service::run(args))
        }
        Command::Model { what: ModelCommand::Digest(args) } => model::run(&args),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut shown_commands(), "smallest", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// The commands for people: the generators of completions would offer hidden ones as well.
fn shown_commands() -> clap::Command {
    let all = Args::command();
    let shown = all.get_subcommands().filter(|command| !command.is_hide_set()).cloned();
    clap::Command::new("smallest").version(env!("CARGO_PKG_VERSION")).subcommands(shown)
}

fn one_thread() -> Result<tokio::runtime::Runtime, CliError> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(CliError::StartRuntime)
}

fn all_threads() -> Result<tokio::runtime::Runtime, CliError> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(CliError::StartRuntime)
}
