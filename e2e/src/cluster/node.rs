//! The node's own view, where the cluster runs on this machine: the processes of a pod.

use super::Space;
use anyhow::Context;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::DeleteParams;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

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
