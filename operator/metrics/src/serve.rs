//! The way of a request: TLS → bounds → who asks → may they → what → answer.
//!
//! TLS takes every client certificate whose holder has its key; whether it is the apiserver's is decided for each request,
//! so that everybody else gets an answer that says why not, and a changed authority counts at once.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::{Method, Request};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::sign::CertifiedKey;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;

use crate::authorize::{Access, Authorizer};
use crate::error::Refusal;
use crate::front_proxy::{FrontProxy, User};
use crate::selector::{MAX_BYTES, Selector};
use crate::source::MetricSource;
use crate::{GROUP, VERSION, documents, tls};

/// Connections at the same time: the apiservers of a cluster hold a few each.
const CONNECTIONS: usize = 256;
/// Requests in work at the same time.
const REQUESTS: usize = 256;
/// Longest answer.
const ANSWER: Duration = Duration::from_secs(5);
/// Longest wait for a handshake, and for the head of a request.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Longest head of a request, bytes; the groups of a user are in it.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// Streams of one connection.
const STREAMS: u32 = 128;
/// Pause after a failed accept, so that it is no busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What is served, and who decides.
#[derive(Clone)]
pub struct Server {
    /// The certificate to serve with; `None` until there is one.
    pub certificate: watch::Receiver<Option<Arc<CertifiedKey>>>,
    /// Whom the apiserver says it is; `None` until that is known.
    pub front_proxy: watch::Receiver<Option<Arc<FrontProxy>>>,
    /// Who may.
    pub authorizer: Arc<dyn Authorizer>,
    /// The values.
    pub source: Arc<dyn MetricSource>,
}

/// Certificates of the client of a connection, its own first.
#[derive(Clone)]
struct Peer(Arc<[CertificateDer<'static>]>);

#[derive(Clone)]
struct App {
    server: Server,
    requests: Arc<Semaphore>,
}

/// Serves a listener; ends only with the task that runs it.
pub async fn serve(listener: TcpListener, server: Server) {
    let acceptor = TlsAcceptor::from(tls::config(server.certificate.clone()));
    let app = Router::new()
        .fallback(answer)
        .with_state(App { server, requests: Arc::new(Semaphore::new(REQUESTS)) });
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let builder = Arc::new(builder());
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "failed to accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (app, acceptor, builder) = (app.clone(), acceptor.clone(), builder.clone());
        tokio::spawn(async move {
            connection(&builder, (acceptor, stream), app).await;
            drop(place);
        });
    }
}

async fn connection(
    builder: &Builder<TokioExecutor>,
    (acceptor, stream): (TlsAcceptor, TcpStream),
    app: Router,
) {
    let stream = match timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => return tracing::debug!("a TLS handshake took too long"),
    };
    let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let peer = Peer(certificates.iter().cloned().map(CertificateDer::into_owned).collect());
    let service = tower::ServiceBuilder::new()
        .map_request(move |request: hyper::Request<hyper::body::Incoming>| {
            let mut request = request.map(axum::body::Body::new);
            request.extensions_mut().insert(peer.clone());
            request
        })
        .service(app);
    let serving = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    if let Err(error) = serving.await {
        tracing::debug!(%error, "a connection ended with an error");
    }
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HANDSHAKE).max_buf_size(MAX_HEAD_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(30))
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(MAX_HEAD_BYTES as u32);
    builder
}

