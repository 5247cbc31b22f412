//! `smallest bench service`: how long a whole service takes to be ready, and what it costs while nobody calls.
//!
//! Comes in: the file of a service. It is started several times by this very program, on free ports, from nothing to the
//! moment when every program is ready. The last one then stays alone for a while, and the kernel tells how much CPU
//! `smallest up` and all that it started have used. Goes out: a table and rows, as with `bench asr`.

use super::stats::Distribution;
use super::{BenchError, machine, report};
use crate::args::BenchServiceArgs;
use crate::error::CliError;
use report::Row;
use std::collections::BTreeMap;
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// From the start of `smallest up` until everything is ready.
const READY_GOAL_S: f64 = 3.0;
/// Of one core, all programs together.
const IDLE_GOAL_PERCENT: f64 = 1.0;
/// The last work of the start is over by then.
const SETTLE: Duration = Duration::from_secs(3);
/// Clock ticks in a second, as Linux reports CPU times.
const TICKS_A_SECOND: f64 = 100.0;
/// What `up` runs once all is ready: says so, and waits until its input ends.
const WHEN_READY: [&str; 3] = ["sh", "-c", "echo ready; exec cat"];

/// Runs the command.
pub async fn run(args: BenchServiceArgs) -> Result<ExitCode, CliError> {
    let machine = machine::facts();
    println!("machine: {machine}");
    let name = args.file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let (mut starts, mut idle) = (Vec::new(), Vec::new());
    for repeat in 1..=args.repeats {
        let Started { mut up, output, took } = start(&args).await?;
        println!("start {repeat}: ready after {:.2} s", took.as_secs_f64());
        starts.push(took.as_secs_f32());
        if repeat == args.repeats && args.idle_seconds > 0 {
            tokio::time::sleep(SETTLE).await;
            idle = idle_rows(&name, up.id().unwrap_or_default(), args.idle_seconds).await;
        }
        drop(up.stdin.take());
        up.wait().await.map_err(|error| failed(&args, &error.to_string()))?;
        // Until the end: whoever writes to a pipe that nobody holds fails.
        drop(output);
    }
    let starts = Distribution::of(&starts);
    let case = |what| format!("{name}: start to ready, {what} of {}", args.repeats);
    let mut rows = vec![
        Row::new("service", case("median"), starts.p50, "s").below(READY_GOAL_S),
        Row::new("service", case("worst"), starts.max, "s").below(READY_GOAL_S),
    ];
    rows.extend(idle);
    report::finish(&args.out, &rows, &machine)?;
    Ok(ExitCode::SUCCESS)
}

fn failed(args: &BenchServiceArgs, detail: &str) -> BenchError {
    BenchError::StartService { file: args.file.clone(), detail: detail.to_owned() }
}

/// A service that is ready; it stops when the input of `up` ends.
struct Started {
    up: Child,
    output: Lines<BufReader<ChildStdout>>,
    took: Duration,
}

/// Starts the service and waits until it is ready.
async fn start(args: &BenchServiceArgs) -> Result<Started, BenchError> {
    let program = std::env::current_exe().map_err(|error| failed(args, &error.to_string()))?;
    let began = Instant::now();
    let mut up = Command::new(program)
        .args(["up", "--ports", "free", "-f"])
        .arg(&args.file)
        .arg("--")
        .args(WHEN_READY)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| failed(args, &error.to_string()))?;
    let mut output = BufReader::new(up.stdout.take().expect("it is piped")).lines();
    // `up` bounds the wait itself, and ends its output when it gives up.
    while let Ok(Some(line)) = output.next_line().await {
        if line == "ready" {
            return Ok(Started { up, output, took: began.elapsed() });
        }
    }
    let status = up.wait().await.map_err(|error| failed(args, &error.to_string()))?;
    Err(failed(args, &format!("smallest up gave up before it was ready, {status}")))
}

/// The CPU that each program and all together use while nobody calls.
async fn idle_rows(name: &str, up: u32, seconds: u64) -> Vec<Row> {
    let (before, began) = (family(up), Instant::now());
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let (after, took) = (family(up), began.elapsed().as_secs_f64());
    let mut rows = Vec::new();
    let mut all = 0;
    for (pid, process) in after {
        let used = process.ticks - before.get(&pid).map_or(0, |earlier| earlier.ticks);
        all += used;
        let case = format!("{name}: idle for {seconds} s, {}", process.command);
        rows.push(Row::new("service", case, percent(used, took), "% of a core"));
    }
    let case = format!("{name}: idle for {seconds} s, all programs together");
    rows.push(Row::new("service", case, percent(all, took), "% of a core").below(IDLE_GOAL_PERCENT));
    rows
}

fn percent(ticks: u64, seconds: f64) -> f64 {
    100.0 * ticks as f64 / TICKS_A_SECOND / seconds
}

/// One process, as the kernel tells.
#[derive(Debug, PartialEq, Eq)]
struct Process {
    command: String,
    parent: u32,
    /// User and system time so far.
    ticks: u64,
}

impl Process {
    /// From `/proc/PID/stat`.
    fn parse(stat: &str) -> Option<Self> {
        // The name in parentheses may hold anything, so it ends at the last one.
        let (head, tail) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = tail.split_whitespace().collect();
        let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
        Some(Self {
            command: head.split_once('(')?.1.to_owned(),
            parent: number(1)? as u32,
            ticks: number(11)? + number(12)?,
        })
    }
}

/// A process and all its descendants, by process id.
fn family(root: u32) -> BTreeMap<u32, Process> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let all = entries.filter_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        Some((pid, Process::parse(&std::fs::read_to_string(entry.path().join("stat")).ok()?)?))
    });
    descendants(all.collect(), root)
}

fn descendants(mut all: BTreeMap<u32, Process>, root: u32) -> BTreeMap<u32, Process> {
    let mut found = BTreeMap::new();
    let mut next = vec![root];
    while let Some(pid) = next.pop() {
        next.extend(all.iter().filter(|(_, process)| process.parent == pid).map(|(child, _)| *child));
        found.extend(all.remove_entry(&pid));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_whatever_its_name() {
        let stat = "42 (a (b) c) S 7 42 42 0 -1 4194560 100 0 0 0 12 30 0 0 20 0 9 0 1 2 3";
        let expected = Process { command: "a (b) c".into(), parent: 7, ticks: 42 };
        assert_eq!(Process::parse(stat), Some(expected));
        assert_eq!(Process::parse("42 (cut off"), None);
    }

    #[test]
    fn a_family_is_a_process_with_all_below_it() {
        let process = |parent| Process { command: String::new(), parent, ticks: 0 };
        let all = [(1, 0), (2, 1), (3, 2), (4, 2), (5, 4), (6, 1)];
        let all = all.into_iter().map(|(pid, parent)| (pid, process(parent))).collect();
        assert_eq!(descendants(all, 2).into_keys().collect::<Vec<_>>(), [2, 3, 4, 5]);
        assert!(family(std::process::id()).contains_key(&std::process::id()));
    }
}
