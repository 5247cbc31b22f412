//! TLS: a Redis with a certificate of a private authority.

use std::process::Command;

use bytes::Bytes;
use queue::ids::{GatewayId, WorkerId};
use queue::port::{GatewayPort, QueueError, WorkerPort};
use queue::redis::{ObserverConfig, RedisConfig, RedisObserver, RedisQueue, Timeouts};
use queue::testing::{TlsRedis, certify};

use crate::rig::{SOON, config, job, limits};

/// Set for the child process that does the connecting.
const CHILD: &str = "QUEUE_TEST_TLS_URL";

fn trusting(url: &str, authority: Option<&str>) -> RedisConfig {
    RedisConfig { root_certificates: authority.map(str::to_owned), ..config(url, "default/one", limits()) }
}

/// What is said to whoever runs the program, causes included.
fn said(error: &QueueError) -> String {
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    format!("{error}: {cause}")
}

/// Commands go over one kind of connection, blocking reads over another: both must trust it.
async fn work(queue: &RedisQueue) {
    let gateway = GatewayId::generate();
    queue.submit(&job(&gateway), Bytes::from_static(b"sound")).await.unwrap();
    assert_eq!(queue.claim_jobs(&WorkerId::generate(), 1, SOON).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_named_authority_is_trusted_for_everything() {
    let server = TlsRedis::start().unwrap();
    let queue = RedisQueue::connect(&trusting(&server.url(), Some(server.authority()))).await.unwrap();
    work(&queue).await;
    let (another, _, _) = certify().unwrap();
    let several = format!("{another}\n{}", server.authority());
    let queue = RedisQueue::connect(&trusting(&server.url(), Some(&several))).await;
    queue.expect("one of several authorities has signed it");
    let observer = ObserverConfig {
        url: server.url(),
        root_certificates: Some(server.authority().to_owned()),
        deployment: "default/one".to_owned(),
        components: vec!["asr"],
        limits: limits(),
        timeouts: Timeouts::default(),
    };
    RedisObserver::connect(&observer).await.expect("the operator's own way");
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_is_told_with_what_to_do() {
    let server = TlsRedis::start().unwrap();
    let (another, certificate, _) = certify().unwrap();
    let named = "name the one that did in REDIS_CA_FILE";
    let (tls, own) = (server.url(), server.authority());
    for (name, url, authority, expected) in [
        ("another authority of the same name", tls.as_str(), Some(another.as_str()), named),
        ("a certificate that is no authority's", &tls, Some(&certificate), named),
        ("the system's authorities", &tls, None, named),
        (
            "another host name",
            &server.url_of_another_name(),
            Some(own),
            "use a host name that its certificate has",
        ),
        ("no certificate", &tls, Some("-----BEGIN PRIVATE KEY-----"), "is no PEM certificate"),
        ("an empty file", &tls, Some(""), "is no PEM certificate"),
        ("no TLS", "redis://127.0.0.1:1", Some(own), "use rediss://"),
    ] {
        let refused = RedisQueue::connect(&trusting(url, authority)).await;
        let said = said(&refused.err().unwrap_or_else(|| panic!("{name} is accepted")));
        assert!(said.contains(expected), "{name}: {said}");
    }
}

/// The system's authorities come from the environment, which a running program must not change: the test runs itself
/// again with them.
#[test]
fn without_a_named_authority_the_systems_are_trusted() {
    if let Ok(url) = std::env::var(CHILD) {
        return connect_and_work(&url);
    }
    let server = TlsRedis::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let roots = folder.path().join("roots.pem");
    std::fs::write(&roots, server.authority()).unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "secure::without_a_named_authority_the_systems_are_trusted"])
        .env(CHILD, server.url())
        .env("SSL_CERT_FILE", &roots)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[tokio::main(flavor = "current_thread")]
async fn connect_and_work(url: &str) {
    work(&RedisQueue::connect(&trusting(url, None)).await.unwrap()).await;
}
