//! What a running `up` leaves for `status` and for a second `up`: one small file a deployment, and a lock.
//!
//! Comes in: the programs and their states. Goes out: `<deployment>.json` in the state folder, and a lock
//! that the kernel frees when the supervisor ends, however it ends. No secret is ever written there.

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// What is known of one running deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunState {
    /// `namespace/name`.
    pub deployment: String,
    /// Process id of `smallest up`.
    pub supervisor: u32,
    /// The file it was started from.
    pub file: PathBuf,
    /// When, in milliseconds since 1970.
    pub started_at_ms: u64,
    /// Address of the gateway.
    pub url: String,
    /// The programs in the order they were started.
    pub programs: Vec<ProgramState>,
}

/// What is known of one program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProgramState {
    /// Its name.
    pub name: String,
    /// Its process, while it runs.
    pub pid: Option<u32>,
    /// How often it was started again.
    pub restarts: u32,
    /// What it listens on.
    pub ports: Vec<u16>,
    /// Port and path of its readiness; no path for Redis.
    pub probe_port: u16,
    /// See `probe_port`.
    pub probe_path: Option<String>,
}

/// The lock of one deployment, and the place of its state.
#[derive(Debug)]
pub struct Claim {
    path: PathBuf,
    _lock: Flock<File>,
}

/// Why a deployment could not be claimed.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// Another `up` runs it.
    #[error(
        "failed to start {deployment}: it already runs (smallest up is process {supervisor}; stop it with: kill {supervisor})"
    )]
    Running {
        /// `namespace/name`.
        deployment: String,
        /// The other's process id.
        supervisor: u32,
    },
    /// The state folder cannot be used.
    #[error("failed to use the state folder {}; set SMALLEST_STATE_DIR to one that can be written", path.display())]
    UseFolder {
        /// The folder or file.
        path: PathBuf,
        /// The system's word.
        #[source]
        source: std::io::Error,
    },
}

/// The folder for state: `$SMALLEST_STATE_DIR`, else in `$XDG_RUNTIME_DIR`, else in `$HOME/.local/state`.
pub fn folder() -> PathBuf {
    let from = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(dir) = from("SMALLEST_STATE_DIR") {
        return dir;
    }
    if let Some(dir) = from("XDG_RUNTIME_DIR").filter(|dir| dir.is_dir()) {
        return dir.join("smallest");
    }
    from("HOME").unwrap_or_else(std::env::temp_dir).join(".local/state/smallest")
}

/// Claims a deployment for this process until the claim is dropped or the process ends.
pub fn claim(folder: &Path, deployment: &str) -> Result<Claim, ClaimError> {
    let unusable = |path: &Path| {
        let path = path.to_owned();
        move |source| ClaimError::UseFolder { path, source }
    };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(unusable(folder))?;
    let stem = deployment.replace('/', "_");
    let lock_path = folder.join(format!("{stem}.lock"));
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&lock_path)
        .map_err(unusable(&lock_path))?;
    let path = folder.join(format!("{stem}.json"));
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Claim { path, _lock: lock }),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => {
            let supervisor = read(&path).map(|state| state.supervisor).unwrap_or_default();
            Err(ClaimError::Running { deployment: deployment.to_owned(), supervisor })
        }
        Err((_, error)) => Err(unusable(&lock_path)(error.into())),
    }
}

impl Claim {
    /// Writes the state; readers see the old one or the new one, never a half.
    pub fn write(&self, state: &RunState) -> std::io::Result<()> {
        let part = self.path.with_extension("part");
        std::fs::write(&part, serde_json::to_vec_pretty(state)?)?;
        std::fs::rename(part, &self.path)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // A file left behind is harmless: its lock is free, and `read_all` looks at the lock.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// States of all deployments that run now, by name.
pub fn read_all(folder: &Path) -> Vec<RunState> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut states: Vec<RunState> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .filter(|path| is_locked(&path.with_extension("lock")))
        .filter_map(|path| read(&path))
        .collect();
    states.sort_by(|a, b| a.deployment.cmp(&b.deployment));
    states
}

fn read(path: &Path) -> Option<RunState> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

fn is_locked(path: &Path) -> bool {
    let Ok(file) = File::open(path) else { return false };
    matches!(Flock::lock(file, FlockArg::LockSharedNonblock), Err((_, nix::errno::Errno::EWOULDBLOCK)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(deployment: &str) -> RunState {
        RunState {
            deployment: deployment.into(),
            supervisor: 42,
            file: "a.yaml".into(),
            started_at_ms: 1,
            url: "http://127.0.0.1:7100".into(),
            programs: Vec::new(),
        }
    }

    #[test]
    fn a_second_claim_names_the_first_supervisor() {
        let dir = tempfile::tempdir().unwrap();
        let first = claim(dir.path(), "default/one").unwrap();
        first.write(&state("default/one")).unwrap();
        let second = claim(dir.path(), "default/one").unwrap_err().to_string();
        assert!(second.contains("already runs") && second.contains("42"), "{second}");
        assert!(claim(dir.path(), "default/two").is_ok());
    }

    #[test]
    fn only_states_of_living_supervisors_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let claimed = claim(dir.path(), "default/one").unwrap();
        claimed.write(&state("default/one")).unwrap();
        let dead = serde_json::to_vec(&state("default/dead")).unwrap();
        std::fs::write(dir.path().join("default_dead.json"), dead).unwrap();
        std::fs::write(dir.path().join("default_dead.lock"), "").unwrap();
        assert_eq!(read_all(dir.path()), [state("default/one")]);
        drop(claimed);
        assert!(read_all(dir.path()).is_empty());
    }
}
