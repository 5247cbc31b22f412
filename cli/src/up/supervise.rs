//! Keeps programs running: start in order, restart after a crash, stop in reverse order.
//!
//! Comes in: [`Program`]s. Goes out: their [`State`]s, their log lines. Each program has one task, which
//! owns the child process. Children run in process groups of their own, so that Ctrl-C on the terminal
//! reaches only the supervisor, and it decides the order in which the others stop.

use super::backoff::Backoff;
use super::logs::Logs;
use crate::terminal::Paint;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use operator_plan::local::Program;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::BufReader;
use tokio::process::{Child, Command};
use tokio::sync::watch;

/// Crashes in a row before the first readiness after which a program is given up.
const CRASHES_BEFORE_READY: u32 = 5;

/// Where a program stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Its process runs.
    Runs {
        /// Process id.
        pid: u32,
        /// Starts so far, less one.
        restarts: u32,
    },
    /// It crashed and waits to be started again.
    Waits {
        /// How it ended.
        ended: String,
    },
    /// It crashed too often before it was ever ready, or cannot be started at all.
    GivenUp {
        /// How it ended.
        ended: String,
    },
    /// It was stopped.
    Stopped,
}

/// One program under supervision.
#[derive(Debug)]
pub struct Supervised {
    program: Arc<Program>,
    state: watch::Receiver<State>,
    orders: Arc<watch::Sender<Orders>>,
}

/// Watches one program.
#[derive(Debug)]
pub struct Watcher {
    program: Arc<Program>,
    state: watch::Receiver<State>,
    orders: Arc<watch::Sender<Orders>>,
}

impl Watcher {
    /// What is run.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Where it stands now.
    pub fn state(&mut self) -> State {
        self.state.borrow_and_update().clone()
    }

    /// Waits until its state changes.
    pub async fn changed(&mut self) {
        let _ = self.state.changed().await;
    }

