//! A gateway on a free port over the queue in memory, and clients for it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use clap::Parser as _;
use futures::{SinkExt as _, StreamExt as _};
use gateway::config::{Args, Config};
use gateway::license::{Allowance, License};
use gateway::{Error, Gateway};
use license_proxy::{Standing, Usage};
use queue::memory::MemoryQueue;
use queue::port::{GatewayPort, QueueLimits};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use tokio_util::sync::CancellationToken;

use crate::worker::Worker;

/// Nothing in these tests takes longer, or it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for something that must happen.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(PATIENCE, future).await;
    done.unwrap_or_else(|_| panic!("{what} did not happen within {PATIENCE:?}"))
}

/// Waits until a condition holds.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let poll = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon(what, poll).await;
}

/// A license whose answer a test can change.
#[derive(Default)]
pub(crate) struct TestLicense {
    pub(crate) denied: Mutex<Option<fn() -> Error>>,
    pub(crate) max_streams: Mutex<Option<u32>>,
    pub(crate) counted: Mutex<Usage>,
}

impl License for TestLicense {
    fn check(&self) -> Result<Allowance, Error> {
        match *self.denied.lock().unwrap() {
            Some(error) => Err(error()),
            None => Ok(Allowance { max_streams: *self.max_streams.lock().unwrap() }),
        }
    }

    fn standing(&self) -> Standing {
        let refused = self.denied.lock().unwrap().map(|error| error().reason());
        Standing { state: refused.unwrap_or("Valid"), message: None, expires_at_ms: Some(2_000_000_000_000) }
    }

    fn count(&self, usage: Usage) {
        let mut counted = self.counted.lock().unwrap();
        counted.audio_ms += usage.audio_ms;
        counted.requests += usage.requests;
    }
}

/// A serving gateway.
pub(crate) struct Served {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) license: Arc<TestLicense>,
    pub(crate) address: SocketAddr,
    pub(crate) stop: CancellationToken,
    pub(crate) task: JoinHandle<()>,
    pub(crate) http: reqwest::Client,
}

/// Queue limits for tests: a worker that died is noticed soon, one that is only slow on a busy machine is not.
pub(crate) fn limits() -> QueueLimits {
    QueueLimits { lease: Duration::from_secs(1), max_attempts: 5, ..QueueLimits::default() }
}

