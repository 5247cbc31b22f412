//! A client that still sends when it is refused gets the answer, not a broken connection.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::{serve, soon};

/// A client that reads only when it has sent everything; what the server answered.
async fn send(head: &str, body: &[u8]) -> std::io::Result<String> {
    let (served, _queue) = serve(&["--max-body-bytes", "100000"]).await;
    let mut stream = TcpStream::connect(served.address).await?;
    let head = format!("POST /v1/listen HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n{head}\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body).await?;
    let mut answer = String::new();
    soon("the answer", stream.read_to_string(&mut answer)).await?;
    Ok(answer)
}

/// More than any socket holds on the way.
const LARGE: usize = 32 << 20;

#[tokio::test]
async fn a_recording_that_is_too_large_is_refused_by_name() {
    let head = format!("Content-Type: audio/wav\r\nContent-Length: {LARGE}");
    let answer = send(&head, &vec![0; LARGE]).await.expect("the connection holds");
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("BodyTooLarge"), "{answer}");
}

#[tokio::test]
async fn a_recording_that_grows_too_large_is_refused_by_name() {
    let mut body = format!("{LARGE:x}\r\n").into_bytes();
    body.resize(body.len() + LARGE, 0);
    body.extend_from_slice(b"\r\n0\r\n\r\n");
    let head = "Content-Type: audio/wav\r\nTransfer-Encoding: chunked";
    let answer = send(head, &body).await.expect("the connection holds");
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("BodyTooLarge"), "{answer}");
}

#[tokio::test]
async fn a_body_that_is_not_wanted_at_all_is_refused_by_name() {
    let head = format!("Content-Type: text/plain\r\nContent-Length: {LARGE}");
    let answer = send(&head, &vec![0; LARGE]).await.expect("the connection holds");
    assert!(answer.starts_with("HTTP/1.1 415 ") && answer.contains("UnsupportedContentType"), "{answer}");
}

#[tokio::test]
async fn a_client_that_asks_first_is_not_told_to_send() {
    let head = "Content-Type: audio/wav\r\nContent-Length: 200000\r\nExpect: 100-continue";
    let answer = send(head, &[]).await.expect("the connection holds");
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[tokio::test]
async fn a_client_that_stops_sending_is_answered() {
    let head = "Content-Type: audio/wav\r\nContent-Length: 200000";
    let answer = send(head, &vec![0; 50_000]).await.expect("the connection holds");
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}
