//! What was measured where: machine, versions, how the programs were built.

use std::fs;

use kube::Client;
use serde_json::{Value, json};

/// The facts that every row carries.
pub(crate) async fn facts(client: &Client) -> anyhow::Result<Value> {
    let kubernetes = client.apiserver_version().await?.git_version;
    Ok(json!({
        "cpu": field("/proc/cpuinfo", "model name"),
        "cores": std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        "memory_kib": field("/proc/meminfo", "MemTotal").trim_end_matches(" kB").parse::<u64>().ok(),
        "load_1min": field("/proc/loadavg", "").split(' ').next().and_then(|load| load.parse::<f64>().ok()),
        "linux": fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim(),
        "kubernetes": kubernetes,
        "smallest": env!("CARGO_PKG_VERSION"),
        "profile": if cfg!(debug_assertions) { "debug" } else { "release" },
    }))
}

/// What stands behind the colon of the line that begins so; the whole line where there is none.
fn field(path: &str, begins: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(begins)).unwrap_or_default();
    line.split_once(':').map_or(line, |(_, value)| value).trim().to_owned()
}
