//! What the figures were measured on: without it they mean nothing.

use std::fs::read_to_string;

/// One line: processor, cores, memory, kernel, version.
pub(super) fn describe() -> String {
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let field = |file: &str, name: &str| {
        let text = read_to_string(file).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(':').map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
    };
    let memory_kib: f64 = field("/proc/meminfo", "MemTotal")
        .split_whitespace()
        .next()
        .and_then(|n| n.parse().ok())
        .unwrap_or_default();
    let kernel = read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "{}, {cores} cores, {:.0} GiB, Linux {}, smallest {}",
        field("/proc/cpuinfo", "model name"),
        memory_kib / 1024.0 / 1024.0,
        kernel.trim(),
        env!("CARGO_PKG_VERSION")
    )
}
