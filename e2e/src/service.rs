//! One running service: `smallest up` as a child, its state file, its processes.

use crate::{PATIENCE, Resource, eventually, program};
use anyhow::Context;
use cli::args;
use cli::up::run_state::{RunState, read_all};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};

/// A service that runs until it is dropped.
#[derive(Debug)]
pub struct Service {
    /// Address of the gateway, once it is ready.
    pub url: String,
    dir: TempDir,
    up: Child,
    log: Log,
}

/// Everything that `smallest up` printed, by lines.
type Log = Arc<Mutex<Vec<String>>>;

/// Keeps what a child prints.
async fn keep(output: Option<impl AsyncRead + Unpin>, log: Log) {
    let Some(output) = output else { return };
    let mut lines = BufReader::new(output).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Ok(mut log) = log.lock() {
            log.push(line);
        }
    }
}

impl Service {
    /// Starts a service and waits until every program is ready.
    pub async fn start(resource: &Resource) -> anyhow::Result<Self> {
        Self::start_with(resource, &[]).await
    }

    /// Starts a service with further environment variables.
    pub async fn start_with(resource: &Resource, env: &[(&str, &str)]) -> anyhow::Result<Self> {
        let mut service = Self::spawn(resource, env)?;
        service.ready().await?;
        Ok(service)
    }

    /// Starts a service without waiting for anything.
    pub fn spawn(resource: &Resource, env: &[(&str, &str)]) -> anyhow::Result<Self> {
        Self::spawn_with(resource, env, &[])
    }

    /// The same with further flags of `smallest up`.
    pub fn spawn_with(resource: &Resource, env: &[(&str, &str)], flags: &[&str]) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let file = resource.write(dir.path())?;
        let mut up = up_command(&file, dir.path(), &[&["--ports", "free"], flags].concat())?
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let log = Log::default();
        tokio::spawn(keep(up.stdout.take(), log.clone()));
        tokio::spawn(keep(up.stderr.take(), log.clone()));
        Ok(Self { url: String::new(), dir, up, log })
    }

    /// Waits until every program was ready.
    pub async fn ready(&mut self) -> anyhow::Result<()> {
        let started = eventually("the service is ready", || async {
            let ended = self.log_has("error:");
            (self.state().is_some() || ended).then_some(())
        });
        started.await.with_context(|| self.log_text())?;
        let state = self.state().with_context(|| format!("smallest up failed:\n{}", self.log_text()))?;
        self.url = state.url;
        Ok(())
    }

    /// What `smallest status` reads; nothing before every program was ready.
    pub fn state(&self) -> Option<RunState> {
        read_all(&self.state_dir()).into_iter().next()
    }

    /// The folder with the service's state and files.
    pub fn state_dir(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// The resource file.
    pub fn file(&self) -> PathBuf {
        self.dir.path().join("service.yaml")
    }

    /// As the command line names it.
    pub fn args(&self) -> args::Service {
        args::Service { url: self.url.clone(), api_key: None }
    }

    /// Process id of a program, waiting until it runs.
    pub async fn pid(&self, program: &str) -> anyhow::Result<i32> {
        eventually(&format!("{program} runs"), || async {
            let state = self.state()?;
            let program = state.programs.iter().find(|other| other.name == program)?;
            program.pid.and_then(|pid| i32::try_from(pid).ok())
        })
        .await
    }

    /// Process ids of all programs and of `smallest up` itself.
    pub fn pids(&self) -> Vec<i32> {
        let state = self.state();
        let programs = state.iter().flat_map(|state| &state.programs).filter_map(|program| program.pid);
        let all = programs.chain(self.up.id()).filter_map(|pid| i32::try_from(pid).ok());
        all.collect()
    }

    /// Port of a program.
    pub fn port(&self, program: &str, index: usize) -> anyhow::Result<u16> {
        let state = self.state().context("the service runs")?;
        let program =
            state.programs.iter().find(|other| other.name == program).context("the program is planned")?;
        program.ports.get(index).copied().context("it has that port")
    }

    /// The sum of a metric over all its labels, from a worker or the gateway; `None` while nothing answers.
    pub async fn metric(&self, program: &str, name: &str) -> Option<f64> {
        // A worker serves gRPC first and its figures second.
        let port = self.port(program, usize::from(program.starts_with("asr"))).ok()?;
        let url = format!("http://127.0.0.1:{port}/metrics");
        let text = reqwest::get(url).await.ok()?.text().await.ok()?;
        let values = text.lines().filter_map(|line| {
            let (labelled, value) = line.rsplit_once(' ')?;
            let (found, _) = labelled.split_once('{').unwrap_or((labelled, ""));
            if found == name { value.parse::<f64>().ok() } else { None }
        });
        Some(values.sum())
    }

    /// Sends a signal to a program.
    pub async fn signal(&self, program: &str, signal: Signal) -> anyhow::Result<i32> {
        let pid = self.pid(program).await?;
        kill(Pid::from_raw(pid), signal)?;
        Ok(pid)
    }

    /// Sends a signal to `smallest up`.
    pub fn signal_up(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = self.up.id().context("smallest up runs")?;
        Ok(kill(Pid::from_raw(i32::try_from(pid)?), signal)?)
    }

    /// Waits until `smallest up` ended.
    pub async fn ended(&mut self) -> anyhow::Result<ExitStatus> {
        let status = tokio::time::timeout(PATIENCE, self.up.wait()).await;
        Ok(status.with_context(|| format!("smallest up ends\n{}", self.log_text()))??)
    }

    /// Everything that was logged.
    pub fn log_text(&self) -> String {
        self.log.lock().map(|log| log.join("\n")).unwrap_or_default()
    }

    /// Has anything like this been logged?
    pub fn log_has(&self, text: &str) -> bool {
        self.log.lock().is_ok_and(|log| log.iter().any(|line| line.contains(text)))
    }

    /// Waits until a line of the log holds `text`.
    pub async fn logged(&self, text: &str) -> anyhow::Result<()> {
        let what = format!("{text:?} is logged");
        let logged = eventually(&what, || async { self.log_has(text).then_some(()) });
        logged.await.with_context(|| self.log_text())
    }

    /// `smallest` with this service's state and address.
    pub fn smallest(&self, args: &[&str]) -> anyhow::Result<Command> {
        let mut command = Command::new(program("smallest")?);
        command.args(args).env("SMALLEST_STATE_DIR", self.state_dir()).env("SMALLEST_URL", &self.url);
        command.env_remove("SMALLEST_API_KEY").kill_on_drop(true);
        Ok(command)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // SIGKILL: the kernel takes its programs along, which has a test of its own.
        let _ = self.up.start_kill();
    }
}

/// `smallest up -f FILE ARGS…` with its state in `dir`.
pub fn up_command(file: &Path, dir: &Path, args: &[&str]) -> anyhow::Result<Command> {
    let mut command = Command::new(program("smallest")?);
    command
        .arg("up")
        .arg("-f")
        .arg(file)
        .args(args)
        .env("SMALLEST_STATE_DIR", dir.join("state"))
        .env("SMALLEST_CACHE", dir.join("cache"))
        .kill_on_drop(true);
    Ok(command)
}

/// Waits until none of these processes is there any more.
pub async fn gone(pids: &[i32]) -> anyhow::Result<()> {
    eventually("all processes are gone", || async {
        let living = pids.iter().any(|pid| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
            !matches!(state, None | Some('Z' | 'X'))
        });
        (!living).then_some(())
    })
    .await
}
