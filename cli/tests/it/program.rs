//! Runs the built `smallest` as a person or a script would, and brings back what it said.

use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

/// Nothing here takes longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What the program said and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// `smallest ARGS`, with pipes for everything and nothing of this machine's settings.
pub(crate) fn smallest(args: &[&str]) -> Command {
    piped(Command::new(env!("CARGO_BIN_EXE_smallest")), args)
}

/// The same on a pseudo-terminal, which `script` makes; what it prints there comes back as standard output.
pub(crate) fn on_a_terminal(args: &[&str]) -> Command {
    let line = [env!("CARGO_BIN_EXE_smallest")].iter().chain(args).map(|word| format!("'{word}'"));
    let line = line.collect::<Vec<_>>().join(" ");
    let mut command = piped(Command::new("script"), &["-q", "-e", "-c", &line, "/dev/null"]);
    command.env("TERM", "xterm");
    command
}

fn piped(mut command: Command, args: &[&str]) -> Command {
    for name in ["SMALLEST_URL", "SMALLEST_API_KEY", "NO_COLOR", "TERM"] {
        command.env_remove(name);
    }
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// Runs it to its end with `input` on standard input.
pub(crate) async fn run(mut command: Command, input: &[u8]) -> Said {
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A program that ends early does not read it all, which is for the test to judge.
    stdin.write_all(input).await.ok();
    drop(stdin);
    end(child).await
}

/// Waits for its end.
pub(crate) async fn end(child: Child) -> Said {
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
    let output = output.expect("the program ends in time").unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Said { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}
