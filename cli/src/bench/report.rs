//! Rows of a bench: for people as a table, for machines as JSON lines. Pure but for `append` and `finish`.

use super::batch::Case;
use super::live::Outcome;
use super::stats::Distribution;
use super::{BenchError, P99_GOAL_MS};
use crate::terminal;
use serde::Serialize;
use serde_json::Value;
use std::io::Write;
use std::path::Path;

/// Half of the words stand this soon after they were spoken.
const PARTIAL_GOAL_MS: f64 = 250.0;

/// One figure.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Row {
    bench: &'static str,
    case: String,
    ours: f64,
    peer: Option<f64>,
    peer_name: Option<String>,
    ratio: Option<f64>,
    unit: &'static str,
    /// What was aimed at, in words.
    goal: Option<String>,
    pass: Option<bool>,
}

impl Row {
    pub(super) fn new(bench: &'static str, case: String, ours: f64, unit: &'static str) -> Self {
        Self { bench, case, ours, peer: None, peer_name: None, ratio: None, unit, goal: None, pass: None }
    }

    /// Tells the rows of several services apart.
    pub(super) fn label(&mut self, label: &str) {
        self.case = format!("{label}: {}", self.case);
    }

    pub(super) fn below(mut self, goal: f64) -> Self {
        self.goal = Some(format!("< {goal}"));
        self.pass = Some(self.ours < goal);
        self
    }
}

/// Rows of the live part.
pub(super) fn live_rows(streams: u32, chunk_ms: u32, outcome: &Outcome) -> Vec<Row> {
    let name = |what: &str| format!("{streams} live streams, {chunk_ms} ms chunks: {what}");
    let row = |what: &str, ours, unit| asr(name(what), ours, unit);
    let chunks = Distribution::of(&outcome.chunks_ms);
    let overheads = Distribution::of(&outcome.overheads_ms);
    let finals = Distribution::of(&outcome.finals_ms);
    let mut rows = vec![
        row("chunk latency, p50", chunks.p50, "ms"),
        row("chunk latency, p90", chunks.p90, "ms"),
        row("chunk latency, p99", chunks.p99, "ms").below(P99_GOAL_MS),
        row("chunk latency, max", chunks.max, "ms"),
        row("final after the last sample, p50", finals.p50, "ms"),
        row("gateway, Redis, wire and client a chunk, p50", overheads.p50, "ms"),
        row("gateway, Redis, wire and client a chunk, p99", overheads.p99, "ms"),
        row("word error rate", outcome.errors.rate() * 100.0, "%"),
        row("audio seconds a second, first sessions left out", outcome.concurrency, "s/s"),
        row("chunks measured", chunks.count as f64, ""),
        row("sessions measured", outcome.sessions as f64, ""),
        row("failed sessions", outcome.failures.len() as f64, "").below(1.0),
    ];
    rows.extend(partial_rows(name, outcome));
    rows
}

/// Where the samples tell when each word was over, that counts: a service that puts the ends of its words too late would
/// look faster than it is.
fn partial_rows(name: impl Fn(&str) -> String, outcome: &Outcome) -> Vec<Row> {
    let told = Distribution::of(&outcome.told_partials_ms);
    let known = Distribution::of(&outcome.partials_ms);
    let case = |whose, percentile| name(&format!("first partial after the word's end{whose}, {percentile}"));
    let mut rows = vec![
        asr(case(" as the service tells it", "p50"), told.p50, "ms"),
        asr(case(" as the service tells it", "p90"), told.p90, "ms"),
    ];
    if known.count == 0 {
        rows[0] = rows[0].clone().below(PARTIAL_GOAL_MS);
    } else {
        rows.push(asr(case("", "p50"), known.p50, "ms").below(PARTIAL_GOAL_MS));
        rows.push(asr(case("", "p90"), known.p90, "ms"));
    }
    rows
}

