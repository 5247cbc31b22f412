//! WebSocket: audio in binary frames, words back in JSON frames while they are spoken.
//!
//! One half reads the socket into the session, the other writes its events; neither waits for the other. A
//! client from which nothing comes, not even a pong, is gone; one that takes no frames is cut off.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::http::{HeaderValue, Uri};
use axum::response::Response;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt as _, StreamExt as _};
use metrics::counter;
use tokio::sync::{mpsc, oneshot};

use super::context::{Context, count};
use super::frame::View;
use crate::admit::Kind;
use crate::dispatch;
use crate::error::Error;
use crate::live::{Input, LiveCall, MAX_CHUNK_BYTES};
use crate::request::{Flag, Params};
use crate::serve::Gateway;
use crate::session::LiveEvent;

/// Replies of the reading half that may wait for the writing one.
const NOTES: usize = 16;
/// Bytes that one read takes from a socket: half a second of audio. Every connection holds as many, and they are zeroed
/// before each read, so the library's 128 KiB would cost more than the audio.
const READ_BUFFER: usize = 16 << 10;
/// Longest wait for the client's side of the closing handshake.
const GOODBYE: Duration = Duration::from_secs(2);

/// `GET …` with an upgrade.
pub async fn live(
    State(gateway): State<Arc<Gateway>>,
    context: Context,
    params: Params,
    uri: Uri,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Error> {
    counter!("gateway_requests_total", "edge" => "websocket").increment(1);
    let upgrade = upgrade.map_err(|_| Error::MethodNotAllowed("a WebSocket upgrade, or POST with audio"))?;
    let admitted = gateway.enter(Kind::Live, context.key())?;
    let words = if uri.path().contains("/pulse/") { Flag::Yes } else { Flag::No };
    let call = dispatch::open(&gateway, admitted, params.live()?).await?;
    let session = call.session.to_string();
    let view = View::new(session.clone(), &params, words)?;
    let ping = gateway.config.limits.ping_interval_ms;
    let upgrade = upgrade.read_buffer_size(READ_BUFFER).max_message_size(MAX_CHUNK_BYTES);
    let upgrade = upgrade.max_frame_size(MAX_CHUNK_BYTES);
    let mut response = upgrade.on_upgrade(move |socket| serve(socket, call, view, ping));
    if let Ok(value) = HeaderValue::from_str(&session) {
        response.headers_mut().insert("x-session-id", value);
    }
    Ok(response)
}

/// The reading half asks the writing half to answer a keepalive.
struct Pong;

async fn serve(socket: WebSocket, call: LiveCall, view: View, ping: Duration) {
    let (sink, stream) = socket.split();
    let (notes, pongs) = mpsc::channel(NOTES);
    let mut writer = Writer { sink, view, ping };
    let mut reading = std::pin::pin!(read(stream, call.input, notes, ping * 2));
    let mut writing = std::pin::pin!(writer.run(call.events, call.failed, pongs));
    tokio::select! {
        // The session ends by itself when nobody gives it input any more.
        () = &mut reading => writing.await,
        () = &mut writing => drop(tokio::time::timeout(GOODBYE, &mut reading).await),
    }
}

/// Socket → session, until the client closes or vanishes. Dropping `input` ends the session.
async fn read(
    mut stream: SplitStream<WebSocket>,
    input: mpsc::Sender<Input>,
    notes: mpsc::Sender<Pong>,
    patience: Duration,
) {
    loop {
        let Ok(Some(message)) = tokio::time::timeout(patience, stream.next()).await else { return };
        let said = match message {
            Ok(Message::Binary(bytes)) => Ok(Some(Input::Audio(bytes))),
            Ok(Message::Text(text)) => control(text.as_str()),
            Ok(Message::Ping(_) | Message::Pong(_)) => Ok(None),
            // A message that is too large is answered; whatever else broke, there is no socket to say it to.
            Err(e) if is_too_large(&e) => Err(Error::BodyTooLarge { limit_bytes: MAX_CHUNK_BYTES as u64 }),
            Ok(Message::Close(_)) | Err(_) => return,
        };
        match said {
            Ok(None) => {}
            Ok(Some(said)) => {
                if matches!(said, Input::KeepAlive) {
                    // A client that asks for pongs but does not take them gets none.
                    drop(notes.try_send(Pong));
                }
                // After the session's end the client's closing frame is still read.
                drop(input.send(said).await);
            }
            Err(e) => drop(input.send(Input::Broken(e)).await),
        }
    }
}

/// Reads a text frame; both generations of names are understood.
fn control(text: &str) -> Result<Option<Input>, Error> {
    #[derive(serde::Deserialize)]
    struct Control {
        r#type: String,
    }
    let control: Control = serde_json::from_str(text).map_err(|_| {
        Error::InvalidMessage(
            "a text frame must be JSON with a type; audio goes into binary frames".to_owned(),
        )
    })?;
    match control.r#type.to_ascii_lowercase().as_str() {
        "finalize" => Ok(Some(Input::Finalize)),
        "close_stream" | "closestream" | "end" => Ok(Some(Input::End)),
        "keepalive" => Ok(Some(Input::KeepAlive)),
        _ => Err(Error::InvalidMessage("unknown type; use finalize, close_stream or keepalive".to_owned())),
    }
}

fn is_too_large(e: &axum::Error) -> bool {
    // axum hides the type of the error.
    let text = e.to_string();
    ["too long", "too large", "too big"].iter().any(|t| text.contains(t))
}

struct Writer {
    sink: SplitSink<WebSocket, Message>,
    view: View,
    /// Interval of pings; also the longest a frame may take to leave.
    ping: Duration,
}

impl Writer {
    /// Session → socket, until the session ends or the client takes nothing any more.
    async fn run(
        &mut self,
        mut events: mpsc::Receiver<LiveEvent>,
        failed: oneshot::Receiver<Error>,
        mut notes: mpsc::Receiver<Pong>,
    ) {
        let mut ping = tokio::time::interval_at(tokio::time::Instant::now() + self.ping, self.ping);
        let error = loop {
            let frame = tokio::select! {
                event = events.recv() => match event {
                    Some(event) => self.view.frame(&event).map(|text| Message::Text(text.into())),
                    None => break failed.await.ok(),
                },
                Some(Pong) = notes.recv() => Some(Message::Text(r#"{"type":"pong"}"#.into())),
                _ = ping.tick() => Some(Message::Ping(Bytes::new())),
            };
            if let Some(frame) = frame
                && !self.send(frame).await
            {
                break Some(Error::ClientGone);
            }
        };
        self.close(error).await;
    }

    async fn close(&mut self, error: Option<Error>) {
        let (code, reason) = match &error {
            None => (1000, "done"),
            Some(e) => {
                count(e);
                let frame = self.view.error(e);
                self.send(Message::Text(frame.into())).await;
                (e.facts().close, e.facts().reason)
            }
        };
        self.send(Message::Close(Some(CloseFrame { code, reason: reason.into() }))).await;
    }

    async fn send(&mut self, message: Message) -> bool {
        matches!(tokio::time::timeout(self.ping, self.sink.send(message)).await, Ok(Ok(())))
    }
}
