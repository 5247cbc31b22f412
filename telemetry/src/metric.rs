//! Metrics: the process-wide recorder of the `metrics` facade, and its text for Prometheus at `GET /metrics`.
//!
//! Every crate records with `counter!`, `gauge!` and `histogram!`; only programs call [`metrics()`]. Before
//! that call, recording costs nothing and is lost. Names and meanings are in `docs/metrics.md`.

use std::sync::OnceLock;
use std::time::Duration;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::{build_info, process};

/// Upper bounds of the buckets of histograms whose name ends in `_seconds`. Dense where the product makes
/// promises (1 ms added by the way, 100 ms a chunk, 250 ms to the first words), open up to a minute.
pub const LATENCY_BUCKETS_S: [f64; 36] = [
    0.0001, 0.00025, 0.0005, 0.00075, 0.001, 0.0015, 0.002, 0.003, 0.004, 0.005, 0.0075, 0.01, 0.015, 0.02,
    0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.125, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0, 2.0, 3.0, 5.0, 10.0,
    20.0, 30.0, 60.0,
];
/// Bounds for ratios, such as the real-time factor.
const RATIO_BUCKETS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 0.75, 1.0, 2.0, 5.0];
/// Bounds for counts, such as the size of a batch.
const COUNT_BUCKETS: [f64; 14] =
    [1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0, 64.0, 128.0, 256.0, 512.0];
/// How often recorded histogram samples are folded into their buckets, so that a program nobody scrapes
/// does not grow.
const UPKEEP: Duration = Duration::from_secs(5);

static METRICS: OnceLock<Metrics> = OnceLock::new();

/// The recorder's readable side.
#[derive(Clone)]
pub struct Metrics {
    handle: PrometheusHandle,
}

/// The process-wide metrics; installs the recorder on the first call.
pub fn metrics() -> Metrics {
    METRICS.get_or_init(install).clone()
}

impl Metrics {
    /// All metrics in Prometheus' text format, those of the process included.
    pub fn render(&self) -> String {
        let mut text = self.handle.render();
        process::render(&mut text);
        text
    }

    /// `GET /metrics`.
    pub fn router(&self) -> Router {
        let metrics = self.clone();
        Router::new().route(
            "/metrics",
            get(move || async move {
                ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics.render())
            }),
        )
    }
}

fn install() -> Metrics {
    let recorder = builder().build_recorder();
    let metrics = Metrics { handle: recorder.handle() };
    if ::metrics::set_global_recorder(recorder).is_err() {
        tracing::warn!("another metrics recorder is installed; /metrics of this process stays empty");
    }
    let info = build_info();
    ::metrics::describe_gauge!("smallest_build_info", "Always 1; its labels tell the build.");
    ::metrics::gauge!("smallest_build_info", "version" => info.version, "revision" => info.revision).set(1.0);
    keep_up(metrics.handle.clone());
    metrics
}

fn builder() -> PrometheusBuilder {
    let suffixes: [(&str, &[f64]); 5] = [
        ("_seconds", &LATENCY_BUCKETS_S),
        ("_ratio", &RATIO_BUCKETS),
        ("_real_time_factor", &RATIO_BUCKETS),
        ("_size", &COUNT_BUCKETS),
        ("_count", &COUNT_BUCKETS),
    ];
    suffixes.into_iter().fold(PrometheusBuilder::new(), |builder, (suffix, bounds)| {
        builder
            .set_buckets_for_metric(Matcher::Suffix(suffix.to_owned()), bounds)
            .expect("the bounds are constants and not empty")
    })
}

fn keep_up(handle: PrometheusHandle) {
    let upkeep = move || {
        loop {
            std::thread::park_timeout(UPKEEP);
            handle.run_upkeep();
        }
    };
    if let Err(error) = std::thread::Builder::new().name("metrics-upkeep".to_owned()).spawn(upkeep) {
        tracing::warn!(%error, "failed to start the upkeep of metrics; they are folded when scraped");
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use tower::ServiceExt as _;

    use super::*;

    #[tokio::test]
    async fn records_and_serves() {
        let first = metrics();
        ::metrics::counter!("telemetry_test_requests_total", "code" => "200").increment(3);
        ::metrics::histogram!("telemetry_test_duration_seconds").record(0.0042);
        ::metrics::histogram!("telemetry_test_batch_size").record(7.0);
        assert_eq!(first.render().matches("telemetry_test_requests_total{code=\"200\"} 3").count(), 1);

        let response = metrics()
            .router()
            .oneshot(Request::get("/metrics").body(Body::empty()).expect("request"))
            .await
            .expect("answer");
        assert!(response.headers()[CONTENT_TYPE].to_str().expect("ascii").starts_with("text/plain"));
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.expect("body");
        let text = String::from_utf8(body.to_vec()).expect("utf-8");
        assert!(text.contains("telemetry_test_duration_seconds_bucket{le=\"0.005\"} 1"), "{text}");
        assert!(text.contains("telemetry_test_duration_seconds_bucket{le=\"0.004\"} 0"), "{text}");
        assert!(text.contains("telemetry_test_batch_size_bucket{le=\"8\"} 1"), "{text}");
        assert!(text.contains("smallest_build_info{"), "{text}");
        assert!(text.contains("process_resident_memory_bytes "), "{text}");
    }

    #[test]
    fn bounds_rise() {
        for bounds in [&LATENCY_BUCKETS_S[..], &RATIO_BUCKETS, &COUNT_BUCKETS] {
            assert!(bounds.windows(2).all(|pair| pair[0] < pair[1]), "{bounds:?}");
        }
    }
}
