//! Cases of who is believed and who may.

use crate::rig::{Authority, LOAD, Rig, front_proxy};

const ALLOWED: &str = r#"["front-proxy-client"]"#;

#[tokio::test]
async fn only_the_apiserver_is_believed() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let rig = Rig::new(front_proxy(&authority, ALLOWED)).await;
    for (name, identity, code) in [
        ("no certificate", None, 401),
        ("another authority", Some(stranger.sign("front-proxy-client")), 401),
        ("another name", Some(authority.sign("kubelet")), 401),
        ("a certificate that ended", Some(authority.sign_until("front-proxy-client", 2020)), 401),
        ("the apiserver", Some(authority.sign("front-proxy-client")), 200),
    ] {
        let (status, body) = rig.get(identity.as_ref(), "hpa", LOAD).await;
        assert_eq!(status, code, "{name}: {body}");
        if code == 401 {
            assert_eq!(
                (&body["kind"], &body["reason"]),
                (&"Status".into(), &"Unauthorized".into()),
                "{name}"
            );
        }
    }
    assert_eq!(rig.asked.lock().unwrap().len(), 1, "nobody else's questions reach the apiserver");
}

#[tokio::test]
async fn headers_alone_make_nobody_a_master() {
    let rig = Rig::new(front_proxy(&Authority::new(), ALLOWED)).await;
    let head = format!("GET {LOAD} HTTP/1.1\r\nX-Remote-User: root\r\nX-Remote-Group: system:masters\r\n");
    assert_eq!(rig.ask(None, &head).await.0, 401);
}

#[tokio::test]
async fn without_names_every_certificate_of_the_authority_is_the_apiservers() {
    let authority = Authority::new();
    let rig = Rig::new(front_proxy(&authority, "[]")).await;
    assert_eq!(rig.get(Some(&authority.sign("any")), "hpa", LOAD).await.0, 200);
}

#[tokio::test]
async fn a_request_without_a_user_is_nobodys() {
    let authority = Authority::new();
    let rig = Rig::new(front_proxy(&authority, ALLOWED)).await;
    let apiserver = authority.sign("front-proxy-client");
    let (status, body) = rig.ask(Some(&apiserver), &format!("GET {LOAD} HTTP/1.1\r\n")).await;
    assert_eq!(status, 401, "{body}");
}

#[tokio::test]
async fn before_the_apiserver_is_known_nobody_is_refused_for_good() {
    let authority = Authority::new();
    let rig = Rig::early().await;
    let apiserver = authority.sign("front-proxy-client");
    assert_eq!(rig.get(Some(&apiserver), "hpa", LOAD).await.0, 503);
    rig.front_proxy.send_replace(Some(front_proxy(&authority, ALLOWED)));
    assert_eq!(rig.get(Some(&apiserver), "hpa", LOAD).await.0, 200);
}

#[tokio::test]
async fn a_changed_authority_counts_at_once() {
    let (former, latter) = (Authority::new(), Authority::new());
    let rig = Rig::new(front_proxy(&former, ALLOWED)).await;
    let apiserver = former.sign("front-proxy-client");
    assert_eq!(rig.get(Some(&apiserver), "hpa", LOAD).await.0, 200);
    rig.front_proxy.send_replace(Some(front_proxy(&latter, ALLOWED)));
    assert_eq!(rig.get(Some(&apiserver), "hpa", LOAD).await.0, 401);
    assert_eq!(rig.get(Some(&latter.sign("front-proxy-client")), "hpa", LOAD).await.0, 200);
}

#[tokio::test]
async fn the_apiserver_says_who_may_and_is_not_asked_twice() {
    let authority = Authority::new();
    let rig = Rig::new(front_proxy(&authority, ALLOWED)).await;
    let apiserver = authority.sign("front-proxy-client");
    for (user, code, reason) in
        [("hpa", 200, ""), ("eve", 403, "Forbidden"), ("mallory", 503, "ServiceUnavailable")]
    {
        for _ in 0..2 {
            let (status, body) = rig.get(Some(&apiserver), user, LOAD).await;
            assert_eq!(status, code, "{user}: {body}");
            assert_eq!(body["reason"].as_str().unwrap_or_default(), reason, "{user}");
        }
    }
    let asked = rig.asked.lock().unwrap().clone();
    let users: Vec<_> = asked.iter().map(|spec| spec["user"].as_str().unwrap()).collect();
    assert_eq!(users, ["hpa", "eve", "mallory", "mallory"], "an answer is kept, a failure is not");
    let wanted = &asked[0]["resourceAttributes"];
    assert_eq!(wanted["group"], "external.metrics.k8s.io");
    let of = |key: &str| wanted[key].as_str().unwrap().to_owned();
    assert_eq!(
        (of("namespace"), of("resource"), of("verb")),
        ("speech".into(), "smallest_load".into(), "list".into())
    );
    assert_eq!(asked[0]["groups"][0], "system:authenticated");
}

#[tokio::test]
async fn another_namespace_is_another_question() {
    let authority = Authority::new();
    let rig = Rig::new(front_proxy(&authority, ALLOWED)).await;
    let apiserver = authority.sign("front-proxy-client");
    rig.get(Some(&apiserver), "hpa", LOAD).await;
    rig.get(Some(&apiserver), "hpa", &LOAD.replace("speech", "other")).await;
    assert_eq!(rig.asked.lock().unwrap().len(), 2);
}

/// For discovery and `OpenAPI` the apiserver asks in its own name, without groups. A refusal there would keep every
/// namespace of the cluster from being deleted.
#[tokio::test]
async fn the_apiservers_own_questions_are_those_of_somebody_known() {
    let authority = Authority::new();
    let rig = Rig::new(front_proxy(&authority, ALLOWED)).await;
    let apiserver = authority.sign("front-proxy-client");
    for path in ["/apis/external.metrics.k8s.io/v1beta1", "/openapi/v2"] {
        let head = format!("GET {path} HTTP/1.1\r\nX-Remote-User: system:kube-aggregator\r\n");
        assert_eq!(rig.ask(Some(&apiserver), &head).await.0, 200, "{path}");
    }
    let asked = rig.asked.lock().unwrap().clone();
    assert_eq!(asked.len(), 2);
    for question in asked {
        assert_eq!(question["groups"], serde_json::json!(["system:authenticated"]));
        assert_eq!(question["nonResourceAttributes"]["verb"], "get");
    }
}

#[tokio::test]
async fn masters_need_no_review() {
    let authority = Authority::new();
    let rig = Rig::new(front_proxy(&authority, ALLOWED)).await;
    let head = format!("GET {LOAD} HTTP/1.1\r\nX-Remote-User: eve\r\nX-Remote-Group: system:masters\r\n");
    assert_eq!(rig.ask(Some(&authority.sign("front-proxy-client")), &head).await.0, 200);
    assert!(rig.asked.lock().unwrap().is_empty());
}
