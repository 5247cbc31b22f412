//! Rows of a bench: for people as a table, for machines as JSON lines. Pure but for `append`.

use super::P99_GOAL_MS;
use super::batch::Case;
use super::live::Outcome;
use super::machine;
use super::stats::Distribution;
use crate::terminal;
use serde::Serialize;
use std::io::Write;
use std::path::Path;

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
    machine: String,
}

impl Row {
    fn new(case: String, ours: f64, unit: &'static str) -> Self {
        let machine = machine::describe();
        Self {
            bench: "asr",
            case,
            ours,
            peer: None,
            peer_name: None,
            ratio: None,
            unit,
            goal: None,
            pass: None,
            machine,
        }
    }

    fn below(mut self, goal: f64) -> Self {
        self.goal = Some(format!("< {goal}"));
        self.pass = Some(self.ours < goal);
        self
    }
}

/// Rows of the live part.
pub(super) fn live_rows(streams: u32, chunk_ms: u32, outcome: &Outcome) -> Vec<Row> {
    let name = |what: &str| format!("{streams} live streams, {chunk_ms} ms chunks: {what}");
    let chunks = Distribution::of(&outcome.chunks_ms);
    let partials = Distribution::of(&outcome.partials_ms);
    let overheads = Distribution::of(&outcome.overheads_ms);
    let finals = Distribution::of(&outcome.finals_ms);
    vec![
        Row::new(name("chunk latency, p50"), chunks.p50, "ms"),
        Row::new(name("chunk latency, p90"), chunks.p90, "ms"),
        Row::new(name("chunk latency, p99"), chunks.p99, "ms").below(P99_GOAL_MS),
        Row::new(name("chunk latency, max"), chunks.max, "ms"),
        Row::new(name("first partial after the word's end, p50"), partials.p50, "ms").below(250.0),
        Row::new(name("first partial after the word's end, p90"), partials.p90, "ms"),
        Row::new(name("final after the last sample, p50"), finals.p50, "ms"),
        Row::new(name("gateway, Redis, wire and client a chunk, p50"), overheads.p50, "ms"),
        Row::new(name("gateway, Redis, wire and client a chunk, p99"), overheads.p99, "ms"),
        Row::new(name("word error rate"), outcome.errors.rate() * 100.0, "%"),
        Row::new(name("audio seconds a second, first sessions left out"), outcome.concurrency, "s/s"),
        Row::new(name("chunks measured"), chunks.count as f64, ""),
        Row::new(name("sessions measured"), outcome.sessions as f64, ""),
        Row::new(name("failed sessions"), outcome.failures.len() as f64, "").below(1.0),
    ]
}

/// Rows of the batch part.
pub(super) fn batch_rows(cases: &[Case]) -> Vec<Row> {
    let rows = cases.iter().flat_map(|case| {
        let name = |what: &str| format!("recordings of 60 s, {} at a time: {what}", case.parallel);
        [
            Row::new(name("real-time factor"), case.real_time_factor, "").below(0.01),
            Row::new(name("word error rate"), case.errors.rate() * 100.0, "%"),
        ]
    });
    rows.collect()
}

/// The row of `--find-capacity`.
pub(super) fn capacity_row(streams: u32) -> Row {
    let mut row =
        Row::new("live streams with chunk latency p99 below 100 ms".into(), f64::from(streams), "streams");
    row.goal = Some(">= 100".into());
    row.pass = Some(streams >= 100);
    row
}

/// The rows for people.
pub(super) fn table(rows: &[Row]) -> comfy_table::Table {
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

/// Appends the rows to a file of JSON lines.
pub(super) fn append(path: &Path, rows: &[Row]) -> std::io::Result<()> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path)?;
    for row in rows {
        writeln!(file, "{}", serde_json::to_string(row)?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_reached_or_missed_never_hidden() {
        assert_eq!(Row::new("x".into(), 99.0, "ms").below(100.0).pass, Some(true));
        assert_eq!(Row::new("x".into(), 100.0, "ms").below(100.0).pass, Some(false));
        assert_eq!(Row::new("x".into(), f64::NAN, "ms").below(100.0).pass, Some(false));
    }

    #[test]
    fn rows_are_appended_as_json_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b.jsonl");
        append(&path, &[capacity_row(120)]).unwrap();
        append(&path, &[capacity_row(50)]).unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        let rows: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((rows.len(), &rows[0]["pass"], &rows[1]["pass"]), (2, &true.into(), &false.into()));
    }
}
