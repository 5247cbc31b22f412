//! Helm, as users run it.

use anyhow::Context;
use serde_json::Value;
use std::path::Path;
use tokio::process::Command;

/// The `helm` program with the cluster's environment.
#[derive(Debug)]
pub struct Helm {
    environment: Vec<(String, String)>,
}

/// A release of a chart.
#[derive(Debug, Clone, Copy)]
pub struct Release<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its namespace, made when it is not there.
    pub namespace: &'a str,
    /// Folder of the chart.
    pub chart: &'a Path,
}

/// Values given with `--set-string` or `--set`.
type Values = [(&'static str, String)];

impl Helm {
    /// With the environment that `tools/cluster.sh env` prints.
    pub fn new(environment: &[(String, String)]) -> Self {
        Self { environment: environment.to_vec() }
    }

    /// Installs a release, or changes it.
    pub async fn upgrade(&self, release: &Release<'_>, values: &Values) -> anyhow::Result<String> {
        let settings: Vec<String> = values.iter().map(|(key, value)| setting(key, value)).collect();
        let arguments: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
        self.install(release, &arguments).await
    }

    /// Installs a release, or changes it, with a file of values.
    pub async fn upgrade_with(&self, release: &Release<'_>, values: &Value) -> anyhow::Result<String> {
        let folder = tempfile::tempdir()?;
        // JSON is YAML.
        let file = folder.path().join("values.yaml");
        std::fs::write(&file, values.to_string())?;
        self.install(release, &["--values", &file.display().to_string()]).await
    }

    async fn install(&self, release: &Release<'_>, values: &[&str]) -> anyhow::Result<String> {
        let chart = release.chart.display().to_string();
        let mut arguments = vec![
            "upgrade",
            "--install",
            release.name,
            &chart,
            "--namespace",
            release.namespace,
            "--create-namespace",
        ];
        arguments.extend(values);
        self.run(&arguments).await
    }

    /// Goes back to the revision before.
    pub async fn rollback(&self, name: &str, namespace: &str) -> anyhow::Result<String> {
        self.run(&["rollback", name, "--namespace", namespace]).await
    }

    /// Takes a release away.
    pub async fn uninstall(&self, name: &str, namespace: &str) -> anyhow::Result<String> {
        self.run(&["uninstall", name, "--namespace", namespace]).await
    }

    /// Any other command; standard output comes back.
    pub async fn run(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let named = std::env::var("HELM").unwrap_or_else(|_| "helm".to_owned());
        let mut command = Command::new(&named);
        command.args(arguments).envs(self.environment.iter().cloned()).kill_on_drop(true);
        let output = command.output().await.with_context(|| format!("{named} cannot be started"))?;
        anyhow::ensure!(
            output.status.success(),
            "helm {} failed: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// `key=value` with what Helm would take apart escaped.
fn setting(key: &str, value: &str) -> String {
    let value = value.replace('\\', "\\\\").replace(',', "\\,").replace('{', "\\{");
    format!("{key}={value}")
}
