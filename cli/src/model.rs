//! `smallest model digest DIR`: the digest by which a deployment pins a model folder.
//!
//! Comes in: a folder. Goes out: the SHA-256 over one line `<sha256 of file>  <name>` per model file, sorted
//! by name: the same as `sha256sum config.json model.safetensors tokenizer.json | sha256sum`.

use crate::args::DigestArgs;
use crate::error::CliError;
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The files that make a model, sorted.
const FILES: [&str; 3] = ["config.json", "model.safetensors", "tokenizer.json"];

/// Why a folder has no digest.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A file is missing or cannot be read.
    #[error("failed to read {}; a model folder holds config.json, model.safetensors and tokenizer.json", path.display())]
    ReadFile {
        /// The file.
        path: PathBuf,
        /// The system's word.
        #[source]
        source: std::io::Error,
    },
}

impl ModelError {
    /// A stable word for logs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::ReadFile { .. } => "ReadFile",
        }
    }
}

/// Prints the digest of a folder.
pub fn run(args: &DigestArgs) -> Result<ExitCode, CliError> {
    println!("{}", digest(&args.dir)?);
    Ok(ExitCode::SUCCESS)
}

/// The SHA-256 of the folder's manifest in hex, as `spec.asr.models[].sha256` wants it.
pub fn digest(dir: &Path) -> Result<String, ModelError> {
    let mut manifest = String::new();
    for name in FILES {
        let path = dir.join(name);
        let sum = file_sum(&path).map_err(|source| ModelError::ReadFile { path, source })?;
        let _ = writeln!(manifest, "{sum}  {name}");
    }
    Ok(hex(&Sha256::digest(manifest.as_bytes())))
}

fn file_sum(path: &Path) -> std::io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0_u8; 1 << 20];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(hex(&hasher.finalize()));
        }
        hasher.update(&buffer[..read]);
    }
}

/// Bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_that_of_sha256sum() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in
            [("config.json", "{}"), ("model.safetensors", "weights"), ("tokenizer.json", "[]")]
        {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let script = "sha256sum config.json model.safetensors tokenizer.json | sha256sum | cut -d' ' -f1";
        let output =
            std::process::Command::new("sh").args(["-c", script]).current_dir(dir.path()).output().unwrap();
        let expected = String::from_utf8(output.stdout).unwrap();
        assert_eq!(digest(dir.path()).unwrap(), expected.trim());
    }

    #[test]
    fn a_missing_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.json"), "{}").unwrap();
        assert!(digest(dir.path()).unwrap_err().to_string().contains("model.safetensors"));
    }
}
