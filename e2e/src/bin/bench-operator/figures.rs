//! What was measured: printed for people, appended for tools.

use std::fs::{OpenOptions, create_dir_all};
use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use serde_json::{Value, json};

/// One figure, and what it should be below, if anything.
#[derive(Debug)]
pub(crate) struct Figure {
    case: String,
    value: f64,
    unit: &'static str,
    below: Option<f64>,
}

impl Figure {
    /// A figure that is only told.
    pub(crate) fn told(case: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { case: case.into(), value, unit, below: None }
    }

    /// A figure with a goal.
    pub(crate) fn below(self, goal: f64) -> Self {
        Self { below: Some(goal), ..self }
    }

    /// Median and worst of several values of a kind; the goal, if any, is the worst one's too.
    pub(crate) fn spread(case: &str, values: &[f64], unit: &'static str, goal: Option<f64>) -> Vec<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (Some(median), Some(worst)) = (sorted.get(sorted.len() / 2), sorted.last()) else {
            return Vec::new();
        };
        let figure = |word: &str, value: f64| Self {
            case: format!("{case}, {word} of {}", sorted.len()),
            value,
            unit,
            below: goal,
        };
        vec![figure("median", *median), figure("worst", *worst)]
    }

    pub(crate) fn passes(&self) -> bool {
        self.below.is_none_or(|goal| self.value < goal)
    }

    /// There is no peer to compare with.
    fn row(&self, machine: &Value) -> Value {
        json!({
            "bench": "operator", "case": self.case, "ours": self.value, "peer": null, "peer_name": null,
            "ratio": null, "unit": self.unit, "goal": self.below,
            "pass": self.below.map(|_| self.passes()), "machine": machine,
        })
    }
}

/// The table.
pub(crate) fn print(figures: &[Figure]) {
    println!();
    for figure in figures {
        let goal = figure.below.map_or(String::new(), |goal| format!("< {goal} {}", figure.unit));
        let verdict = match (figure.below, figure.passes()) {
            (None, _) => "",
            (Some(_), true) => "reached",
            (Some(_), false) => "MISSED",
        };
        let Figure { case, value, unit, .. } = figure;
        println!("  {case:<58} {value:>10.2} {unit:<13} {goal:<18} {verdict}");
    }
}

/// The rows.
pub(crate) fn append(figures: &[Figure], file: &Path, machine: &Value) -> anyhow::Result<()> {
    if let Some(folder) = file.parent() {
        create_dir_all(folder)?;
    }
    let mut rows =
        OpenOptions::new().create(true).append(true).open(file).context("failed to open the rows")?;
    for figure in figures {
        writeln!(rows, "{}", figure.row(machine)).context("failed to write a row")?;
    }
    println!("rows: {}", file.display());
    Ok(())
}
