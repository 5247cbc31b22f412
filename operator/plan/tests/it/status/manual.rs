//! `docs/troubleshooting.md` has a row for every reason, and no row for what is none.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Words of the functions named `reason` in a source file: `=> "Word"`.
fn words(file: &str) -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(file);
    let text = fs::read_to_string(path).expect(file);
    let bodies = text.split("fn reason(&self)").skip(1).filter_map(|rest| rest.split("\n    }\n").next());
    bodies
        .flat_map(|body| body.split("=> \"").skip(1))
        .filter_map(|rest| rest.split('"').next())
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_reason_has_its_row() {
    let manual = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/troubleshooting.md");
    let manual = fs::read_to_string(manual).expect("docs/troubleshooting.md");
    let (_, reasons) = manual.split_once("\n## Reasons\n").expect("the reasons have a section");
    let rows: BTreeSet<String> = reasons
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(reason, _)| reason.to_owned())
        .collect();
    let invalid = words("operator/plan/src/validate/invalid.rs");
    let failures = words("operator/plan/src/status/found.rs");
    assert!(invalid.len() >= 5 && failures.len() >= 5, "the words are not found: {invalid:?} {failures:?}");
    let told: BTreeSet<String> = operator_plan::REASONS.iter().map(|reason| (*reason).to_owned()).collect();
    let all: BTreeSet<String> = told.into_iter().chain(invalid).chain(failures).collect();
    let missing: Vec<&String> = all.difference(&rows).collect();
    assert!(missing.is_empty(), "docs/troubleshooting.md lacks rows for {missing:?}");
    let unknown: Vec<&String> = rows.difference(&all).filter(|row| *row != "Unreadable").collect();
    assert!(unknown.is_empty(), "docs/troubleshooting.md has rows for what is no reason: {unknown:?}");
}
