//! Cases of what is answered.

use crate::rig::{Authority, LOAD, Rig, front_proxy};

#[tokio::test]
async fn every_question_gets_its_answer_or_a_status() {
    let authority = Authority::new();
    let rig = Rig::new(front_proxy(&authority, "[]")).await;
    let apiserver = authority.sign("front-proxy-client");
    let long = format!("{LOAD}?labelSelector={}", "a".repeat(2_000));
    for (path, code, reason) in [
        ("/apis", 200, ""),
        ("/apis/external.metrics.k8s.io", 200, ""),
        ("/apis/external.metrics.k8s.io/v1beta1", 200, ""),
        ("/openapi/v2", 200, ""),
        ("/openapi/v3", 200, ""),
        ("/openapi/v3/apis/external.metrics.k8s.io/v1beta1?hash=v1beta1", 200, ""),
        (&format!("{LOAD}?labelSelector=deployment%3Dquickstart"), 200, ""),
        (&format!("{LOAD}?labelSelector=deployment%20in%20(quickstart%2Cother)"), 200, ""),
        (&format!("{LOAD}?labelSelector=deployment%3Dother"), 404, "NotFound"),
        (&format!("{LOAD}?labelSelector=deployment%3Daway"), 503, "ServiceUnavailable"),
        (&format!("{LOAD}?labelSelector=deployment%3E3"), 400, "BadRequest"),
        (&long, 400, "BadRequest"),
        ("/apis/external.metrics.k8s.io/v1beta2", 404, "NotFound"),
        ("/apis/metrics.k8s.io/v1beta1", 404, "NotFound"),
        ("/", 404, "NotFound"),
    ] {
        let (status, body) = rig.get(Some(&apiserver), "hpa", path).await;
        assert_eq!(status, code, "{path}: {body}");
        if code != 200 {
            assert_eq!(body["reason"], reason, "{path}: {body}");
            assert!(body["message"].as_str().unwrap().starts_with("failed to "), "{path}: {body}");
        }
    }
}

#[tokio::test]
async fn a_value_is_what_the_source_says() {
    let authority = Authority::new();
    let rig = Rig::new(front_proxy(&authority, "[]")).await;
    let path = format!("{LOAD}?labelSelector=deployment%3Dquickstart");
    let (_, list) = rig.get(Some(&authority.sign("a")), "hpa", &path).await;
    assert_eq!(
        (&list["kind"], list["items"].as_array().unwrap().len()),
        (&"ExternalMetricValueList".into(), 1)
    );
    let item = &list["items"][0];
    assert_eq!((&item["metricName"], &item["value"]), (&"smallest_load".into(), &"2500m".into()));
    assert_eq!(item["metricLabels"]["deployment"], "quickstart");
}

#[tokio::test]
async fn an_unknown_value_says_why_and_is_not_zero() {
    let authority = Authority::new();
    let rig = Rig::new(front_proxy(&authority, "[]")).await;
    let path = format!("{LOAD}?labelSelector=deployment%3Daway");
    let (_, status) = rig.get(Some(&authority.sign("a")), "hpa", &path).await;
    assert_eq!((&status["kind"], &status["status"]), (&"Status".into(), &"Failure".into()));
    assert!(status["message"].as_str().unwrap().contains("QueueUnavailable"), "{status}");
    assert!(status.get("items").is_none());
}

#[tokio::test]
async fn nothing_can_be_written() {
    let authority = Authority::new();
    let rig = Rig::new(front_proxy(&authority, "[]")).await;
    let head = format!("DELETE {LOAD} HTTP/1.1\r\nX-Remote-User: hpa\r\n");
    let (status, body) = rig.ask(Some(&authority.sign("a")), &head).await;
    assert_eq!((status, &body["reason"]), (405, &"MethodNotAllowed".into()));
}

#[tokio::test]
async fn a_head_that_is_too_long_is_refused() {
    let authority = Authority::new();
    let rig = Rig::new(front_proxy(&authority, "[]")).await;
    let head = format!("GET {LOAD} HTTP/1.1\r\nX-Remote-User: {}\r\n", "a".repeat(70_000));
    assert_eq!(rig.ask(Some(&authority.sign("a")), &head).await.0, 431);
}

#[tokio::test]
async fn probes_need_nobody() {
    let rig = Rig::early().await;
    assert_eq!(rig.ask(None, "GET /readyz HTTP/1.1\r\n").await.0, 200);
}
