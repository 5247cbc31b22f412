//! Clients that misbehave leave the others undisturbed, and their slots come back.

use anyhow::Context;
use e2e::clients::{chunks_of, stream};
use e2e::{Resource, Sample, Service, eventually, quickstart};
use futures::SinkExt;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

/// What a client that never reads takes from the network: the least that the kernel gives.
const SMALL_BUFFER: u32 = 4_096;
/// A WebSocket with hardly any room for results.
async fn narrow_socket(service: &Service) -> anyhow::Result<WebSocketStream<TcpStream>> {
    let authority = service.url.trim_start_matches("http://");
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(SMALL_BUFFER)?;
    let stream = socket.connect(authority.parse()?).await?;
    let url = format!("ws://{authority}/api/v1/lightning/get_text?sample_rate=16000&progress=true");
    Ok(tokio_tungstenite::client_async(url, stream).await?.0)
}

/// Speaks for minutes, as fast as it is taken, without reading a single result or ping.
async fn speak_only(mut socket: WebSocketStream<TcpStream>, sample: Sample) {
    for chunk in std::iter::repeat_with(|| chunks_of(&sample)).take(60).flatten() {
        if socket.send(Message::Binary(chunk.audio.into())).await.is_err() {
            return;
        }
    }
    // Silent, but there: only the service can end this.
    std::future::pending::<()>().await;
}

/// Sessions that the service ended because their clients did not read: too many results waited, or pings went without an
/// answer. Those that vanished are not counted: hardly anything of theirs was recognized.
fn cut_off(service: &Service) -> usize {
    let unread = |line: &&str| {
        let slow = line.contains("SlowClient") || line.contains("ClientGone");
        let heard_ms = line.split("\"audio_ms\":").nth(1).and_then(|rest| rest.split(',').next());
        slow && heard_ms.and_then(|ms| ms.parse().ok()).is_some_and(|ms: u64| ms > 10_000)
    };
    let log = service.log_text();
    log.lines().filter(|line| line.contains("a live session ended")).filter(unread).count()
}

#[tokio::test]
async fn clients_that_vanish_or_never_read_disturb_nobody() -> anyhow::Result<()> {
    let service = Service::start(&Resource { slots: 8, ..Resource::default() }).await?;
    let sample = quickstart()?;
    let undisturbed = stream(&service.args(), &sample).await?;

    // Three speak for minutes and never read, three vanish in the middle without a word.
    let mut silent = JoinSet::new();
    for _ in 0..3 {
        silent.spawn(speak_only(narrow_socket(&service).await?, sample.clone()));
    }
    for _ in 0..3 {
        let mut socket = narrow_socket(&service).await?;
        for chunk in chunks_of(&sample).into_iter().take(20) {
            socket.send(Message::Binary(chunk.audio.into())).await?;
        }
        drop(socket);
    }
    let meanwhile = stream(&service.args(), &sample).await?;
    assert_eq!(meanwhile.text, undisturbed.text);
    let ended =
        eventually("those that never read are cut off", || async { (cut_off(&service) == 3).then_some(()) });
    ended.await.with_context(|| service.log_text())?;
    eventually("all slots are free again", || async {
        (service.metric("asr-0", "asr_active_streams").await? == 0.0).then_some(())
    })
    .await?;
    assert_eq!(stream(&service.args(), &sample).await?.text, undisturbed.text);
    Ok(())
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
