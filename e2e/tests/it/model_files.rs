//! A model that cannot be used: the worker says which file and why, and stays not ready.

use e2e::{Resource, Service, demo_model, eventually};
use std::fs;
use std::path::Path;

/// Copies the demo model and spoils the copy.
fn spoiled(dir: &Path, spoil: impl FnOnce(&Path) -> std::io::Result<()>) -> std::io::Result<()> {
    for name in [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "processor_config.json",
        "tokenizer_config.json",
    ] {
        fs::copy(demo_model().join(name), dir.join(name))?;
    }
    spoil(dir)
}

/// Replaces text of the same length, so that offsets in a file stay true.
fn replace(path: &Path, from: &str, to: &str) -> std::io::Result<()> {
    let mut bytes = fs::read(path)?;
    let at = bytes.windows(from.len()).position(|window| window == from.as_bytes());
    let at = at.ok_or_else(|| std::io::Error::other(format!("{from} is not in {}", path.display())))?;
    bytes.splice(at..at + from.len(), to.bytes());
    fs::write(path, bytes)
}

/// Starts a service on a spoiled model; every one of `words` must be in what the worker's health says.
async fn check(
    words: &[&str],
    sha256: Option<&str>,
    spoil: impl FnOnce(&Path) -> std::io::Result<()>,
) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    // The digest is taken of the whole model where the spoiling is not about the digest.
    let digest = if let Some(sha256) = sha256 {
        sha256.to_owned()
    } else {
        spoiled(dir.path(), spoil)?;
        cli::model::digest(dir.path()).or_else(|_| cli::model::digest(&demo_model()))?
    };
    if sha256.is_some() {
        spoiled(dir.path(), |_| Ok(()))?;
    }
    let resource = Resource { model: dir.path().to_owned(), sha256: Some(digest), ..Resource::default() };
    let service = Service::spawn(&resource, &[])?;
    let said = eventually("the worker says what is wrong", || async {
        let log = service.log_text();
        let line = log.lines().find(|line| {
            line.contains("asr-0 is not ready: ") && words.iter().all(|word| line.contains(word))
        })?;
        Some(line.to_owned())
    })
    .await;
    said.map_err(|error| error.context(service.log_text()))?;
    assert!(service.state().is_none(), "the service is not ready");
    Ok(())
}

#[tokio::test]
async fn a_missing_file_is_named() -> anyhow::Result<()> {
    // Every message lists all files that a model has: it is the path, and why, that tells.
    let words = ["/tokenizer.json: ", "No such file or directory"];
    check(&words, None, |dir| fs::remove_file(dir.join("tokenizer.json"))).await
}

#[tokio::test]
async fn a_truncated_file_is_named() -> anyhow::Result<()> {
    check(&["failed to load model.safetensors: ", "truncated"], None, |dir| {
        let path = dir.join("model.safetensors");
        let bytes = fs::read(&path)?;
        fs::write(&path, &bytes[..bytes.len() / 2])
    })
    .await
}

#[tokio::test]
async fn a_wrong_digest_is_told() -> anyhow::Result<()> {
    check(&["sha256"], Some(&"0".repeat(64)), |_| Ok(())).await
}

#[tokio::test]
async fn a_wrong_architecture_is_told() -> anyhow::Result<()> {
    check(&["failed to load config.json: ", "whisper"], None, |dir| {
        replace(&dir.join("config.json"), "\"nemotron_asr_streaming\"", "\"whisper\"")
    })
    .await
}

#[tokio::test]
async fn a_missing_tensor_is_named() -> anyhow::Result<()> {
    check(&["model.safetensors", "decoder"], None, |dir| {
        replace(&dir.join("model.safetensors"), "\"decoder.", "\"xecoder.")
    })
    .await
}