fn asr(case: String, ours: f64, unit: &'static str) -> Row {
    Row::new("asr", case, ours, unit)
}

/// Rows of the batch part.
pub(super) fn batch_rows(cases: &[Case]) -> Vec<Row> {
    let rows = cases.iter().flat_map(|case| {
        let name = |what: &str| format!("recordings of 60 s, {} at a time: {what}", case.parallel);
        [
            asr(name("real-time factor"), case.real_time_factor, "").below(0.01),
            asr(name("word error rate"), case.errors.rate() * 100.0, "%"),
        ]
    });
    rows.collect()
}

/// The row of `--find-capacity`.
pub(super) fn capacity_row(streams: u32) -> Row {
    let mut row =
        asr("live streams with chunk latency p99 below 100 ms".into(), f64::from(streams), "streams");
    row.goal = Some(">= 100".into());
    row.pass = Some(streams >= 100);
    row
}

/// The rows for people.
fn table(rows: &[Row]) -> comfy_table::Table {
    let mut table = terminal::table(&["case", "measured", "unit", "goal", ""]);
    for row in rows {
        let verdict = match row.pass {
            Some(true) => "reached",
            Some(false) => "MISSED",
            None => "",
        };
        let measured =
            if row.ours.abs() < 0.1 { format!("{:.4}", row.ours) } else { format!("{:.2}", row.ours) };
        table.add_row([
            row.case.as_str(),
            &measured,
            row.unit,
            row.goal.as_deref().unwrap_or_default(),
            verdict,
        ]);
    }
    table
}

/// Shows the rows and appends them to a file.
pub(super) fn finish(path: &Path, rows: &[Row], machine: &Value) -> Result<(), BenchError> {
    println!("{}", table(rows));
    append(path, rows, machine).map_err(|source| BenchError::WriteRows { path: path.to_owned(), source })?;
    println!("rows appended to {}", path.display());
    Ok(())
}

/// Appends the rows to a file of JSON lines, each with what it was measured on.
fn append(path: &Path, rows: &[Row], machine: &Value) -> std::io::Result<()> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path)?;
    for row in rows {
        let mut row = serde_json::to_value(row)?;
        row["machine"] = machine.clone();
        writeln!(file, "{row}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_reached_or_missed_never_hidden() {
        assert_eq!(Row::new("asr", "x".into(), 99.0, "ms").below(100.0).pass, Some(true));
        assert_eq!(Row::new("asr", "x".into(), 100.0, "ms").below(100.0).pass, Some(false));
        assert_eq!(Row::new("asr", "x".into(), f64::NAN, "ms").below(100.0).pass, Some(false));
    }

    #[test]
    fn the_goal_of_partials_is_judged_by_the_ends_that_are_known() {
        let judged = |partials_ms: Vec<f32>| {
            let outcome = Outcome { told_partials_ms: vec![10.0], partials_ms, ..Outcome::default() };
            let rows = partial_rows(str::to_owned, &outcome);
            rows.into_iter().filter_map(|row| Some((row.case, row.pass?))).collect::<Vec<_>>()
        };
        let told = "first partial after the word's end as the service tells it, p50";
        assert_eq!(judged(Vec::new()), [(told.to_owned(), true)]);
        assert_eq!(judged(vec![300.0]), [("first partial after the word's end, p50".to_owned(), false)]);
    }

    #[test]
    fn rows_are_appended_as_json_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b.jsonl");
        let machine = serde_json::json!({ "cores": 2 });
        append(&path, &[capacity_row(120)], &machine).unwrap();
        let mut labelled = capacity_row(50);
        labelled.label("small");
        append(&path, &[labelled], &machine).unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        let rows: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((rows.len(), &rows[0]["pass"], &rows[1]["pass"]), (2, &true.into(), &false.into()));
        assert_eq!(rows[0]["machine"]["cores"], 2);
        assert!(rows[1]["case"].as_str().unwrap().starts_with("small: live streams"));
    }
}
