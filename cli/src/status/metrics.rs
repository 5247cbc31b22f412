//! Reads the few figures that `status` shows from Prometheus text. Pure.

use serde::Serialize;

/// What a person wants to know first.
#[derive(Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Summary {
    /// Live streams in workers now.
    pub(super) streams: Option<f64>,
    /// Live streams that the workers have room for.
    pub(super) capacity: Option<f64>,
    /// Live streams that wait for a worker.
    pub(super) streams_waiting: Option<f64>,
    /// Recordings that wait for a worker.
    pub(super) recordings_waiting: Option<f64>,
    /// 1 when the license is valid.
    pub(super) license_valid: Option<f64>,
    /// Models that are loaded.
    pub(super) models: Vec<String>,
}

impl Summary {
    /// From the metrics of all programs, one after the other.
    pub(super) fn of(exposition: &str) -> Self {
        Self {
            streams: sum(exposition, "asr_active_streams"),
            capacity: sum(exposition, "asr_slots_total"),
            // Every worker and gateway tells the depth of the one queue: the largest is the newest rise.
            streams_waiting: largest(exposition, "asr_stream_queue_depth"),
            recordings_waiting: largest(exposition, "asr_batch_queue_depth"),
            license_valid: largest(exposition, "license_proxy_license_valid"),
            models: labels(exposition, "asr_model_info", "model"),
        }
    }

    /// Lines for a person; what is not known is left out.
    pub(super) fn lines(&self) -> Vec<(&'static str, String)> {
        let mut lines = Vec::new();
        if let Some(streams) = self.streams {
            let of = self.capacity.map(|capacity| format!(" of {capacity}")).unwrap_or_default();
            lines.push(("live streams", format!("{streams}{of}")));
        }
        if let (Some(streams), Some(recordings)) = (self.streams_waiting, self.recordings_waiting) {
            lines.push(("waiting", format!("{streams} streams, {recordings} recordings")));
        }
        if let Some(valid) = self.license_valid {
            lines.push(("license", if valid > 0.0 { "valid".into() } else { "NOT valid".into() }));
        }
        if !self.models.is_empty() {
            lines.push(("model", self.models.join(", ")));
        }
        lines
    }
}

/// Samples of one metric: their labels and values.
fn samples<'a>(exposition: &'a str, name: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
    exposition.lines().filter_map(move |line| {
        let rest = line.strip_prefix(name)?;
        let (labels, value) = match rest.strip_prefix('{') {
            Some(rest) => rest.rsplit_once('}')?,
            None => ("", rest.strip_prefix(' ')?),
        };
        Some((labels, value.split_whitespace().next()?.parse().ok()?))
    })
}

fn sum(exposition: &str, name: &str) -> Option<f64> {
    samples(exposition, name).map(|(_, value)| value).reduce(|a, b| a + b)
}

fn largest(exposition: &str, name: &str) -> Option<f64> {
    samples(exposition, name).map(|(_, value)| value).reduce(f64::max)
}

fn labels(exposition: &str, name: &str, label: &str) -> Vec<String> {
    let start = format!("{label}=\"");
    let value = |labels: &str| Some(labels.split_once(&start)?.1.split('"').next()?.to_owned());
    let mut found: Vec<String> = samples(exposition, name).filter_map(|(labels, _)| value(labels)).collect();
    found.sort();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_added_up_over_the_programs() {
        let text = "# TYPE asr_active_streams gauge\nasr_active_streams 3\nasr_active_streams{worker=\"b\"} 4\n\
                    asr_slots_total 128\nasr_slots_total 128\nasr_active_streams_total 99\n\
                    asr_stream_queue_depth 2\nasr_batch_queue_depth 0\nlicense_proxy_license_valid 1\n\
                    asr_model_info{model=\"demo-asr\",device=\"cpu\"} 1\n";
        let summary = Summary::of(text);
        assert_eq!(
            summary.lines(),
            [
                ("live streams", "7 of 256".to_owned()),
                ("waiting", "2 streams, 0 recordings".to_owned()),
                ("license", "valid".to_owned()),
                ("model", "demo-asr".to_owned()),
            ]
        );
    }

    #[test]
    fn what_is_not_told_is_left_out() {
        assert!(Summary::of("").lines().is_empty());
        assert!(Summary::of("asr_active_streams{broken\nasr_active_streams x\n").lines().is_empty());
    }
}
