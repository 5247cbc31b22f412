//! `probe`: is the proxy of this host up? It listens on the loopback address, where only its own host can ask.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::config::ServeArgs;

/// A proxy that takes longer is not up.
const PATIENCE: Duration = Duration::from_secs(1);

/// Fails when the proxy does not say that it is up.
pub(crate) async fn probe(args: &ServeArgs) -> anyhow::Result<()> {
    let url = format!("http://{}/healthz", SocketAddr::new(args.host, args.port));
    let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build();
    let client = client.context("failed to make an HTTP client")?;
    let answer = client.get(&url).send().await.with_context(|| format!("failed to ask {url}"))?;
    ensure!(answer.status().is_success(), "failed to find the proxy up: {url} says {}", answer.status());
    Ok(())
}
