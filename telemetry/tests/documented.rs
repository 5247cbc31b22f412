//! Every metric that a program records is in `docs/metrics.md`, and every one listed there is recorded.

use std::collections::BTreeSet;
use std::path::Path;

/// Folders with programs and what they are made of.
const SOURCES: [&str; 7] = [
    "gateway/src",
    "workers/run/src",
    "workers/batch/src",
    "license-proxy/src",
    "operator",
    "telemetry/src",
    "queue/src",
];
/// How names of metrics begin, by program.
const PREFIXES: [&str; 8] = [
    "gateway_",
    "asr_",
    "total_requests_",
    "license_proxy_",
    "operator_",
    "external_metrics_",
    "process_",
    "smallest_build_",
];
/// How they are recorded and described.
const MACROS: [&str; 3] = ["counter!(", "gauge!(", "histogram!("];

/// The text of all sources of a folder, without tests at their ends.
fn sources(folder: &Path, text: &mut String) {
    for entry in std::fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            if !path.ends_with("tests") && !path.ends_with("target") {
                sources(&path, text);
            }
        } else if path.extension().is_some_and(|e| e == "rs") {
            let all = std::fs::read_to_string(&path).expect("a source");
            text.push_str(all.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default());
        }
    }
}

fn is_name(text: &str) -> bool {
    let word = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    word && PREFIXES.iter().any(|prefix| text.len() > prefix.len() && text.starts_with(prefix))
}

#[test]
fn what_is_recorded_is_documented_and_the_other_way_round() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut text = String::new();
    for folder in SOURCES {
        sources(&root.join(folder), &mut text);
    }
    let docs = std::fs::read_to_string(root.join("docs/metrics.md")).expect("the list");
    let listed: BTreeSet<&str> = docs
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .flat_map(|line| line.split(" | ").next().unwrap_or_default().split('`'))
        .filter(|name| is_name(name))
        .collect();
    let recorded: BTreeSet<&str> = MACROS
        .iter()
        .flat_map(|call| text.match_indices(call).map(|(at, call)| &text[at + call.len()..]))
        .filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next())
        .collect();
    assert!(recorded.len() > 50, "{recorded:?}");
    let missing: Vec<_> = recorded.iter().filter(|name| !listed.contains(**name)).collect();
    assert!(missing.is_empty(), "not in docs/metrics.md: {missing:?}");
    let quoted: BTreeSet<&str> = text.split('"').filter(|word| is_name(word)).collect();
    let gone: Vec<_> = listed.iter().filter(|name| !quoted.contains(**name)).collect();
    assert!(gone.is_empty(), "in docs/metrics.md, but no program records it: {gone:?}");
}
