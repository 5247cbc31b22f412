//! TLS: a Redis with a certificate of a private root.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use bytes::Bytes;
use queue::ids::{GatewayId, WorkerId};
use queue::port::{GatewayPort, WorkerPort};
use queue::redis::RedisQueue;
use queue::testing::RedisServer;

use crate::rig::{SOON, config, job, limits};

/// Set for the child process that does the connecting.
const CHILD: &str = "QUEUE_TEST_TLS_URL";

/// Trusted roots come from the environment, which a running program must not change: the test runs itself again
/// with them and without.
#[test]
fn a_private_root_is_trusted_when_named_and_refused_when_not() {
    if let Ok(url) = std::env::var(CHILD) {
        return connect_and_work(&url);
    }
    let folder = tempfile::tempdir().unwrap();
    make_certificates(folder.path());
    let path = |file: &str| folder.path().join(file).display().to_string();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let _server = RedisServer::start_with(&[
        "--tls-port",
        &port.to_string(),
        "--tls-cert-file",
        &path("cert.pem"),
        "--tls-key-file",
        &path("key.pem"),
        "--tls-ca-cert-file",
        &path("root.pem"),
        "--tls-auth-clients",
        "no",
    ])
    .unwrap();
    let run = |roots: &str| {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "secure::a_private_root_is_trusted_when_named_and_refused_when_not"])
            .env(CHILD, format!("rediss://127.0.0.1:{port}"))
            .env("SSL_CERT_FILE", roots)
            .output()
            .unwrap()
    };
    let named = run(&path("root.pem"));
    assert!(named.status.success(), "{}", String::from_utf8_lossy(&named.stdout));
    make_certificates(folder.path());
    let other = run(&path("root.pem"));
    assert!(!other.status.success(), "a root of the same name but another key is refused");
    let said = String::from_utf8_lossy(&other.stdout).to_lowercase();
    assert!(said.contains("certificate"), "{said}");
}

#[tokio::main(flavor = "current_thread")]
async fn connect_and_work(url: &str) {
    let queue = RedisQueue::connect(&config(url, "default/one", limits())).await.unwrap();
    let gateway = GatewayId::generate();
    queue.submit(&job(&gateway), Bytes::from_static(b"sound")).await.unwrap();
    assert_eq!(queue.claim_jobs(&WorkerId::generate(), 1, SOON).await.unwrap().len(), 1);
}

/// root.pem, and cert.pem with key.pem for 127.0.0.1.
fn make_certificates(folder: &Path) {
    std::fs::write(folder.join("san"), "subjectAltName=IP:127.0.0.1").unwrap();
    let new_key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    for step in [
        format!("req -x509 {new_key} -keyout root.key -out root.pem -days 2 -subj /CN=test-root"),
        format!("req {new_key} -keyout key.pem -out request -subj /CN=redis"),
        "x509 -req -in request -CA root.pem -CAkey root.key -CAcreateserial -days 2 -extfile san -out cert.pem".into(),
    ] {
        let done = Command::new("openssl").args(step.split(' ')).current_dir(folder).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
}
