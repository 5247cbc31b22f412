//! The running service: its supervised programs, its log, its state file.
//!
//! Comes in: programs in order. Goes out: a service in which every program was ready once, or the first
//! program that was not and why. Stopping goes the other way round.

use super::logs::Logs;
use super::probe::Prober;
use super::run_state::{Claim, ProgramState, RunState};
use super::supervise::{State, Supervised, Watcher};
use super::{Signals, UpError};
use crate::terminal::{Paint, Palette};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use operator_plan::local::{LocalRun, Probe, Program};
use std::collections::HashSet;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
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
    pub(super) fn new(claim: Claim, file: PathBuf, deployment: &LocalRun) -> Result<Self, UpError> {
        let width = deployment.programs.iter().map(|program| program.name.len()).max().unwrap_or(0).max(8);
        let (logs, writer) = Logs::start(width, Palette::stderr());
        let state = RunState {
            deployment: deployment.deployment.clone(),
            supervisor: std::process::id(),
            file: std::fs::canonicalize(&file).unwrap_or(file),
            started_at_ms: now_ms(),
            url: deployment.url.clone(),
            programs: deployment.programs.iter().map(program_state).collect(),
        };
        let prober = Prober::new().map_err(UpError::PrepareProbes)?;
        Ok(Self { programs: Vec::new(), logs, writer, prober, claim: Some(claim), state, state_writer: None })
    }

    /// Starts the programs in order, each as soon as those that it needs are ready; returns when all are.
    pub(super) async fn start(&mut self, programs: &[Program], patience: Duration) -> Result<(), UpError> {
        let began = Instant::now();
        let deadline = began + patience;
        let mut ready: HashSet<&str> = HashSet::new();
        let mut starting = FuturesUnordered::new();
        let mut waiting: Vec<(usize, &Program)> = programs.iter().enumerate().collect();
        while ready.len() < programs.len() {
            let (startable, others) = waiting
                .into_iter()
                .partition(|(_, program)| program.after.iter().all(|name| ready.contains(&**name)));
            waiting = others;
            let startable: Vec<(usize, &Program)> = startable;
            for (index, program) in startable {
                let supervised = Supervised::start(
                    program.clone(),
                    THIS_PROGRAM.into(),
                    Paint::of_program(index),
                    self.logs.clone(),
                );
                let (prober, logs) = (self.prober.clone(), self.logs.clone());
                starting.push(await_ready(supervised.watcher(), prober, logs, deadline));
                self.programs.push(supervised);
            }
            // A plan whose programs wait for each other in a circle ends here instead of never.
            let Some(name) = starting.next().await else { break };
            let name = name?;
            if let Some(program) = programs.iter().find(|program| program.name == name) {
                ready.insert(&program.name);
            }
        }
        self.keep_state().await;
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
            let drain = if hurry {
                Duration::ZERO
            } else {
                Duration::from_secs(supervised.program().drain_seconds.into())
            };
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

    /// Writes the state file, and keeps it up to date from now on.
    async fn keep_state(&mut self) {
        let Some(claim) = self.claim.take() else { return };
        let programs = self.programs.iter().map(|program| (program.program().name.clone(), program.state()));
        let kept = KeptState { claim, state: self.state.clone(), logs: self.logs.clone() };
        self.state_writer = Some(tokio::spawn(kept.keep(programs.collect()).await));
    }
}

/// Probes a program until it is ready; its name comes back.
async fn await_ready(
    mut program: Watcher,
    prober: Prober,
    logs: Logs,
    deadline: Instant,
) -> Result<String, UpError> {
    let began = Instant::now();
    let name = program.program().name.clone();
    let mut why = String::new();
    let mut said = false;
    loop {
        if let State::GivenUp { ended } = program.state() {
            return Err(UpError::StartProgram { program: name, ended });
        }
        match prober.check(&program.program().probe).await {
            Ok(()) => break,
            Err(_) if Instant::now() >= deadline => {
                let seconds = began.elapsed().as_secs();
                return Err(UpError::AwaitProgram { program: name, seconds, why });
            }
            // A reason is told once, when it has stood for a second.
            Err(now) if now == why => {
                if !said && began.elapsed() >= Duration::from_secs(1) {
                    logs.note(format!("{name} is not ready: {why}")).await;
                    said = true;
                }
            }
            Err(now) => (why, said) = (now, false),
        }
        let _ = tokio::time::timeout(PROBE_EVERY, program.changed()).await;
    }
    program.was_ready();
    let ports = program.program().ports.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
    logs.note(format!("{name} is ready after {:.2} s (port {ports})", began.elapsed().as_secs_f32())).await;
    Ok(name)
}

