//! Spans leave the process: a collector that only listens sees the exporter come when the guard is dropped.

use std::time::Duration;

use telemetry::{LogFormat, TelemetryConfig, init, trace};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;

#[tokio::test(flavor = "multi_thread")]
async fn the_last_spans_are_sent_when_the_guard_is_dropped() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
    let endpoint = format!("http://{}", listener.local_addr().expect("address"));
    let config = TelemetryConfig {
        service: "telemetry-test",
        log_format: LogFormat::Json,
        otlp_endpoint: Some(endpoint),
    };
    let guard = init(&config).expect("telemetry");
    let traceparent = tracing::info_span!("work").in_scope(trace::current_traceparent);
    assert!(traceparent.is_some_and(|text| text.starts_with("00-") && text.len() == 55));

    let ended = tokio::task::spawn_blocking(move || drop(guard));
    let collector = async {
        let (mut socket, _) = listener.accept().await.expect("the exporter");
        let mut preface = [0; 14];
        socket.read_exact(&mut preface).await.expect("bytes");
        preface
    };
    let preface = tokio::time::timeout(Duration::from_secs(20), collector).await.expect("spans in time");
    assert_eq!(&preface, b"PRI * HTTP/2.0", "gRPC begins so");
    // The collector never answers: the guard must give up by itself.
    tokio::time::timeout(Duration::from_secs(20), ended)
        .await
        .expect("the guard gives up")
        .expect("no panic");
}
