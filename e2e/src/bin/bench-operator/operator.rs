//! The program under measurement: started, asked for its metrics, stopped.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

/// A running operator; it ends when dropped.
pub(crate) struct Operator {
    child: Child,
    port: u16,
}

/// Calls of the apiserver since the operator started; renewals of the Lease are not counted.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Calls {
    pub(crate) reads: f64,
    pub(crate) writes: f64,
}

impl Calls {
    pub(crate) fn all(self) -> f64 {
        self.reads + self.writes
    }
}

impl Operator {
    /// Starts it on a free port, with its own way to the apiserver if one is given, and waits until it leads.
    pub(crate) async fn start(program: &Path, kubeconfig: Option<&Path>) -> anyhow::Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port();
        let child = Command::new(program)
            .envs(kubeconfig.map(|file| ("KUBECONFIG", file)))
            .env("PORT", port.to_string())
            .env("HOST", "127.0.0.1")
            .env("EXTERNAL_METRICS", "false")
            .env("RUST_LOG", std::env::var("RUST_LOG").unwrap_or_else(|_| "warn".to_owned()))
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("failed to start {}", program.display()))?;
        let operator = Self { child, port };
        let leads = async {
            loop {
                match operator.metrics().await {
                    Ok(text) if text.lines().any(|line| line == "operator_leader 1") => return,
                    _ => sleep(Duration::from_millis(200)).await,
                }
            }
        };
        timeout(Duration::from_mins(2), leads)
            .await
            .context("the operator does not lead after two minutes")?;
        Ok(operator)
    }

    pub(crate) fn pid(&self) -> anyhow::Result<u32> {
        self.child.id().context("the operator has ended")
    }

    pub(crate) async fn calls(&self) -> anyhow::Result<Calls> {
        let mut calls = Calls::default();
        for line in self.metrics().await?.lines() {
            let Some(rest) = line.strip_prefix("operator_api_requests_total{") else { continue };
            let Some((labels, value)) = rest.split_once("} ") else { continue };
            let value: f64 = value.trim().parse().context("failed to read a metric")?;
            let is_read =
                ["get", "list", "watch"].iter().any(|verb| labels.contains(&format!("verb=\"{verb}\"")));
            match labels {
                _ if labels.contains("resource=\"leases\"") => {}
                _ if is_read => calls.reads += value,
                _ => calls.writes += value,
            }
        }
        Ok(calls)
    }

    /// The most memory it ever held, bytes.
    pub(crate) fn peak_memory_bytes(&self) -> anyhow::Result<u64> {
        let pid = self.pid()?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
        let kib: u64 = peak.split_whitespace().next().context("no number")?.parse()?;
        Ok(kib * 1024)
    }

    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        let pid = self.pid()?;
        // Not SIGKILL: it gives its Lease back.
        let asked = Command::new("kill").arg(pid.to_string()).status().await?;
        anyhow::ensure!(asked.success(), "failed to stop the operator");
        timeout(Duration::from_secs(30), self.child.wait()).await.context("the operator does not stop")??;
        Ok(())
    }

    async fn metrics(&self) -> anyhow::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await?;
        let mut text = String::new();
        timeout(Duration::from_secs(10), stream.read_to_string(&mut text)).await??;
        Ok(text)
    }
}
