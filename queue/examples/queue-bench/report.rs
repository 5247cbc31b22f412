//! What was measured, as a table for people and as rows for tools.
//!
//! The example of `gateway` that measures includes this very file.

use std::fs;
use std::io::Write;
use std::path::Path;

use serde_json::Value;

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
        println!("{bench:<26} {case:<32} {ours:>9.3} {unit:<12} {goal:<8} {verdict}");
        row
    }

    pub(crate) fn latency(bench: &'static str, case: &str, ms: f64, goal: Option<f64>) -> Self {
        Self::new(bench, case, ms, "ms", goal)
    }

    fn pass(&self) -> Option<bool> {
        self.goal.map(|goal| self.ours < goal)
    }

    /// `{bench, case, ours, peer, peer_name, ratio, unit, goal, pass, machine}`; there is no peer here.
    fn json(&self, machine: &Value) -> Value {
        serde_json::json!({
            "bench": self.bench, "case": self.case, "ours": self.ours, "peer": null, "peer_name": null,
            "ratio": null, "unit": self.unit, "goal": self.goal, "pass": self.pass(), "machine": machine,
        })
    }
}

pub(crate) fn head() {
    println!("{:<26} {:<32} {:>9} {:<12} {:<8} reached", "bench", "case", "ours", "unit", "goal");
}

/// Appends the rows to a file in target/bench, each with what it was measured on.
pub(crate) fn write(file: &str, rows: &[Row], machine: &Value) -> std::io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench");
    fs::create_dir_all(&folder)?;
    let mut lines = fs::OpenOptions::new().create(true).append(true).open(folder.join(file))?;
    rows.iter().try_for_each(|row| writeln!(lines, "{}", row.json(machine)))?;
    println!("machine: {machine}\nrows: target/bench/{file}");
    Ok(())
}
