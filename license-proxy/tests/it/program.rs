//! The program itself: it stays up with a bad license, ends on SIGTERM, and issues licenses.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use license_proxy::edge::Health;
use license_proxy::{DenyReason, LicenseGate};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

use crate::world::{PATIENCE, committed, denied_for, development, granted, until};

const PROGRAM: &str = env!("CARGO_BIN_EXE_smallest-license-proxy");

async fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
    listener.local_addr().expect("address").port()
}

fn start(port: u16, license: &Path, trusted: &str) -> Child {
    Command::new(PROGRAM)
        .env("PORT", port.to_string())
        .env("LICENSE_FILE", license)
        .env("LICENSE_TRUSTED_KEYS", trusted)
        .env("RUST_LOG", "warn")
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("start the program")
}

async fn run(args: &[&str]) -> (bool, String) {
    let output = Command::new(PROGRAM).args(args).output().await.expect("run the program");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

async fn health(port: u16) -> Health {
    let url = format!("http://127.0.0.1:{port}/health");
    let wait = async {
        loop {
            if let Ok(answer) = reqwest::get(&url).await
                && let Ok(health) = answer.json::<Health>().await
                && health.reason.as_deref() != Some("LicenseServerUnreachable")
            {
                return health;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("the program answers")
}

/// What `probe` ends with, as Kubernetes runs it inside the pod.
async fn probe(port: u16) -> (bool, String) {
    run(&["--port", &port.to_string(), "probe"]).await
}

async fn ends_well(mut child: Child) {
    let pid = child.id().expect("it runs").to_string();
    let sent = Command::new("kill").args(["-TERM", &pid]).status().await.expect("kill");
    assert!(sent.success());
    let status = tokio::time::timeout(PATIENCE, child.wait()).await.expect("it ends").expect("status");
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn it_stays_up_with_an_expired_license_says_so_and_ends_on_sigterm() {
    let port = free_port().await;
    let child = start(port, &committed("expired.jwt"), "");
    let health = health(port).await;
    assert_eq!(health.reason.as_deref(), Some("LicenseExpired"));
    let alive = reqwest::get(format!("http://127.0.0.1:{port}/healthz")).await.expect("answer");
    assert!(alive.status().is_success());
    let (up, said) = probe(port).await;
    assert!(up, "{said}");
    let metrics = reqwest::get(format!("http://127.0.0.1:{port}/metrics")).await.expect("answer");
    let metrics = metrics.text().await.expect("text");
    assert!(metrics.contains("\nlicense_proxy_license_valid 0\n"), "{metrics}");
    // A gate that waits for a decision must not keep the program from ending.
    let gate = LicenseGate::connect(&format!("http://127.0.0.1:{port}"), "asr").await;
    until(&gate, denied_for(DenyReason::LicenseExpired)).await;
    ends_well(child).await;
    let (up, said) = probe(port).await;
    assert!(!up && said.contains("failed to ask"), "{said}");
}

#[tokio::test]
async fn the_last_answer_outlives_a_proxy_that_crashes_and_the_next_one_is_heard() {
    let port = free_port().await;
    let mut child = start(port, &development(), "");
    let gate = LicenseGate::connect(&format!("http://127.0.0.1:{port}"), "asr").await;
    until(&gate, granted).await;
    child.kill().await.expect("killed");
    assert!(granted(&gate.current()));

    let child = start(port, Path::new("/nowhere/license.jwt"), "");
    until(&gate, denied_for(DenyReason::LicenseMissing)).await;
    ends_well(child).await;
}

#[tokio::test]
async fn a_vendor_makes_a_key_issues_a_license_and_the_program_trusts_it() {
    let folder = tempfile::tempdir().expect("folder");
    let (key, license) = (folder.path().join("vendor.pem"), folder.path().join("license.jwt"));
    let key_path = key.to_str().expect("utf-8");
    let (ok, said) = run(&["keygen", "--name", "vendor-1", "--out", key_path]).await;
    assert!(ok, "{said}");
    let trusted = said.lines().find_map(|line| line.strip_prefix("LICENSE_TRUSTED_KEYS=")).expect("key");
    let (again, _) = run(&["keygen", "--name", "vendor-1", "--out", key_path]).await;
    assert!(!again, "a key is never overwritten");

    let issue = ["issue", "--key", key_path, "--key-name", "vendor-1", "--customer", "Test", "--days", "1"];
    let (ok, text) = run(&issue).await;
    assert!(ok, "{text}");
    fs::write(&license, &text).expect("file");
    let license_path = license.to_str().expect("utf-8");
    let (ok, shown) = run(&["--license-trusted-keys", trusted, "show", license_path]).await;
    assert!(ok && shown.contains("\"sub\": \"Test\""), "{shown}");
    let (ok, refused) = run(&["show", license_path]).await;
    assert!(!ok && refused.contains("vendor-1"), "{refused}");

    let port = free_port().await;
    let child = start(port, &license, trusted);
    let gate = LicenseGate::connect(&format!("http://127.0.0.1:{port}"), "asr").await;
    until(&gate, granted).await;
    ends_well(child).await;
}
