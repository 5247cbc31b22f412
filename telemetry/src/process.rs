//! The usual `process_*` metrics, read from `/proc/self` when somebody scrapes. Empty where there is no `/proc`.

use std::fmt::Write as _;
use std::fs;

/// Ticks a second of the times in `/proc/self/stat`; Linux reports them so on every architecture served here.
const TICKS_PER_SECOND: f64 = 100.0;
/// Bytes of a memory page where `/proc/self/statm` is not used: sizes come from `/proc/self/status` in KiB.
const KIB: u64 = 1024;

/// What the process uses now.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Usage {
    cpu_seconds: f64,
    resident_bytes: u64,
    virtual_bytes: u64,
    threads: u64,
    open_fds: u64,
}

/// Appends the metrics to `text`.
pub(crate) fn render(text: &mut String) {
    let Some(usage) = read() else { return };
    let mut put = |name: &str, kind: &str, help: &str, value: f64| {
        let written = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n");
        debug_assert!(written.is_ok(), "writing to a string cannot fail");
    };
    put("process_cpu_seconds_total", "counter", "User and system CPU time, seconds.", usage.cpu_seconds);
    put("process_resident_memory_bytes", "gauge", "Resident memory, bytes.", usage.resident_bytes as f64);
    put("process_virtual_memory_bytes", "gauge", "Virtual memory, bytes.", usage.virtual_bytes as f64);
    put("process_threads", "gauge", "Threads.", usage.threads as f64);
    put("process_open_fds", "gauge", "Open file descriptors.", usage.open_fds as f64);
}

fn read() -> Option<Usage> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let open_fds = fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64);
    parse(&stat, &status).map(|usage| Usage { open_fds, ..usage })
}

fn parse(stat: &str, status: &str) -> Option<Usage> {
    // The name of the program stands in parentheses and may hold blanks: count fields after the last one.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<f64>().ok();
    let line = |key: &str| {
        let value = status.lines().find_map(|line| line.strip_prefix(key))?;
        value.split_whitespace().next()?.parse::<u64>().ok()
    };
    Some(Usage {
        cpu_seconds: (ticks(11)? + ticks(12)?) / TICKS_PER_SECOND,
        resident_bytes: line("VmRSS:")? * KIB,
        virtual_bytes: line("VmSize:")? * KIB,
        threads: line("Threads:")?,
        open_fds: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_names_with_blanks_and_parentheses() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194304 100 0 0 0 250 150 0 0 20 0 3 0 100 0 0";
        let status = "Name:\ta\nVmSize:\t  2048 kB\nVmRSS:\t    1024 kB\nThreads:\t3\n";
        let usage = parse(stat, status).expect("usage");
        let expected = Usage {
            cpu_seconds: 4.0,
            resident_bytes: 1 << 20,
            virtual_bytes: 2 << 20,
            threads: 3,
            open_fds: 0,
        };
        assert_eq!(usage, expected);
    }

    #[test]
    fn nonsense_is_no_usage() {
        assert_eq!(parse("", ""), None);
        assert_eq!(parse("1 (x) S 1", "Threads:\tmany\n"), None);
    }

    #[test]
    fn reads_this_process() {
        let usage = read().expect("Linux has /proc");
        assert!(usage.resident_bytes > 0 && usage.threads > 0 && usage.open_fds > 0, "{usage:?}");
    }
}
