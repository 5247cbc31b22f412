//! A service that is played: it counts the bytes of audio that come and answers with that count as the text.
//!
//! gRPC as the real one speaks it; of HTTP/1 just as much as one request with a chunked body needs.

use proto::speech::v1::speech_server::{Speech, SpeechServer};
use proto::speech::v1::streaming_recognize_request::Request as Sent;
use proto::speech::v1::streaming_recognize_response::Response as Answer;
use proto::speech::v1::{
    Ended, Progress, RecognizeRequest, RecognizeResponse, Result as Recognized, Started,
    StreamingRecognizeRequest, StreamingRecognizeResponse, Word,
};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

/// How the service meets its callers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    Answers,
    Refuses,
}

/// Bytes of audio that a live session brought so far.
pub(crate) type Heard = watch::Receiver<u64>;

/// The text for so many bytes of audio.
pub(crate) fn text_of(bytes: u64) -> String {
    format!("heard {bytes} bytes")
}

struct Service {
    mood: Mood,
    heard: Arc<watch::Sender<u64>>,
}

/// Starts the gRPC side; its address, and what it hears.
pub(crate) async fn grpc(mood: Mood) -> (String, Heard) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (count, heard) = watch::channel(0);
    let service = SpeechServer::new(Service { mood, heard: Arc::new(count) });
    let incoming = TcpListenerStream::new(listener);
    tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));
    (url, heard)
}

#[tonic::async_trait]
impl Speech for Service {
    type StreamingRecognizeStream = ReceiverStream<Result<StreamingRecognizeResponse, Status>>;

    async fn recognize(&self, _: Request<RecognizeRequest>) -> Result<Response<RecognizeResponse>, Status> {
        Err(Status::unimplemented("whole recordings come over REST"))
    }

    async fn streaming_recognize(
        &self,
        request: Request<Streaming<StreamingRecognizeRequest>>,
    ) -> Result<Response<Self::StreamingRecognizeStream>, Status> {
        if self.mood == Mood::Refuses {
            return Err(Status::resource_exhausted("too many sessions"));
        }
        let (out, answers) = mpsc::channel(64);
        tokio::spawn(listen(request.into_inner(), self.heard.clone(), out));
        Ok(Response::new(ReceiverStream::new(answers)))
    }
}

async fn listen(
    mut requests: Streaming<StreamingRecognizeRequest>,
    heard: Arc<watch::Sender<u64>>,
    out: mpsc::Sender<Result<StreamingRecognizeResponse, Status>>,
) {
    let say = async |answer| {
        out.send(Ok(StreamingRecognizeResponse { response: Some(answer) })).await.ok();
    };
    say(Answer::Started(Started::default())).await;
    let mut bytes = 0;
    while let Ok(Some(request)) = requests.message().await {
        let Some(Sent::Audio(audio)) = request.request else { continue };
        bytes += audio.len() as u64;
        heard.send_replace(bytes);
        // 16 kHz: 32 bytes a millisecond.
        say(Answer::Progress(Progress { processed_ms: bytes / 32, timing: None })).await;
        say(Answer::Result(Recognized { text: "heard something".into(), ..Recognized::default() })).await;
    }
    let text = text_of(bytes);
    let words = text.split(' ').map(|word| Word { word: word.into(), confidence: 1.0, ..Word::default() });
    let words = words.collect();
    say(Answer::Result(Recognized { text, words, is_final: true, ..Recognized::default() })).await;
    say(Answer::Ended(Ended::default())).await;
}

/// Starts the REST side, for one request; its address.
pub(crate) async fn rest(mood: Mood) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        // The last chunk of a body is an empty one.
        while !request.ends_with(b"\r\n0\r\n\r\n") {
            assert_ne!(socket.read_buf(&mut request).await.unwrap(), 0, "the client hung up early");
        }
        let (status, body) = match mood {
            Mood::Answers => {
                let text = text_of(body_length(&request));
                ("200 OK", format!(r#"{{"transcription":"{text}","words":[],"request_id":"r1"}}"#))
            }
            Mood::Refuses => {
                ("429 Too Many Requests", r#"{"error":"too many requests","reason":"QueueFull"}"#.to_owned())
            }
        };
        let length = body.len();
        let answer =
            format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}");
        socket.write_all(answer.as_bytes()).await.unwrap();
        socket.shutdown().await.ok();
    });
    url
}

/// Bytes of a chunked body, without what is around the chunks.
fn body_length(request: &[u8]) -> u64 {
    let find = |bytes: &[u8], what: &[u8]| bytes.windows(what.len()).position(|window| window == what);
    let mut rest = &request[find(request, b"\r\n\r\n").unwrap() + 4..];
    let mut length = 0;
    loop {
        let line = find(rest, b"\r\n").unwrap();
        let chunk = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
        if chunk == 0 {
            return length;
        }
        length += chunk as u64;
        rest = &rest[line + 2 + chunk + 2..];
    }
}
