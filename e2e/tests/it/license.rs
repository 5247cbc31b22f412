//! An invalid or expired license: new work is refused with the reason, running streams finish.

use e2e::clients::{chunks_of, get_text, stream_chunks};
use e2e::{Resource, Service, eventually, program, quickstart};
use std::path::Path;
use std::time::Duration;
use tokio::process::Command;
use tokio::sync::mpsc;

/// A vendor's key and what it signed.
struct Signed {
    token: String,
    /// For `LICENSE_TRUSTED_KEYS`.
    trusted: String,
}

/// Signs a license that lasts `seconds`.
async fn sign(dir: &Path, seconds: f64) -> anyhow::Result<Signed> {
    let proxy = program("smallest-license-proxy")?;
    let key = dir.join("key.pem");
    let keygen = Command::new(&proxy).args(["keygen", "--name", "e2e", "--out"]).arg(&key).output().await?;
    let said = String::from_utf8(keygen.stdout)?;
    let trusted = said.lines().find_map(|line| line.strip_prefix("LICENSE_TRUSTED_KEYS="));
    let trusted = trusted.ok_or_else(|| anyhow::anyhow!("keygen tells the key: {said}"))?.to_owned();
    let days = (seconds / 86_400.0).to_string();
    let issue = Command::new(&proxy)
        .args(["issue", "--key-name", "e2e", "--customer", "e2e", "--days", &days, "--key"])
        .arg(&key)
        .output()
        .await?;
    anyhow::ensure!(issue.status.success(), "{}", String::from_utf8_lossy(&issue.stderr));
    Ok(Signed { token: String::from_utf8(issue.stdout)?.trim().to_owned(), trusted })
}

#[tokio::test]
async fn a_license_of_a_stranger_is_refused_with_the_reason() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let signed = sign(dir.path(), 3600.0).await?;
    // Nobody told the service to trust that key.
    let resource = Resource { license: Some(signed.token), ..Resource::default() };
    let service = Service::spawn(&resource, &[])?;
    service.logged("gateway is not ready: the license is not valid").await?;
    refused(&service).await
}

#[tokio::test]
async fn a_running_stream_outlives_the_license_and_the_next_is_refused() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let sample = quickstart()?;
    let signed = sign(dir.path(), 45.0).await?;
    let resource = Resource { license: Some(signed.token), ..Resource::default() };
    let service = Service::start_with(&resource, &[("LICENSE_TRUSTED_KEYS", &signed.trusted)]).await?;
    let (out, chunks) = mpsc::channel(4);
    let args = service.args();
    let streaming = stream_chunks(&args, &sample, chunks);
    let speaking = async {
        let chunks = chunks_of(&sample);
        let (before, after) = chunks.split_at(chunks.len() / 2);
        for chunk in before {
            out.send(chunk.clone()).await?;
        }
        // The rest is spoken when the license is over.
        eventually("the license ends", || async {
            let answer = get_text(&service.url, sample.wav.clone()).await.ok()?;
            if answer.status == 200 {
                tokio::time::sleep(Duration::from_millis(500)).await;
                return None;
            }
            assert_eq!((answer.status, answer.reason()), (403, "LicenseExpired"), "{answer:?}");
            Some(())
        })
        .await?;
        for chunk in after {
            out.send(chunk.clone()).await?;
        }
        drop(out);
        anyhow::Ok(())
    };
    let (heard, spoken) = tokio::join!(streaming, speaking);
    spoken?;
    sample.check(&heard?.text)
}

/// Checks that the gateway refuses work; it listens, and says so, but is not ready.
async fn refused(service: &Service) -> anyhow::Result<()> {
    let wav = quickstart()?.wav;
    let log = service.log_text();
    let listening = log.lines().find(|line| line.contains("gateway │") && line.contains("listening"));
    let address = listening.and_then(|line| line.split("\"address\":\"").nth(1)?.split('"').next());
    let address = address.ok_or_else(|| anyhow::anyhow!("the gateway tells its address\n{log}"))?;
    let answer = get_text(&format!("http://{address}"), wav).await?;
    assert_eq!((answer.status, answer.reason()), (401, "LicenseInvalid"), "{answer:?}");
    assert!(!answer.body["message"].as_str().unwrap_or_default().is_empty());
    Ok(())
}
