//! What the gateway measures, in words for whoever reads `/metrics`; the list with meanings for people is in
//! `docs/metrics.md`. The values are recorded where they arise.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// Describes every metric of the gateway.
pub fn describe() {
    describe_counter!("gateway_requests_total", "recordings and live sessions that came, by edge");
    describe_counter!("gateway_errors_total", "requests and sessions that failed or were refused, by reason");
    describe_gauge!("gateway_active_requests", "recordings in work");
    describe_gauge!("gateway_active_streams", "live sessions in work");
    describe_counter!("gateway_audio_ms_total", "audio recognized, milliseconds, by kind");
    describe_counter!("gateway_chunks_total", "chunks of live audio that came");
    describe_counter!("gateway_cancelled_total", "work dropped because its client went away, by kind");
    describe_counter!("gateway_sessions_resumed_total", "times another worker took a session over");
    describe_counter!("gateway_sessions_adopted_total", "sessions that came back from a lost gateway");
    describe_counter!("gateway_late_replies_total", "replies to jobs that nobody waits for any more");
    describe_counter!("gateway_messages_lost_total", "messages to workers given up in a long outage");
    describe_counter!("gateway_queue_errors_total", "failed calls of the queue, by reason");
    describe_gauge!("gateway_queue_up", "1 when the queue answered at the last look");
    describe_gauge!("gateway_workers", "workers that take work");
    describe_gauge!("gateway_queue_depth", "work of the deployment that no worker has claimed, by kind");
    describe_gauge!(
        "gateway_queue_oldest_seconds",
        Unit::Seconds,
        "age of the oldest unclaimed work, by kind"
    );
    describe_histogram!(
        "gateway_e2e_latency_seconds",
        Unit::Seconds,
        "recording from its last byte to the answer"
    );
    describe_histogram!("gateway_decode_seconds", Unit::Seconds, "decoding and resampling of a recording");
    describe_histogram!("gateway_queue_wait_seconds", Unit::Seconds, "from accepted to claimed by a worker");
    describe_histogram!(
        "gateway_session_claim_seconds",
        Unit::Seconds,
        "live session from opened to each claim"
    );
    describe_histogram!(
        "gateway_chunk_latency_seconds",
        Unit::Seconds,
        "live chunk from received to decoded"
    );
    describe_histogram!(
        "gateway_chunk_overhead_seconds",
        Unit::Seconds,
        "live chunk from received to decoded, less its wait and step in the worker"
    );
    describe_histogram!(
        "gateway_queue_send_seconds",
        Unit::Seconds,
        "one round trip of messages to a worker"
    );
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// Names between quotes that begin with `gateway_`, in all files of a folder.
    fn names(folder: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                names(&path, found);
            } else {
                let text = std::fs::read_to_string(&path).unwrap();
                let quoted = text.split('"').filter(|t| t.starts_with("gateway_") && !t.contains(' '));
                found.extend(quoted.map(str::to_owned));
            }
        }
    }

    #[test]
    fn every_metric_is_described_and_documented() {
        let mut found = Vec::new();
        names(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
        assert!(found.len() > 20);
        for name in found.iter().filter(|n| n.as_str() != "gateway_") {
            assert!(include_str!("metric.rs").contains(&format!("\"{name}\"")), "{name} is not described");
            let docs = include_str!("../../docs/metrics.md");
            assert!(docs.contains(&format!("`{name}`")), "{name} is not in docs/metrics.md");
        }
    }
}
