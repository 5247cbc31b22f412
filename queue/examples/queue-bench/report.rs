//! What was measured, as a table for people and as rows for tools.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

/// Clock ticks in a second, as Linux reports CPU times.
const TICKS: u64 = 100;

/// One measured value and its goal.
#[derive(Debug)]
pub(crate) struct Row {
    bench: &'static str,
    case: String,
    ours: f64,
    unit: &'static str,
    goal: Option<f64>,
}

impl Row {
    pub(crate) fn new(
        bench: &'static str,
        case: &str,
        ours: f64,
        unit: &'static str,
        goal: Option<f64>,
    ) -> Self {
        let row = Self { bench, case: case.to_owned(), ours, unit, goal };
        let goal = goal.map_or(String::new(), |goal| format!("< {goal}"));
        let verdict = match row.pass() {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "",
        };
        println!("{bench:<24} {case:<32} {ours:>9.3} {unit:<12} {goal:<8} {verdict}");
        row
    }

    pub(crate) fn latency(bench: &'static str, case: &str, ms: f64, goal: Option<f64>) -> Self {
        Self::new(bench, case, ms, "ms", goal)
    }

    fn pass(&self) -> Option<bool> {
        self.goal.map(|goal| self.ours < goal)
    }

    /// `{bench, case, ours, peer, peer_name, ratio, unit, goal, pass, machine}`; there is no peer here.
    fn json(&self, machine: &serde_json::Value) -> serde_json::Value {
        serde_json::json!({
            "bench": self.bench, "case": self.case, "ours": self.ours, "peer": null, "peer_name": null,
            "ratio": null, "unit": self.unit, "goal": self.goal, "pass": self.pass(), "machine": machine,
        })
    }
}

pub(crate) fn head() {
    println!("{:<24} {:<32} {:>9} {:<12} {:<8} reached", "bench", "case", "ours", "unit", "goal");
}

/// Appends the rows to target/bench/queue.jsonl.
pub(crate) fn write(rows: &[Row]) -> std::io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench");
    fs::create_dir_all(&folder)?;
    let mut file = fs::OpenOptions::new().create(true).append(true).open(folder.join("queue.jsonl"))?;
    let machine = machine();
    rows.iter().try_for_each(|row| writeln!(file, "{}", row.json(&machine)))?;
    println!("machine: {machine}\nrows: target/bench/queue.jsonl");
    Ok(())
}

/// CPU time that processes have used so far.
pub(crate) fn cpu(pids: &[u32]) -> std::io::Result<Duration> {
    let mut ticks = 0;
    for pid in pids {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name in parentheses may hold anything; user and system time are the 12th and 13th after it.
        let after = stat.rsplit(')').next().unwrap_or_default();
        ticks += after.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum::<u64>();
    }
    Ok(Duration::from_millis(ticks * 1_000 / TICKS))
}

fn machine() -> serde_json::Value {
    let first = |path: &str, begins: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(begins)).unwrap_or_default();
        line.split_once(':').map_or(line, |(_, value)| value).trim().to_owned()
    };
    let redis = std::process::Command::new("redis-server").arg("--version").output();
    let redis = redis.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
    let redis = redis.split_whitespace().find_map(|word| word.strip_prefix("v=")).unwrap_or("?").to_owned();
    serde_json::json!({
        "cpu": first("/proc/cpuinfo", "model name"),
        "cores": std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        "load_1min": first("/proc/loadavg", "").split(' ').next(),
        "redis": redis,
    })
}
