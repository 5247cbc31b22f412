//! `smallest`: the program on a person's terminal. Parses the command line, runs one command, tells the exit code.
//!
//! Everything else is in the library beside it, where tests can reach it.

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args = cli::args::Args::parse();
    match cli::run(args) {
        Ok(code) => code,
        Err(error) => cli::terminal::report(&error),
    }
}
