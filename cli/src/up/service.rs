//! The running service: its supervised programs, its log, its state file.
//!
//! Comes in: programs in order. Goes out: a service in which every program was ready once, or the first
//! program that was not and why. Stopping goes the other way round.

use super::logs::Logs;
use super::plan::Deployment;
use super::probe::Prober;
use super::program::{Probe, Program};
use super::run_state::{Claim, ProgramState, RunState};
use super::supervise::{State, Supervised};
use super::{Signals, UpError};
use crate::terminal::{Paint, Palette};
use futures::StreamExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::WatchStream;

/// Between two probes of a program that starts.
const PROBE_EVERY: Duration = Duration::from_millis(50);
/// The executable of this very process, also when the file was replaced or removed meanwhile.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// A service that starts, runs or stops.
#[derive(Debug)]
pub(super) struct LocalService {
    programs: Vec<Supervised>,
    logs: Logs,
    writer: JoinHandle<()>,
    prober: Prober,
    claim: Option<Claim>,
    state: RunState,
    state_writer: Option<JoinHandle<()>>,
}

impl LocalService {
    /// Nothing started yet.
    pub(super) fn new(claim: Claim, file: PathBuf, deployment: &Deployment) -> Result<Self, UpError> {
        let width = deployment.programs.iter().map(|program| program.name.len()).max().unwrap_or(0).max(8);
        let (logs, writer) = Logs::start(width, Palette::stderr());
        let state = RunState {
            deployment: deployment.name.clone(),
            supervisor: std::process::id(),
            file: std::fs::canonicalize(&file).unwrap_or(file),
            started_at_ms: now_ms(),
            url: deployment.url.clone(),
            programs: deployment.programs.iter().map(program_state).collect(),
        };
        let prober = Prober::new().map_err(UpError::PrepareProbes)?;
        Ok(Self { programs: Vec::new(), logs, writer, prober, claim: Some(claim), state, state_writer: None })
    }

    /// Starts the programs one after the other, each when the one before is ready.
    pub(super) async fn start(&mut self, programs: &[Program], patience: Duration) -> Result<(), UpError> {
        let began = tokio::time::Instant::now();
        for (index, program) in programs.iter().enumerate() {
            let paint = Paint::of_program(index);
            let supervised =
                Supervised::start(program.clone(), THIS_PROGRAM.into(), paint, self.logs.clone());
            self.programs.push(supervised);
            let supervised = self.programs.last().expect("one was pushed the line before");
            let since = tokio::time::Instant::now();
            self.await_ready(supervised, patience.saturating_sub(began.elapsed())).await?;
            supervised.was_ready();
            let ports = program.ports.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
            let took = since.elapsed().as_secs_f32();
            self.note(&format!("{} is ready after {took:.2} s (port {ports})", program.name)).await;
        }
        self.keep_state();
        self.note(&format!("everything is ready after {:.2} s", began.elapsed().as_secs_f32())).await;
        Ok(())
    }

    /// The log of all programs.
    pub(super) fn logs(&self) -> &Logs {
        &self.logs
    }

    /// Says something between the log lines.
    pub(super) async fn note(&self, text: &str) {
        self.logs.note(text).await;
    }

    /// Stops the programs in reverse order; another signal meanwhile ends the patience with them.
    pub(super) async fn stop(mut self, mut signals: Signals) {
        self.note("stopping; Ctrl-C again stops at once").await;
        let mut hurry = false;
        while let Some(supervised) = self.programs.pop() {
            let drain = if hurry { Duration::ZERO } else { supervised.program().drain };
            supervised.order_stop(drain);
            if !hurry {
                tokio::select! {
                    () = supervised.stopped() => continue,
                    () = signals.stop() => hurry = true,
                }
                supervised.order_stop(Duration::ZERO);
            }
            supervised.stopped().await;
        }
        self.note("everything is stopped").await;
        if let Some(state_writer) = self.state_writer.take() {
            state_writer.abort();
        }
        drop(self.logs);
        // The last lines: the writer ends when the programs' output does.
        let _ = tokio::time::timeout(Duration::from_secs(1), self.writer).await;
    }

    async fn await_ready(&self, supervised: &Supervised, patience: Duration) -> Result<(), UpError> {
        let program = supervised.program();
        let mut states = supervised.state();
        let mut last_why = String::new();
        let mut said = tokio::time::Instant::now();
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            if let State::GivenUp { ended } = &*states.borrow_and_update() {
                return Err(UpError::StartProgram { program: program.name.clone(), ended: ended.clone() });
            }
            match self.prober.check(&program.probe).await {
                Ok(()) => return Ok(()),
                Err(why) if tokio::time::Instant::now() >= deadline => {
                    let seconds = patience.as_secs();
                    return Err(UpError::AwaitProgram { program: program.name.clone(), seconds, why });
                }
                Err(why) => {
                    // A reason is told when it has stood for a while, and once.
                    if why != last_why {
                        (last_why, said) = (why, tokio::time::Instant::now());
                    } else if said.elapsed() >= Duration::from_secs(1) {
                        self.note(&format!("{} is not ready: {last_why}", program.name)).await;
                        said += Duration::from_hours(1);
                    }
                }
            }
            let _ = tokio::time::timeout(PROBE_EVERY, states.changed()).await;
        }
    }

    /// Keeps the state file up to date from now on.
    fn keep_state(&mut self) {
        let Some(claim) = self.claim.take() else { return };
        let receivers = self.programs.iter().map(Supervised::state).collect();
        self.state_writer =
            Some(tokio::spawn(write_states(claim, self.state.clone(), receivers, self.logs.clone())));
    }
}

async fn write_states(claim: Claim, mut state: RunState, receivers: Vec<watch::Receiver<State>>, logs: Logs) {
    let changes =
        receivers.into_iter().enumerate().map(|(i, states)| WatchStream::new(states).map(move |s| (i, s)));
    let mut changes = futures::stream::select_all(changes);
    while let Some((index, change)) = changes.next().await {
        let Some(program) = state.programs.get_mut(index) else { continue };
        program.pid = None;
        if let State::Runs { pid, restarts } = change {
            (program.pid, program.restarts) = (Some(pid), restarts);
        }
        if let Err(error) = claim.write(&state) {
            logs.note(format!("the state for `smallest status` cannot be written: {error}")).await;
        }
    }
}

fn program_state(program: &Program) -> ProgramState {
    let (probe_port, probe_path) = match &program.probe {
        Probe::Redis { port } => (*port, None),
        Probe::Http { port, path } => (*port, Some(path.clone())),
    };
    ProgramState {
        name: program.name.clone(),
        pid: None,
        restarts: 0,
        ports: program.ports.clone(),
        probe_port,
        probe_path,
    }
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
