//! The README's way: `kubectl apply` of the example, then a transcript over every protocol through the Service.

use anyhow::Context;
use e2e::cluster::{Cluster, PATIENCE, Space, in_namespace};
use e2e::{clients, quickstart, repository};

pub(crate) async fn every_protocol_gets_a_transcript(cluster: &Cluster) -> anyhow::Result<()> {
    in_namespace(cluster, "quickstart", async |space| {
        let file = repository().join("examples/quickstart-kubernetes.yaml").display().to_string();
        kubectl(space, &["apply", "-f", &file]).await?;
        let deployment = space.ready("quickstart").await?;
        // It serves before the operator has read in Redis what the license proxies say.
        let licensed = space.told("quickstart", "LicenseValid");
        licensed.until("is True", PATIENCE, |condition| condition.status == "True").await?;
        columns(space).await?;

        let service = space.service("quickstart").await?;
        let sample = quickstart()?;
        // A live stream, a whole recording, and both once more in the ways of other clients.
        let report = clients::stream(&service, &sample).await?;
        sample.check(&report.text)?;
        let answer = clients::recognize(&service, sample.wav.clone()).await?;
        sample.check(&answer.text)?;
        let answer = clients::get_text(&service.url, sample.wav.clone()).await?;
        anyhow::ensure!(answer.status == 200, "{answer:?}");
        sample.check(answer.text())?;
        let answer = clients::openai(&service.url, sample.wav.clone()).await?;
        anyhow::ensure!(answer.status == 200, "{answer:?}");
        sample.check(answer.body["text"].as_str().unwrap_or_default())?;
        let finals = clients::websocket(&service.url, &sample).await?;
        sample.check(&clients::text_of(&finals))?;

        let endpoints =
            deployment.status.and_then(|status| status.endpoints).context("endpoints are told")?;
        let http = format!("http://quickstart-gateway.{}.svc:7100", space.name);
        anyhow::ensure!(endpoints.http == http, "{endpoints:?}");
        Ok(())
    })
    .await
}

/// What `kubectl get` shows.
async fn columns(space: &Space<'_>) -> anyhow::Result<()> {
    let shown = kubectl(space, &["get", "sd"]).await?;
    let head = shown.lines().next().unwrap_or_default();
    for column in ["READY", "GATEWAY", "ASR", "TTS", "STREAMS", "QUEUE", "LICENSE", "MODEL", "AGE"] {
        anyhow::ensure!(head.contains(column), "{column} is missing:\n{shown}");
    }
    let row = shown.lines().nth(1).unwrap_or_default();
    for cell in ["True", "1/1", "Valid", "demo-asr"] {
        anyhow::ensure!(row.contains(cell), "{cell} is missing:\n{shown}");
    }
    Ok(())
}

async fn kubectl(space: &Space<'_>, arguments: &[&str]) -> anyhow::Result<String> {
    let mut command = space.cluster.tool("kubectl");
    let output = command.args(["--namespace", &space.name]).args(arguments).output().await?;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "kubectl {}: {said}", arguments.join(" "));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
