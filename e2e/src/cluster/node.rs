//! The node's own view, where the cluster runs on this machine: the processes of a pod.

use super::{Space, machine};
use crate::{eventually, repository};
use anyhow::Context;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::DeleteParams;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::process::{Output, Stdio};
use tokio::process::Command;

/// Why a story that needs the node cannot be told in a cluster of others.
pub const ONLY_HERE: &str =
    "it reaches into the node, and KUBECONFIG names a cluster that is not this machine's own";

/// Sends SIGKILL to a program of a pod, as the kernel does when memory runs out. Only in a cluster of its own, where
/// the pod's processes are processes of this machine.
pub fn kill_program(pod: &Pod, program: &str) -> anyhow::Result<()> {
    signal(pod, program, Signal::SIGKILL)
}

/// Stops a program of a pod: it neither ends nor answers, as one that hangs. Only in a cluster of its own.
pub fn freeze_program(pod: &Pod, program: &str) -> anyhow::Result<()> {
    signal(pod, program, Signal::SIGSTOP)
}

fn signal(pod: &Pod, program: &str, signal: Signal) -> anyhow::Result<()> {
    let uid = pod.uid().context("the pod has a uid")?;
    let found = pids_of(&uid).into_iter().find(|pid| {
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        command.split(|byte| *byte == 0).next().is_some_and(|first| first.ends_with(program.as_bytes()))
    });
    let pid = found.with_context(|| format!("{program} of pod {} runs on this machine", pod.name_any()))?;
    Ok(kill(Pid::from_raw(pid), signal)?)
}

/// Kills the first program of a container and removes the container from the node behind the kubelet's back, as a node
/// does that loses it. Only in a cluster of its own.
pub async fn remove_container(pod: &Pod, container: &str) -> anyhow::Result<()> {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    let status = statuses.into_iter().flatten().find(|status| status.name == container);
    let id = status.and_then(|status| status.container_id.as_deref()?.strip_prefix("containerd://"));
    let id = id.with_context(|| format!("{container} of pod {} runs in containerd", pod.name_any()))?;
    let killed = ctr(&["task", "kill", "--signal", "SIGKILL", id]).await?;
    anyhow::ensure!(killed.status.success(), "ctr task kill: {}", String::from_utf8_lossy(&killed.stderr));
    // While its program ends it cannot be removed.
    eventually("the container is removed from the node", || async {
        let _ = ctr(&["task", "delete", "--force", id]).await;
        let _ = ctr(&["container", "delete", id]).await;
        let left = ctr(&["container", "list", "--quiet"]).await.ok().filter(|left| left.status.success())?;
        let there = String::from_utf8_lossy(&left.stdout).lines().any(|line| line == id);
        (!there).then_some(())
    })
    .await
}

/// containerd's own client, where the node runs.
async fn ctr(arguments: &[&str]) -> anyhow::Result<Output> {
    let mut command = Command::new(repository().join("tools/cluster.sh"));
    command.args(["node", "--id", &machine::id(), "ctr"]).args(arguments);
    Ok(command.stdin(Stdio::null()).kill_on_drop(true).output().await?)
}

/// Takes a pod away without asking its programs: no SIGTERM, no waiting.
pub async fn remove(space: &Space<'_>, pod: &str) -> anyhow::Result<()> {
    let params = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    space.api::<Pod>().delete(pod, &params).await?;
    Ok(())
}

/// Processes whose control group carries the pod's uid.
fn pids_of(uid: &str) -> Vec<i32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let slice = uid.replace('-', "_");
    let belongs = |pid: &i32| {
        let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        groups.contains(uid) || groups.contains(&slice)
    };
    pids.filter(belongs).collect()
}