    /// Notes that it was ready once: from now on it is restarted for ever.
    pub fn was_ready(&self) {
        self.orders.send_modify(|orders| orders.was_ready = true);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Orders {
    /// It was ready once: from now on it is restarted for ever.
    was_ready: bool,
    stop: Option<Duration>,
}

impl Supervised {
    /// Starts a program through the launcher at `launcher` (the `smallest` executable).
    pub fn start(program: Program, launcher: PathBuf, paint: Paint, logs: Logs) -> Self {
        let program = Arc::new(program);
        let (states, state) = watch::channel(State::Waits { ended: "not started yet".into() });
        let (orders, their_orders) = watch::channel(Orders { was_ready: false, stop: None });
        let keeper = Keeper {
            program: program.clone(),
            launcher,
            paint,
            logs,
            states,
            orders: their_orders,
            restarts: 0,
        };
        tokio::spawn(keeper.keep_running());
        Self { program, state, orders: Arc::new(orders) }
    }

    /// What is run.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Where it stands now and from now on.
    pub fn state(&self) -> watch::Receiver<State> {
        self.state.clone()
    }

    /// Somebody who watches it, and tells it that it was ready.
    pub fn watcher(&self) -> Watcher {
        Watcher { program: self.program.clone(), state: self.state.clone(), orders: self.orders.clone() }
    }

    /// Orders it to stop: SIGTERM, then SIGKILL to the whole process group when the drain time is over.
    /// A second order with no time left kills at once.
    pub fn order_stop(&self, drain: Duration) {
        self.orders.send_modify(|orders| orders.stop = Some(drain));
    }

    /// Waits until no process of it is left.
    pub async fn stopped(&self) {
        let mut states = self.state.clone();
        // An error means that the task is gone, and its child with it (kill on drop).
        let _ = states.wait_for(|state| matches!(state, State::Stopped | State::GivenUp { .. })).await;
    }
}

struct Keeper {
    program: Arc<Program>,
    launcher: PathBuf,
    paint: Paint,
    logs: Logs,
    states: watch::Sender<State>,
    orders: watch::Receiver<Orders>,
    restarts: u32,
}

impl Keeper {
    async fn keep_running(mut self) {
        let mut backoff = Backoff::default();
        while self.orders.borrow().stop.is_none() {
            let started = Instant::now();
            let ended = match self.spawn() {
                Ok(mut child) => match self.watch(&mut child).await {
                    Some(status) => describe(status),
                    None => break,
                },
                Err(error) => format!("could not be started: {error}"),
            };
            let wait = backoff.after_crash(started.elapsed());
            if !self.orders.borrow().was_ready && backoff.crashes() >= CRASHES_BEFORE_READY {
                self.states.send_replace(State::GivenUp { ended });
                return;
            }
            let note = format!("{} {ended}; starts again in {} s", self.program.name, wait.as_secs_f32());
            self.logs.note(note).await;
            self.states.send_replace(State::Waits { ended });
            let _ = tokio::time::timeout(wait, ordered(&mut self.orders)).await;
            self.restarts += 1;
        }
        self.states.send_replace(State::Stopped);
    }

    fn spawn(&self) -> std::io::Result<Child> {
        let program = &self.program;
        let mut child = Command::new(&self.launcher)
            .args(["launch", "--parent", &std::process::id().to_string(), "--"])
            .arg(find_program(&program.command, &self.launcher))
            .args(&program.args)
            .envs(program.env.iter().map(|(name, value)| (name, value.expose())))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let name: Arc<str> = program.name.as_str().into();
        if let Some(output) = child.stdout.take() {
            tokio::spawn(self.logs.clone().copy(name.clone(), self.paint, BufReader::new(output)));
        }
        if let Some(output) = child.stderr.take() {
            tokio::spawn(self.logs.clone().copy(name, self.paint, BufReader::new(output)));
        }
        let pid = child.id().unwrap_or_default();
        self.states.send_replace(State::Runs { pid, restarts: self.restarts });
        Ok(child)
    }

    /// Waits until the child ends by itself (`Some`) or was ended by order (`None`).
    async fn watch(&mut self, child: &mut Child) -> Option<ExitStatus> {
        let group = child.id().map(|pid| Pid::from_raw(pid as i32));
        let drain = tokio::select! {
            status = child.wait() => {
                // What it may have started itself goes with it.
                signal_group(group, Signal::SIGKILL);
                return Some(status.unwrap_or_default());
            }
            drain = ordered(&mut self.orders) => drain,
        };
        signal_group(group, Signal::SIGTERM);
        tokio::select! {
            _ = child.wait() => {}
            () = tokio::time::sleep(drain) => {
                let note = format!("{} did not stop within {} s: killed", self.program.name, drain.as_secs_f32());
                self.logs.note(note).await;
            }
            // The second order: no patience left.
            () = ordered_at_once(&mut self.orders) => {}
        }
        signal_group(group, Signal::SIGKILL);
        let _ = child.wait().await;
        None
    }
}

/// Waits for the order to stop; the drain time comes back. A supervisor that is gone has none to give.
async fn ordered(orders: &mut watch::Receiver<Orders>) -> Duration {
    orders
        .wait_for(|orders| orders.stop.is_some())
        .await
        .map_or(None, |orders| orders.stop)
        .unwrap_or_default()
}

/// Waits for the order to stop without any patience.
async fn ordered_at_once(orders: &mut watch::Receiver<Orders>) {
    let _ = orders.wait_for(|orders| orders.stop == Some(Duration::ZERO)).await;
}

fn signal_group(group: Option<Pid>, signal: Signal) {
    if let Some(group) = group {
        // An error means that the group is already empty.
        let _ = killpg(group, signal);
    }
}

/// The program beside the launcher, else its bare name for `PATH`.
fn find_program(command: &str, launcher: &Path) -> PathBuf {
    let beside = std::fs::canonicalize(launcher).ok().and_then(|path| Some(path.parent()?.join(command)));
    beside.filter(|path| path.is_file()).unwrap_or_else(|| PathBuf::from(command))
}

fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal().map(Signal::try_from)) {
        (Some(code), _) => format!("ended with status {code}"),
        (None, Some(Ok(signal))) => format!("was ended by {signal}"),
        _ => "ended".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    #[test]
    fn the_end_of_a_program_is_told_in_words() {
        assert_eq!(describe(ExitStatus::from_raw(0x0300)), "ended with status 3");
        assert_eq!(describe(ExitStatus::from_raw(9)), "was ended by SIGKILL");
    }

    #[test]
    fn programs_beside_the_launcher_come_before_those_in_the_path() {
        let dir = tempfile::tempdir().unwrap();
        let launcher = dir.path().join("smallest");
        std::fs::write(&launcher, "").unwrap();
        std::fs::write(dir.path().join("smallest-gateway"), "").unwrap();
        let dir = std::fs::canonicalize(dir.path()).unwrap();
        assert_eq!(find_program("smallest-gateway", &launcher), dir.join("smallest-gateway"));
        assert_eq!(find_program("redis-server", &launcher), PathBuf::from("redis-server"));
    }
}
