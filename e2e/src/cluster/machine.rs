//! A throw-away cluster on this machine: `tools/cluster.sh`, and the images that `tools/images.sh` makes for it.
//!
//! Comes in: programs that cargo built beside this test. Goes out: a [`Machine`], the tools' environment. The cluster
//! ends with this process, however it ends; `E2E_KEEP` keeps it, and a later run takes it up again.

use crate::{program, repository};
use anyhow::bail;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

/// Exit status with which `tools/cluster.sh` says that this machine cannot run a cluster.
const CANNOT_RUN: i32 = 3;
/// Images of the suite.
const IMAGES: [&str; 6] = ["operator", "gateway", "license-proxy", "redis", "worker", "worker-fake"];

/// A cluster of this machine.
#[derive(Debug)]
pub struct Machine {
    /// Environment of its tools: `KUBECONFIG`, and `PATH` with `kubectl` and `helm`.
    pub tools: Vec<(String, String)>,
    /// Ends the cluster when its standard input ends; absent when the cluster is kept.
    keeper: Option<Child>,
}

/// A cluster, or why there can be none here.
#[derive(Debug)]
pub enum Brought {
    /// It is up, with the images in it.
    Up(Machine),
    /// This machine can have none.
    Cannot(String),
}

impl Machine {
    /// Makes the images while a cluster comes up, and loads them into it.
    pub fn bring_up() -> anyhow::Result<Brought> {
        let id = id();
        if let Some(reason) = why_not()? {
            return Ok(Brought::Cannot(reason));
        }
        succeeded("tools/cluster.sh build", script("tools/cluster.sh", &["build"])?.status()?)?;
        let mut images = images()?;
        // One that runs was kept by an earlier run.
        let keeper = if tools(&id).is_ok() { None } else { up(&id)? };
        succeeded("tools/images.sh", images.wait()?)?;
        load(&id)?;
        Ok(Brought::Up(Self { tools: tools(&id)?, keeper }))
    }

    /// Ends the cluster, if it is not to be kept.
    pub fn take_down(&mut self) -> anyhow::Result<()> {
        let Some(mut keeper) = self.keeper.take() else { return Ok(()) };
        drop(keeper.stdin.take());
        keeper.wait()?;
        Ok(())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Nobody is left to hear of a failure.
        let _ = self.take_down();
    }
}

/// Number of the throw-away cluster.
pub fn id() -> String {
    std::env::var("E2E_CLUSTER_ID").unwrap_or_else(|_| "1".to_owned())
}

/// Why this machine cannot run a cluster; nothing when it can.
fn why_not() -> anyhow::Result<Option<String>> {
    let output = script("tools/cluster.sh", &["possible"])?.stderr(Stdio::piped()).output()?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    match output.status.code() {
        Some(0) => Ok(None),
        Some(CANNOT_RUN) => Ok(Some(said)),
        _ => bail!("tools/cluster.sh possible: {}: {said}", output.status),
    }
}

/// Starts a cluster and waits until it is ready. Its keeper comes back, unless the cluster is to be kept.
fn up(id: &str) -> anyhow::Result<Option<Child>> {
    if std::env::var_os("E2E_KEEP").is_some() {
        succeeded("tools/cluster.sh up", script("tools/cluster.sh", &["up", "--id", id])?.status()?)?;
        return Ok(None);
    }
    let mut command = script("tools/cluster.sh", &["up", "--id", id, "--attach"])?;
    let mut keeper = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut ready = String::new();
    if let Some(output) = keeper.stdout.take() {
        BufReader::new(output).read_line(&mut ready)?;
    }
    if ready.trim().is_empty() {
        bail!("tools/cluster.sh up: {}; its messages are above", keeper.wait()?);
    }
    Ok(Some(keeper))
}

/// What `tools/cluster.sh env` prints; an error when the cluster does not run.
fn tools(id: &str) -> anyhow::Result<Vec<(String, String)>> {
    let mut command = script("tools/cluster.sh", &["env", "--id", id])?;
    let output = command.stdout(Stdio::piped()).stderr(Stdio::null()).output()?;
    succeeded("tools/cluster.sh env", output.status)?;
    let text = String::from_utf8(output.stdout)?;
    let path = std::env::var("PATH").unwrap_or_default();
    let variables = text.lines().filter_map(|line| line.trim().strip_prefix("export ")?.split_once('='));
    let read = |value: &str| value.replace(['"', '\''], "").replace("$PATH", &path);
    Ok(variables.map(|(key, value)| (key.to_owned(), read(value))).collect())
}

/// Makes the images from the programs that were built beside this test.
fn images() -> anyhow::Result<Child> {
    let operator = program("smallest-operator")?;
    let profile = match operator.parent().and_then(Path::file_name) {
        Some(profile) if profile == "release" => "release",
        _ => "debug",
    };
    let archives = archives().display().to_string();
    let mut arguments = vec!["--profile", profile, "--save", &archives];
    arguments.extend(IMAGES);
    Ok(script("tools/images.sh", &arguments)?.spawn()?)
}

/// Folder of the images' archives.
fn archives() -> PathBuf {
    repository().join("target/images/archives")
}

/// Puts the images into the cluster.
fn load(id: &str) -> anyhow::Result<()> {
    let files: Vec<String> =
        IMAGES.iter().map(|image| archives().join(format!("{image}.tar")).display().to_string()).collect();
    let mut arguments = vec!["load", "--id", id];
    arguments.extend(files.iter().map(String::as_str));
    succeeded("tools/cluster.sh load", script("tools/cluster.sh", &arguments)?.status()?)
}

/// A script of the repository; what it says goes to standard error.
fn script(path: &str, arguments: &[&str]) -> anyhow::Result<Command> {
    let script = repository().join(path);
    anyhow::ensure!(script.is_file(), "{} is not there", script.display());
    let mut command = Command::new(script);
    command.args(arguments).current_dir(repository()).stdin(Stdio::null()).stdout(std::io::stderr());
    Ok(command)
}

fn succeeded(what: &str, status: ExitStatus) -> anyhow::Result<()> {
    anyhow::ensure!(status.success(), "{what}: {status}; its messages are above");
    Ok(())
}
