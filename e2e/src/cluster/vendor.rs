//! A vendor of licenses: a key made for the tests, and licenses signed with it by `smallest-license-proxy`.

use crate::program;
use anyhow::Context;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Name of the key.
const KEY_NAME: &str = "e2e";

/// Who signs licenses in tests.
#[derive(Debug)]
pub struct Vendor {
    /// The public half, as `LICENSE_TRUSTED_KEYS` takes it.
    pub trusted: String,
    key: PathBuf,
}

impl Vendor {
    /// The vendor whose key lies in `dir`; made when there is none. Kept between runs, so that a kept cluster
    /// trusts the same key.
    pub fn at(dir: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let key = dir.join("key.pem");
        let public = dir.join("trusted");
        if !public.exists() {
            let _ = std::fs::remove_file(&key);
            let path = key.display().to_string();
            let said = run(&["keygen", "--name", KEY_NAME, "--out", &path])?;
            let trusted = said.lines().find_map(|line| line.trim().strip_prefix("LICENSE_TRUSTED_KEYS="));
            std::fs::write(&public, trusted.context("keygen prints LICENSE_TRUSTED_KEYS=…")?)?;
        }
        let trusted = std::fs::read_to_string(&public)?.trim().to_owned();
        Ok(Self { trusted, key })
    }

    /// A license that lasts for `days` and covers everything, anywhere.
    pub fn license(&self, days: f64) -> anyhow::Result<String> {
        self.license_with(days, &[])
    }

    /// A license with further arguments of `smallest-license-proxy issue`.
    pub fn license_with(&self, days: f64, arguments: &[&str]) -> anyhow::Result<String> {
        let (key, days) = (self.key.display().to_string(), days.to_string());
        let mut all =
            vec!["issue", "--key", &key, "--key-name", KEY_NAME, "--customer", "e2e", "--days", &days];
        all.extend(arguments);
        Ok(run(&all)?.trim().to_owned())
    }
}

fn run(arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(program("smallest-license-proxy")?).args(arguments).output()?;
    anyhow::ensure!(
        output.status.success(),
        "smallest-license-proxy {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)? + &String::from_utf8(output.stderr)?)
}
