//! Who used the processor: CPU seconds of the cluster's programs, which share the machine with the operator.
//!
//! Comes in: one process of a throw-away cluster, whose pid namespace holds all its others. Elsewhere the cluster's
//! programs are not to be seen, and nothing is told of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Clock ticks in a second, as Linux reports CPU times.
const TICKS: f64 = 100.0;

/// CPU seconds by program.
pub(crate) type Used = BTreeMap<String, f64>;

/// CPU seconds of all programs in the pid namespace of a process, and of these programs.
pub(crate) fn used(cluster: Option<u32>, programs: &[u32]) -> Used {
    let mut used = Used::new();
    let mut add = |pid: u32| {
        if let Some((name, seconds)) = times(pid) {
            *used.entry(name).or_default() += seconds;
        }
    };
    programs.iter().copied().for_each(&mut add);
    let Some(space) = cluster.and_then(namespace) else { return used };
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| namespace(*pid).as_ref() == Some(&space)).for_each(add);
    used
}

/// What was used between two looks, most first.
pub(crate) fn between(before: &Used, after: &Used) -> Vec<(String, f64)> {
    let since = |(name, seconds): (&String, &f64)| {
        (name.clone(), seconds - before.get(name).copied().unwrap_or_default())
    };
    let mut used: Vec<_> = after.iter().map(since).filter(|(_, seconds)| *seconds >= 0.1).collect();
    used.sort_by(|a, b| b.1.total_cmp(&a.1));
    used
}

fn namespace(pid: u32) -> Option<std::path::PathBuf> {
    fs::read_link(format!("/proc/{pid}/ns/pid")).ok()
}

fn times(pid: u32) -> Option<(String, f64)> {
    let folder = Path::new("/proc").join(pid.to_string());
    let name = fs::read_to_string(folder.join("comm")).ok()?.trim().to_owned();
    let stat = fs::read_to_string(folder.join("stat")).ok()?;
    // The name in parentheses may hold anything; user and system time are the 12th and 13th after it.
    let after = stat.rsplit(')').next()?;
    let ticks: f64 = after.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<f64>().ok()).sum();
    Some((name, ticks / TICKS))
}
