//! Live clients that send chunks at given moments and measure from each to the frame that covers it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use crate::Options;

type Socket = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<TcpStream>>;

/// All streams at once; what each chunk took, but of the first second.
pub(crate) async fn round(
    options: &Options,
    moments: &[(Duration, usize)],
    url: &str,
) -> anyhow::Result<Vec<Duration>> {
    let (mut clients, mut ticks) = (Vec::new(), Vec::new());
    for _ in 0..options.streams {
        let (tick, due) = mpsc::unbounded_channel();
        let (socket, _) = tokio_tungstenite::connect_async_with_config(url, Some(sockets()), false).await?;
        clients.push(tokio::spawn(client(socket, due, options.chunk_ms)));
        ticks.push(tick);
    }
    let moments = moments.to_vec();
    std::thread::spawn(move || pace(&moments, &ticks));
    let mut took = Vec::new();
    for client in clients {
        let all = client.await.context("a client ended early")??;
        // The first second holds the claim and the start of everything.
        took.extend(all.into_iter().skip((1_000 / options.chunk_ms) as usize));
    }
    Ok(took)
}

/// Tells each client when its next chunk is due. A thread of its own, since the runtime's clock has a step of a
/// millisecond: it would bring chunks together that no clients of their own would send together.
#[expect(clippy::disallowed_methods, reason = "a thread that keeps the time, beside the runtime")]
fn pace(moments: &[(Duration, usize)], ticks: &[mpsc::UnboundedSender<()>]) {
    let begins = Instant::now();
    for (moment, stream) in moments {
        std::thread::sleep((begins + *moment).saturating_duration_since(Instant::now()));
        ticks[*stream].send(()).ok();
    }
}

/// Reads by as much as the gateway: the library would zero 128 KiB before each read, for clients that share its cores.
fn sockets() -> WebSocketConfig {
    WebSocketConfig::default().read_buffer_size(16 << 10)
}

/// The frame that is waited for, as far as it is read.
#[derive(serde::Deserialize)]
struct Progress {
    processed_ms: Option<u64>,
}

/// Sends a chunk whenever one is due and measures from each to the frame that covers it.
async fn client(
    mut socket: Socket,
    mut due: mpsc::UnboundedReceiver<()>,
    chunk_ms: u64,
) -> anyhow::Result<Vec<Duration>> {
    if let tokio_tungstenite::MaybeTlsStream::Plain(stream) = socket.get_ref() {
        stream.set_nodelay(true)?;
    }
    let chunk = Bytes::from(vec![0_u8; (chunk_ms * 32) as usize]);
    let (mut at_ms, mut sent, mut took, mut over) = (0, VecDeque::new(), Vec::new(), false);
    while !over || !sent.is_empty() {
        tokio::select! {
            tick = due.recv(), if !over => match tick {
                Some(()) => {
                    at_ms += chunk_ms;
                    sent.push_back((at_ms, Instant::now()));
                    socket.send(Message::Binary(chunk.clone())).await?;
                }
                None => over = true,
            },
            frame = socket.next() => {
                let Some(Ok(frame)) = frame else { anyhow::bail!("the stream ended early") };
                let Message::Text(text) = frame else { continue };
                let decoded = serde_json::from_str::<Progress>(text.as_str())?.processed_ms.unwrap_or(0);
                // One frame may cover several chunks, as when they waited for the claim together.
                while let Some((_, since)) = sent.pop_front_if(|(at, _)| *at <= decoded) {
                    took.push(since.elapsed());
                }
            }
        }
    }
    socket.close(None).await?;
    while let Some(Ok(_)) = socket.next().await {}
    Ok(took)
}

/// Listens, and answers `WebSocket` clients with how much audio they sent, at once, like the gateway's progress, and nothing
/// else; the address.
pub(crate) async fn answer_at_once() -> anyhow::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("ws://{}/", listener.local_addr()?);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream));
        }
    });
    Ok(url)
}

async fn answer(stream: TcpStream) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let mut socket = tokio_tungstenite::accept_async_with_config(stream, Some(sockets())).await?;
    let mut bytes = 0;
    while let Some(Ok(message)) = socket.next().await {
        if let Message::Binary(chunk) = message {
            bytes += chunk.len();
            let frame = serde_json::json!({ "processed_ms": bytes / 32 });
            socket.send(Message::text(frame.to_string())).await?;
        }
    }
    Ok(())
}
