//! Reads what a refused HTTP/1 request still sends, before it is answered.
//!
//! Most clients read an answer only when they have sent everything. A connection that closes while they send
//! shows them a broken pipe, and the reason for the refusal is lost. What comes is dropped as it comes, up to a
//! size and a time; whoever sends more than that still finds the connection closed. HTTP/2 ends a single stream
//! by itself and needs none of this.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::extract::Request;
use axum::http::{HeaderMap, Version, header};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use tokio::sync::oneshot;

/// Most bytes that are read and dropped: a recording that is just too large, and some.
const MAX_BYTES: u64 = 512 << 20;
/// Longest time that is spent on it.
const MAX_TIME: Duration = Duration::from_secs(10);
/// A client that sends nothing for this long waits for the answer.
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// The layer.
pub(super) async fn around(request: Request, next: Next) -> Response {
    if request.version() >= Version::HTTP_2 {
        return next.run(request).await;
    }
    let announced = announced_bytes(request.headers());
    // Such a client sends its body only when somebody begins to read it.
    let asks_first = request.headers().contains_key(header::EXPECT);
    let (back, mut left) = oneshot::channel();
    let lend = |body: Body| Lent { body: Some(body.into_data_stream()), begun: false, back: Some(back) };
    let request = request.map(|body| Body::from_stream(lend(body)));
    let response = next.run(request).await;
    if response.status().is_client_error() || response.status().is_server_error() {
        let left = left.try_recv().ok().filter(|left| left.begun || !asks_first);
        if let Some(left) = left.filter(|_| announced <= MAX_BYTES) {
            // An answer that comes late is still an answer.
            drop(tokio::time::timeout(MAX_TIME, discard(left.body)).await);
        }
    }
    response
}

/// What the request says it sends; 0 when it does not.
fn announced_bytes(headers: &HeaderMap) -> u64 {
    headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse().ok()).unwrap_or(0)
}

/// Reads to the end, to a pause, or to the largest size.
async fn discard(mut body: BodyDataStream) {
    let mut dropped = 0;
    while let Ok(Some(Ok(chunk))) = tokio::time::timeout(MAX_PAUSE, body.next()).await {
        dropped += chunk.len() as u64;
        if dropped > MAX_BYTES {
            return;
        }
    }
}

/// A body that a handler did not read to its end.
struct Left {
    body: BodyDataStream,
    begun: bool,
}

/// A body that comes back when its handler drops it before the end.
struct Lent {
    body: Option<BodyDataStream>,
    begun: bool,
    back: Option<oneshot::Sender<Left>>,
}

impl Stream for Lent {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.begun = true;
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let polled = body.poll_next_unpin(cx);
        if !matches!(polled, Poll::Pending | Poll::Ready(Some(Ok(_)))) {
            self.body = None;
        }
        polled
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let (Some(body), Some(back)) = (self.body.take(), self.back.take()) {
            // Nobody listens any more when the request itself was dropped.
            drop(back.send(Left { body, begun: self.begun }));
        }
    }
}
