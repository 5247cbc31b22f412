//! What the figures were measured on: without it they mean nothing.
//!
//! Comes in: what the system tells. Goes out: facts for the rows of a bench. The examples of `gateway` and `queue`
//! that measure include this very file, so that all rows tell the same.

use serde_json::{Value, json};
use std::fs::read_to_string;
use std::process::Command;

/// Date, processor, cores, load of the last minute, memory, kernel, and the versions of all that takes part. Ask before
/// the measurement: afterwards the load is its own.
pub(super) fn facts() -> Value {
    let field = |file: &str, name: &str| {
        let text = read_to_string(file).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(':').map(|(_, value)| value.trim().to_owned())
    };
    let word = |text: String| text.split_whitespace().next().map(str::to_owned);
    let memory_kib = field("/proc/meminfo", "MemTotal").and_then(word).and_then(|n| n.parse::<u64>().ok());
    let load = read_to_string("/proc/loadavg").ok().and_then(word).and_then(|n| n.parse::<f64>().ok());
    let redis = said("redis-server", &["--version"]);
    // The folder that the programs were linked against (tools/with-libtorch.sh names it).
    let libtorch = std::env::var("LIBTORCH").ok();
    let libtorch = libtorch.and_then(|folder| read_to_string(format!("{folder}/build-version")).ok());
    json!({
        "date": said("date", &["-u", "+%Y-%m-%d %H:%M UTC"]),
        "cpu": field("/proc/cpuinfo", "model name"),
        "cores": std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        "load_1min": load,
        "memory_gib": memory_kib.map(|kib| kib >> 20),
        "kernel": read_to_string("/proc/sys/kernel/osrelease").ok().and_then(word),
        "redis": redis.and_then(|text| text.split_whitespace().find_map(|w| w.strip_prefix("v=").map(str::to_owned))),
        "libtorch": libtorch.and_then(word),
        "smallest": env!("CARGO_PKG_VERSION"),
        "revision": said("git", &["describe", "--always", "--dirty"]),
    })
}

/// What a program prints; nothing where it is not there.
fn said(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
