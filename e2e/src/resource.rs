//! The resource file of a test: `examples/quickstart.yaml`, with what the test wants changed.

use crate::{demo_model, repository};
use anyhow::Context;
use std::path::{Path, PathBuf};

/// What a test wants.
#[derive(Debug, Clone)]
pub struct Resource {
    /// Workers.
    pub replicas: u32,
    /// Folder of the model.
    pub model: PathBuf,
    /// Digest of the model; that of the folder when absent.
    pub sha256: Option<String>,
    /// License token; the development one when absent.
    pub license: Option<String>,
    /// API keys; none are asked for when absent.
    pub api_keys: Option<String>,
    /// Live streams of each worker.
    pub slots: u32,
    /// Largest body, bytes.
    pub max_body_bytes: u64,
}

impl Default for Resource {
    fn default() -> Self {
        Self {
            replicas: 1,
            model: demo_model(),
            sha256: None,
            license: None,
            api_keys: None,
            slots: 16,
            max_body_bytes: 262_144_000,
        }
    }
}

impl Resource {
    /// Writes the file; its name is unique to `dir`.
    pub fn write(&self, dir: &Path) -> anyhow::Result<PathBuf> {
        let path = dir.join("service.yaml");
        std::fs::write(&path, self.text()?)?;
        Ok(path)
    }

    fn text(&self) -> anyhow::Result<String> {
        let license = match &self.license {
            Some(license) => license.clone(),
            None => development_license()?,
        };
        let sha256 = match &self.sha256 {
            Some(sha256) => sha256.clone(),
            None => cli::model::digest(&self.model)?,
        };
        let (keys, auth) = match &self.api_keys {
            None => (String::new(), String::new()),
            Some(keys) => (
                format!(
                    "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: keys}}\nstringData: {{api-keys: {keys:?}}}\n"
                ),
                "    auth: {secretRef: {name: keys}}\n".to_owned(),
            ),
        };
        Ok(format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: license}}\nstringData: {{license.jwt: {license}}}\n\
             {keys}---\n\
             apiVersion: smallest.ai/v1\nkind: SmallestDeployment\nmetadata: {{name: test}}\nspec:\n  \
             license: {{offline: {{secretRef: {{name: license}}}}}}\n  gateway:\n{auth}    \
             limits: {{maxBodyBytes: {max_body}}}\n  asr:\n    models:\n      \
             - {{name: demo-asr, url: \"file://{model}\", sha256: {sha256}}}\n    \
             device: cpu\n    threads: 1\n    slots: {slots}\n    replicas: {replicas}\n",
            max_body = self.max_body_bytes,
            model = self.model.display(),
            slots = self.slots,
            replicas = self.replicas,
        ))
    }
}

/// The license that the quickstart carries.
fn development_license() -> anyhow::Result<String> {
    let path = repository().join("examples/license/development.jwt");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    Ok(text.trim().to_owned())
}