/// Answers, or says why not; within bounds.
async fn answer(State(app): State<App>, request: Request<axum::body::Body>) -> Response {
    let (parts, _body) = request.into_parts();
    // Probes ask without a certificate, and learn nothing.
    if matches!(parts.uri.path(), "/healthz" | "/livez" | "/readyz") {
        return "ok".into_response();
    }
    let began = Instant::now();
    let Ok(_place) = app.requests.try_acquire() else { return Refusal::Busy(REQUESTS).into_response() };
    let known = metric_of(parts.uri.path(), app.server.source.as_ref());
    let answered = bounded(app.server.answer(&parts)).await;
    let (reason, response) = match answered {
        Ok(document) => ("OK", Json(document).into_response()),
        Err(refusal) => {
            let reason = refusal.status().1;
            tracing::debug!(path = parts.uri.path(), reason, error = %refusal, "refused");
            (reason, refusal.into_response())
        }
    };
    metrics::counter!("external_metrics_requests_total", "metric" => known, "reason" => reason).increment(1);
    metrics::histogram!("external_metrics_request_seconds").record(began.elapsed());
    response
}

async fn bounded<T>(answer: impl Future<Output = Result<T, Refusal>>) -> Result<T, Refusal> {
    timeout(ANSWER, answer).await.unwrap_or(Err(Refusal::TooSlow(ANSWER.as_secs())))
}

/// The metric that a path asks for, for our own metrics: only names that exist.
fn metric_of(path: &str, source: &dyn MetricSource) -> &'static str {
    let asked = path.rsplit('/').next().unwrap_or_default();
    source.names().into_iter().find(|name| *name == asked).unwrap_or("none")
}

impl Server {
    async fn answer(&self, parts: &axum::http::request::Parts) -> Result<serde_json::Value, Refusal> {
        let user = self.user(parts)?;
        if !matches!(parts.method, Method::GET | Method::HEAD) {
            return Err(Refusal::Method(parts.method.to_string()));
        }
        let path = parts.uri.path();
        let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
        if let ["apis", GROUP, VERSION, "namespaces", namespace, metric] = segments[..] {
            let access = Access::Metric { namespace: namespace.to_owned(), metric: metric.to_owned() };
            self.authorize(&user, &access).await?;
            let selector = selector(&parts.uri)?;
            let values = self.source.values(namespace, metric, &selector).await?;
            return Ok(documents::values(metric, values));
        }
        self.authorize(&user, &Access::Path(path.to_owned())).await?;
        match segments[..] {
            ["apis"] => Ok(documents::groups()),
            ["apis", GROUP] => Ok(documents::group()),
            ["apis", GROUP, VERSION] => Ok(documents::resources(&self.source.names())),
            ["openapi", "v2"] => Ok(documents::openapi_v2()),
            ["openapi", "v3"] => Ok(documents::openapi_v3()),
            ["openapi", "v3", "apis", GROUP, VERSION] => Ok(documents::openapi_v3_group()),
            _ => Err(Refusal::NotFound(path.to_owned())),
        }
    }

    fn user(&self, parts: &axum::http::request::Parts) -> Result<User, Refusal> {
        let front_proxy = self.front_proxy.borrow().clone().ok_or(Refusal::NotSetUp)?;
        let peer = parts.extensions.get::<Peer>().map_or(&[][..], |peer| &peer.0[..]);
        front_proxy.user(peer, &parts.headers, UnixTime::now()).map_err(Refusal::Unauthenticated)
    }

    async fn authorize(&self, user: &User, access: &Access) -> Result<(), Refusal> {
        match self.authorizer.allows(user, access).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Refusal::Forbidden { user: user.name.clone(), what: access.to_string() }),
            Err(cause) => Err(Refusal::Undecided(cause)),
        }
    }
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Asked {
    #[serde(default)]
    label_selector: String,
}

fn selector(uri: &axum::http::Uri) -> Result<Selector, Refusal> {
    // Escapes make a text up to three times as long.
    if uri.query().is_some_and(|query| query.len() > 8 * MAX_BYTES) {
        return Err(Refusal::Malformed("the query is too long".to_owned()));
    }
    let Query(asked) =
        Query::<Asked>::try_from_uri(uri).map_err(|error| Refusal::Malformed(error.to_string()))?;
    asked
        .label_selector
        .parse()
        .map_err(|error: crate::selector::SelectorError| Refusal::Malformed(error.to_string()))
}
