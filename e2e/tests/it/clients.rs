//! Clients that misbehave leave the others undisturbed, and their slots come back.

use e2e::clients::{chunks_of, stream};
use e2e::{Resource, Service, eventually, quickstart};
use futures::SinkExt;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

/// Live streams in the worker now.
async fn active_streams(service: &Service) -> Option<f64> {
    let port = service.port("asr-0", 1).ok()?;
    let metrics = reqwest::get(format!("http://127.0.0.1:{port}/metrics")).await.ok()?.text().await.ok()?;
    let line = metrics.lines().find(|line| line.starts_with("asr_active_streams"))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[tokio::test]
async fn clients_that_vanish_or_never_read_disturb_nobody() -> anyhow::Result<()> {
    let service = Service::start(&Resource { slots: 8, ..Resource::default() }).await?;
    let sample = quickstart()?;
    let undisturbed = stream(&service.args(), &sample).await?;
    let address = service.url.replacen("http", "ws", 1);
    let path = format!("{address}/api/v1/lightning/get_text?sample_rate=16000");

    // Three speak and never read; three vanish in the middle without a word.
    let mut silent = Vec::new();
    for _ in 0..3 {
        let (mut socket, _) = tokio_tungstenite::connect_async(&path).await?;
        for chunk in chunks_of(&sample) {
            socket.send(Message::Binary(chunk.audio.into())).await?;
        }
        silent.push(socket);
    }
    for _ in 0..3 {
        let (mut socket, _) = tokio_tungstenite::connect_async(&path).await?;
        for chunk in chunks_of(&sample).into_iter().take(20) {
            socket.send(Message::Binary(chunk.audio.into())).await?;
        }
        drop(socket);
    }
    let meanwhile = stream(&service.args(), &sample).await?;
    assert_eq!(meanwhile.text, undisturbed.text);
    drop(silent);
    eventually("all slots are free again", || async {
        (active_streams(&service).await? == 0.0).then_some(())
    })
    .await
}

#[tokio::test]
async fn a_client_that_sends_half_a_request_is_let_go() -> anyhow::Result<()> {
    let service = Service::start(&Resource::default()).await?;
    let sample = quickstart()?;
    let authority = service.url.trim_start_matches("http://").to_owned();
    let mut half = TcpStream::connect(&authority).await?;
    half.write_all(
        b"POST /api/v1/lightning/get_text HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\nRIFF",
    )
    .await?;
    sample.check(&stream(&service.args(), &sample).await?.text)?;
    drop(half);
    tokio::time::timeout(Duration::from_mins(1), stream(&service.args(), &sample)).await??;
    Ok(())
}
