//! What was measured: printed for people, appended for machines.

use std::fs::{OpenOptions, create_dir_all};
use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use serde_json::json;

/// One figure.
pub(crate) struct Figure {
    case: &'static str,
    value: f64,
    unit: &'static str,
    goal: Goal,
}

/// What a figure should be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Goal {
    /// It is only told.
    None,
    /// Less than this.
    Below(f64),
}

impl Figure {
    pub(crate) fn new(case: &'static str, value: f64, unit: &'static str, goal: Goal) -> Self {
        Self { case, value, unit, goal }
    }

    pub(crate) fn passes(&self) -> bool {
        match self.goal {
            Goal::None => true,
            Goal::Below(limit) => self.value < limit,
        }
    }

    fn goal(&self) -> String {
        match self.goal {
            Goal::None => String::new(),
            Goal::Below(limit) => format!("< {limit} {}", self.unit),
        }
    }
}

/// The table.
pub(crate) fn print(figures: &[Figure], count: usize) {
    println!("\n{count} resources");
    for figure in figures {
        let verdict = match (figure.goal, figure.passes()) {
            (Goal::None, _) => "",
            (_, true) => "reached",
            (_, false) => "MISSED",
        };
        println!(
            "  {:<26} {:>10.2} {:<13} {:<18} {verdict}",
            figure.case,
            figure.value,
            figure.unit,
            figure.goal()
        );
    }
}

/// The rows. There is no peer to compare with.
pub(crate) fn append(figures: &[Figure], file: &Path, count: usize) -> anyhow::Result<()> {
    if let Some(folder) = file.parent() {
        create_dir_all(folder)?;
    }
    let mut rows =
        OpenOptions::new().create(true).append(true).open(file).context("failed to open the rows")?;
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    for figure in figures {
        let row = json!({
            "bench": "operator", "case": format!("{count} resources: {}", figure.case),
            "ours": figure.value, "peer": null, "peer_name": null, "ratio": null, "unit": figure.unit,
            "goal": figure.goal(), "pass": figure.passes(),
            "machine": { "cores": cores, "load": load.split_whitespace().next() },
        });
        writeln!(rows, "{row}").context("failed to write a row")?;
    }
    Ok(())
}
