//! What the system counted: processor time of programs, and what the host took.

use std::fs::read_to_string;
use std::time::Duration;

use anyhow::Context as _;

/// The kernel counts in ticks of this length.
const TICK: Duration = Duration::from_millis(10);

/// Counts since the start of programs and machine.
pub(crate) struct Used {
    /// Processor time of this program, and of another.
    pub(crate) processor: Duration,
    /// What the host gave to others while this machine wanted to run, and all processor time; in ticks.
    stolen: u64,
    all: u64,
}

impl Used {
    /// As it is now.
    pub(crate) fn now(other: Option<u32>) -> anyhow::Result<Self> {
        let other = other.map(|pid| ticks(&pid.to_string())).transpose()?.unwrap_or(0);
        let text = read_to_string("/proc/stat")?;
        let line = text.lines().next().unwrap_or_default();
        // user, nice, system, idle, iowait, irq, softirq, steal; what follows is counted in the first two.
        let all: Vec<u64> = line.split_whitespace().filter_map(|n| n.parse().ok()).take(8).collect();
        let processor = TICK * u32::try_from(ticks("self")? + other)?;
        Ok(Self { processor, stolen: all.get(7).copied().unwrap_or(0), all: all.iter().sum() })
    }

    /// What the host took since then, percent of all processor time.
    pub(crate) fn stolen_since(&self, then: &Self) -> f64 {
        (self.stolen - then.stolen) as f64 / (self.all - then.all).max(1) as f64 * 100.0
    }
}

/// Processor time of a program, user's and system's.
fn ticks(pid: &str) -> anyhow::Result<u64> {
    let text = read_to_string(format!("/proc/{pid}/stat"))?;
    // The program's name may have spaces; it stands in brackets before all else that is counted.
    let (_, fields) = text.rsplit_once(')').context("no name in the program's counts")?;
    let mut fields = fields.split_whitespace().skip(11);
    let mut next =
        || fields.next().and_then(|n| n.parse::<u64>().ok()).context("too few counts of the program");
    Ok(next()? + next()?)
}