/// The state file, and who writes it.
struct KeptState {
    claim: Claim,
    state: RunState,
    logs: Logs,
}

impl KeptState {
    /// Writes down where all programs stand now, in one piece: whoever finds the file finds every process in
    /// it. What comes back writes down each change.
    async fn keep(mut self, programs: Vec<(String, watch::Receiver<State>)>) -> impl Future<Output = ()> {
        let mut changes = Vec::with_capacity(programs.len());
        for (name, mut states) in programs {
            self.note(&name, &states.borrow_and_update());
            changes.push(WatchStream::from_changes(states).map(move |state| (name.clone(), state)));
        }
        self.write().await;
        async move {
            let mut changes = futures::stream::select_all(changes);
            while let Some((name, state)) = changes.next().await {
                self.note(&name, &state);
                self.write().await;
            }
        }
    }

    fn note(&mut self, name: &str, now: &State) {
        let Some(program) = self.state.programs.iter_mut().find(|program| program.name == name) else {
            return;
        };
        program.pid = None;
        if let State::Runs { pid, restarts } = *now {
            (program.pid, program.restarts) = (Some(pid), restarts);
        }
    }

    async fn write(&self) {
        if let Err(error) = self.claim.write(&self.state) {
            let text = format!("the state for `smallest status` cannot be written: {error}");
            self.logs.note(text).await;
        }
    }
}

fn program_state(program: &Program) -> ProgramState {
    let (probe_port, probe_path) = match &program.probe {
        Probe::Redis { port } => (*port, None),
        Probe::Http { port, path } => (*port, Some((*path).to_owned())),
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

#[cfg(test)]
mod tests {
    use super::super::run_state::{claim, read_all};
    use super::*;

    fn program(name: &str) -> ProgramState {
        ProgramState {
            name: name.into(),
            pid: None,
            restarts: 0,
            ports: Vec::new(),
            probe_port: 1,
            probe_path: None,
        }
    }

    fn pids(folder: &std::path::Path) -> Vec<Option<u32>> {
        read_all(folder).iter().flat_map(|state| &state.programs).map(|program| program.pid).collect()
    }

    /// Found by a test of the whole service: between the first write and the last, `smallest status` saw
    /// programs that ran as programs that did not.
    #[tokio::test]
    async fn the_first_state_names_every_process_and_later_ones_each_change() {
        let folder = tempfile::tempdir().unwrap();
        let state = RunState {
            deployment: "default/one".into(),
            supervisor: 1,
            file: "a.yaml".into(),
            started_at_ms: 1,
            url: String::new(),
            programs: ["redis", "asr", "gateway"].map(program).into(),
        };
        let claim = claim(folder.path(), "default/one").unwrap();
        let (logs, _writer) = Logs::start(8, Palette::stderr());
        // In the order of their starts, which need not be the plan's.
        let (senders, programs): (Vec<_>, Vec<_>) = [("redis", 10), ("gateway", 12), ("asr", 11)]
            .map(|(name, pid)| {
                let (sender, states) = watch::channel(State::Runs { pid, restarts: 0 });
                (sender, (name.to_owned(), states))
            })
            .into_iter()
            .unzip();
        let mut keep = std::pin::pin!(KeptState { claim, state, logs }.keep(programs).await);
        assert_eq!(pids(folder.path()), [Some(10), Some(11), Some(12)]);

        senders[2].send_replace(State::Waits { ended: "ended with status 3".into() });
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(keep.as_mut().poll(&mut context).is_pending(), "it goes on while programs are kept");
        assert_eq!(pids(folder.path()), [Some(10), None, Some(12)]);
        drop(senders);
        keep.await;
    }
}
