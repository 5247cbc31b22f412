//! A command in a container, and what it said; and strangers, pods that belong to no deployment.

use super::Space;
use super::space::is_ready;
use anyhow::Context;
use k8s_openapi::api::core::v1::Pod;
use kube::api::AttachParams;
use serde_json::json;
use tokio::io::AsyncReadExt;

/// The image that strangers run: Debian with a shell, there in every test cluster.
pub const STRANGER_IMAGE: &str = concat!("quay.io/smallestinc/redis:", env!("CARGO_PKG_VERSION"));

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// With exit status 0.
    pub success: bool,
    /// Standard output and standard error.
    pub output: String,
}

/// Runs a command in a container of a pod.
pub async fn run(space: &Space<'_>, pod: &str, container: &str, command: &[&str]) -> anyhow::Result<Ended> {
    let params = AttachParams::default().container(container).stdin(false).stdout(true).stderr(true);
    let mut process = space.api::<Pod>().exec(pod, command.to_vec(), &params).await?;
    let mut output = String::new();
    if let Some(mut stdout) = process.stdout() {
        stdout.read_to_string(&mut output).await?;
    }
    if let Some(mut stderr) = process.stderr() {
        stderr.read_to_string(&mut output).await?;
    }
    let status = process.take_status().context("exec tells how it ended")?.await;
    process.join().await?;
    let success = status.is_some_and(|status| status.status.as_deref() == Some("Success"));
    Ok(Ended { success, output })
}

/// Can a pod open a TCP connection? Two seconds without an answer are a no.
pub async fn connects(space: &Space<'_>, from: (&str, &str), to: &str, port: u16) -> anyhow::Result<bool> {
    let script = format!("exec 3<>/dev/tcp/{to}/{port}");
    Ok(run(space, from.0, from.1, &["timeout", "2", "bash", "-c", &script]).await?.success)
}

/// Starts a pod that belongs to nobody and listens on port 6379, and waits until it is ready.
pub async fn stranger(space: &Space<'_>, name: &str) -> anyhow::Result<Pod> {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": false,
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "main",
                "image": STRANGER_IMAGE,
                "imagePullPolicy": "IfNotPresent",
                "args": ["--save", "", "--protected-mode", "no", "--bind", "0.0.0.0"],
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
                "readinessProbe": {"tcpSocket": {"port": 6379}, "periodSeconds": 1},
            }],
        },
    });
    space.apply::<Pod>(&pod).await?;
    space.until(name, "the stranger is ready", is_ready).await
}
