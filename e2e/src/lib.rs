//! Harness of the whole-path tests: real programs, a real Redis, free ports, folders of their own.
//!
//! Comes in: what a test wants of the service. Goes out: a [`Service`] that answers, and goes away with all
//! its processes when it is dropped. Tests wait for conditions ([`eventually`]), never for a time.

pub mod clients;
pub mod cluster;
pub mod resource;
pub mod samples;
pub mod service;

pub use resource::Resource;
pub use samples::{Sample, quickstart, samples};
pub use service::Service;

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

/// Nothing that a test waits for takes longer, even on a small machine that does other work as well.
pub const PATIENCE: Duration = Duration::from_mins(2);

/// Waits until `condition` gives something; fails after [`PATIENCE`], naming `what`.
pub async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut condition: impl FnMut() -> F,
) -> anyhow::Result<T> {
    let attempt = async {
        loop {
            if let Some(value) = condition().await {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, attempt)
        .await
        .map_err(|_| anyhow::anyhow!("waited {} s in vain: {what}", PATIENCE.as_secs()))
}

/// The root of the repository.
pub fn repository() -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    std::fs::canonicalize(&root).unwrap_or(root)
}

/// The demo model.
pub fn demo_model() -> PathBuf {
    repository().join("models/demo-asr")
}

/// A program that cargo built beside this test.
pub fn program(name: &str) -> anyhow::Result<PathBuf> {
    let test = std::env::current_exe()?;
    let path = test.ancestors().nth(2).unwrap_or(&test).join(name);
    anyhow::ensure!(path.is_file(), "{} is not built; run: tools/test.sh build e2e", path.display());
    Ok(path)
}