/// A gateway with arguments over a queue.
pub(crate) async fn serve_on(queue: Arc<dyn GatewayPort>, args: &[&str], keys: Option<&str>) -> Served {
    let args = std::iter::once("smallest-gateway").chain(args.iter().copied());
    let config = Config::parse(&Args::parse_from(args), keys).unwrap();
    let license = Arc::new(TestLicense::default());
    let gateway = Gateway::new(config, queue, license.clone()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let task = tokio::spawn(gateway.clone().serve(listener, stop.clone().cancelled_owned()));
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let served = Served { gateway, license, address, stop, task, http };
    until("readiness", || served.gateway.not_ready().is_none()).await;
    served
}

/// A gateway with arguments over a new queue in memory.
pub(crate) async fn serve(args: &[&str]) -> (Served, MemoryQueue) {
    let queue = MemoryQueue::new(limits());
    (serve_on(Arc::new(queue.clone()), args, None).await, queue)
}

/// A gateway with arguments over a new queue in memory, and a scripted worker that it sees.
pub(crate) async fn served(args: &[&str]) -> (Served, Worker) {
    let (served, queue) = serve(args).await;
    let worker = Worker::start(&queue);
    served.sees_worker().await;
    (served, worker)
}

impl Served {
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Waits until the gateway knows a worker.
    pub(crate) async fn sees_worker(&self) {
        until("a worker", || !self.gateway.view.borrow().workers.is_empty()).await;
    }

    /// POST of bytes.
    pub(crate) async fn post(&self, path: &str, content_type: &str, body: Vec<u8>) -> Reply {
        let request = self.http.post(self.url(path)).header("content-type", content_type).body(body);
        Reply::of(request.send().await.unwrap()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        Reply::of(self.http.get(self.url(path)).send().await.unwrap()).await
    }

    /// A WebSocket.
    pub(crate) async fn socket(&self, path: &str) -> Socket {
        let (socket, _) =
            tokio_tungstenite::connect_async(format!("ws://{}{path}", self.address)).await.unwrap();
        Socket(socket)
    }

    /// A WebSocket that is refused: status and body.
    pub(crate) async fn refused_socket(&self, path: &str) -> (u16, Value) {
        match tokio_tungstenite::connect_async(format!("ws://{}{path}", self.address)).await {
            Err(tokio_tungstenite::tungstenite::Error::Http(response)) => {
                let body = response.body().clone().unwrap_or_default();
                (response.status().as_u16(), serde_json::from_slice(&body).unwrap_or_default())
            }
            other => panic!("not refused: {other:?}"),
        }
    }
}

/// An answer of HTTP.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) text: String,
}

impl Reply {
    pub(crate) async fn of(response: reqwest::Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Self { status, headers, text: response.text().await.unwrap() }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }
}

/// A form with one file and fields.
pub(crate) fn form(file: (&str, &[u8]), fields: &[(&str, &str)]) -> (String, Vec<u8>) {
    let mut body = Vec::new();
    for (name, value) in fields {
        let part = format!("--XX\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
        body.extend_from_slice(part.as_bytes());
    }
    let (name, content) = file;
    let head = format!(
        "--XX\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"a.wav\"\r\nContent-Type: audio/wav\r\n\r\n"
    );
    body.extend_from_slice(head.as_bytes());
    body.extend_from_slice(content);
    body.extend_from_slice(b"\r\n--XX--\r\n");
    ("multipart/form-data; boundary=XX".to_owned(), body)
}

/// A WebSocket client.
pub(crate) struct Socket(pub(crate) WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    pub(crate) async fn audio(&mut self, pcm: &[u8]) {
        for chunk in pcm.chunks(3_200) {
            self.0.send(Message::Binary(chunk.to_vec().into())).await.unwrap();
        }
    }

    pub(crate) async fn say(&mut self, text: &str) {
        self.0.send(Message::Text(text.into())).await.unwrap();
    }

    /// The next JSON frame; `None` when the server closed.
    pub(crate) async fn frame(&mut self) -> Option<Value> {
        loop {
            match soon("a frame", self.0.next()).await? {
                Ok(Message::Text(text)) => return Some(serde_json::from_str(text.as_str()).unwrap()),
                Ok(Message::Close(_)) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// Frames up to one that fits, that one last.
    pub(crate) async fn frames_until(&mut self, fits: impl Fn(&Value) -> bool) -> Vec<Value> {
        let mut frames = Vec::new();
        loop {
            let frame = self.frame().await.unwrap_or_else(|| panic!("closed after {frames:?}"));
            let done = fits(&frame);
            frames.push(frame);
            if done {
                return frames;
            }
        }
    }

    /// All frames up to the close, and its code.
    pub(crate) async fn rest(&mut self) -> (Vec<Value>, Option<u16>) {
        let mut frames = Vec::new();
        loop {
            match soon("a frame or the close", self.0.next()).await {
                Some(Ok(Message::Text(text))) => frames.push(serde_json::from_str(text.as_str()).unwrap()),
                Some(Ok(Message::Close(close))) => return (frames, close.map(|c| c.code.into())),
                Some(Ok(_)) => {}
                None | Some(Err(_)) => return (frames, None),
            }
        }
    }
}

/// Final texts among frames, empty ones left out.
pub(crate) fn finals(frames: &[Value]) -> Vec<String> {
    let texts = frames.iter().filter(|f| f["is_final"] == true).map(|f| f["transcript"].as_str().unwrap());
    texts.filter(|t| !t.is_empty()).map(str::to_owned).collect()
}
