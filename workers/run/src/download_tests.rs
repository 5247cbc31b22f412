//! Tests of downloads against a small web server that breaks off, lies or has nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use axum::Router;
use axum::body::Body;
use axum::extract::{Path as UrlPath, State};
use axum::http::{HeaderMap, Response};
use axum::routing::get;

use super::*;
use crate::model_source::ModelSource;

/// What the server holds and how it behaves.
#[derive(Default)]
struct Server {
    asked: AtomicUsize,
    resumed: AtomicUsize,
    /// Break off the first answer with the weights in the middle.
    break_off: AtomicBool,
    missing: Option<&'static str>,
}

fn content(file: &str) -> Vec<u8> {
    let size = if file == "model.safetensors" { 400_000 } else { 100 };
    (0..size).map(|i| (i % 251) as u8).collect()
}

async fn serve(
    State(server): State<Arc<Server>>,
    UrlPath(file): UrlPath<String>,
    headers: HeaderMap,
) -> Response<Body> {
    server.asked.fetch_add(1, Ordering::SeqCst);
    let missing = server.missing == Some(file.as_str()) || !FILES.contains(&file.as_str());
    if missing {
        return Response::builder().status(404).body(Body::empty()).unwrap();
    }
    let all = content(&file);
    let range = headers.get(RANGE).and_then(|r| r.to_str().ok()?.strip_prefix("bytes=")?.strip_suffix('-'));
    let from: usize = range.map_or(0, |r| r.parse().unwrap());
    let mut answer = Response::builder();
    if from > 0 {
        server.resumed.fetch_add(1, Ordering::SeqCst);
        answer =
            answer.status(206).header(CONTENT_RANGE, format!("bytes {from}-{}/{}", all.len() - 1, all.len()));
    }
    let answer = answer.header("content-length", all.len() - from);
    if file == "model.safetensors" && server.break_off.swap(false, Ordering::SeqCst) {
        let half = bytes::Bytes::from(all[from..all.len() / 2].to_vec());
        // The half must have left before the end comes.
        let broken = futures::stream::iter([Ok(half)]).chain(futures::stream::once(async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            Err(std::io::Error::other("broken off"))
        }));
        return answer.body(Body::from_stream(broken)).unwrap();
    }
    answer.body(Body::from(all[from..].to_vec())).unwrap()
}

async fn start(server: Server) -> (ModelSource, Arc<Server>) {
    let server = Arc::new(server);
    let router = Router::new().route("/models/tiny/{file}", get(serve)).with_state(server.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    (format!("http://{address}/models/tiny").parse().unwrap(), server)
}

#[tokio::test]
async fn a_model_is_downloaded_once_and_found_again() {
    let cache = tempfile::tempdir().unwrap();
    let (source, server) = start(Server::default()).await;
    let folder = source.fetch(None, cache.path(), &|_| ()).await.unwrap();
    assert_eq!(std::fs::read(folder.join("model.safetensors")).unwrap(), content("model.safetensors"));
    let asked = server.asked.load(Ordering::SeqCst);
    assert_eq!(source.fetch(None, cache.path(), &|_| ()).await.unwrap(), folder);
    let (digest, _) = digest(&folder).await.unwrap();
    assert_eq!(source.fetch(Some(&digest), cache.path(), &|_| ()).await.unwrap(), folder);
    assert_eq!(server.asked.load(Ordering::SeqCst), asked);
}

#[tokio::test]
async fn a_download_that_breaks_off_goes_on_where_it_ended() {
    let cache = tempfile::tempdir().unwrap();
    let (source, server) = start(Server { break_off: AtomicBool::new(true), ..Server::default() }).await;
    let error = source.fetch(None, cache.path(), &|_| ()).await.unwrap_err();
    assert_eq!(error.reason(), "Truncated", "{error}");
    let folder = source.fetch(None, cache.path(), &|_| ()).await.unwrap();
    assert_eq!(server.resumed.load(Ordering::SeqCst), 1);
    assert_eq!(std::fs::read(folder.join("model.safetensors")).unwrap(), content("model.safetensors"));
}

#[tokio::test]
async fn a_wrong_digest_leaves_nothing_behind() {
    let cache = tempfile::tempdir().unwrap();
    let (source, _) = start(Server::default()).await;
    let want: Checksum = format!("sha256:{}", "1".repeat(64)).parse().unwrap();
    let error = source.fetch(Some(&want), cache.path(), &|_| ()).await.unwrap_err();
    assert_eq!(error.reason(), "WrongDigest", "{error}");
    assert!(!cache.path().join(want.digits()).exists());
    assert_eq!(std::fs::read_dir(cache.path().join("downloads")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_missing_file_is_named() {
    let cache = tempfile::tempdir().unwrap();
    let (source, _) = start(Server { missing: Some("tokenizer.json"), ..Server::default() }).await;
    let error = source.fetch(None, cache.path(), &|_| ()).await.unwrap_err().to_string();
    assert!(error.contains("tokenizer.json") && error.contains("404"), "{error}");
}

#[tokio::test]
async fn a_download_says_how_far_it_is() {
    let (address, _) = start(Server::default()).await;
    let (source, cache) = (address, tempfile::tempdir().unwrap());
    let said = std::sync::Mutex::new(Vec::new());
    source.fetch(None, cache.path(), &|text| said.lock().unwrap().push(text)).await.unwrap();
    let said = said.into_inner().unwrap();
    assert!(
        said.iter().any(|text| text.starts_with("downloading model.safetensors: 0 of 0 MiB")),
        "{said:?}"
    );
    assert_eq!(progress("x", 3 << 20, Some(12 << 20)), "downloading x: 3 of 12 MiB (25 %)");
    assert_eq!(progress("x", 3 << 20, None), "downloading x: 3 MiB");
}
