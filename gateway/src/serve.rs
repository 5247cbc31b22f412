//! One port for HTTP/1, HTTP/2, WebSocket and gRPC; the state behind it; start, drain and stop.
//!
//! In: a [`Config`], the queue, the license. Out: served connections. SIGTERM closes the door (not ready, new
//! work refused by name), lets running requests and streams finish, then ends the connections.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use license_proxy::Standing;
use queue::ids::GatewayId;
use queue::port::{GatewayPort, GatewayRecord, LicenseRecord};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use crate::admit::{Admitted, Door, Kind};
use crate::audio::pool::{Budget, Pool};
use crate::config::{Config, Limits};
use crate::edge;
use crate::edge::fetch::Fetcher;
use crate::error::Error;
use crate::license::License;
use crate::metric;
use crate::observe::{self, View};
use crate::relay::{Outboxes, Relay};

/// Longest header of an HTTP/1 request that is read at all, bytes; [`edge::MAX_HEADER_BYTES`] is answered with
/// a body, more than this with a bare 431.
const HTTP1_BUFFER: usize = 64 * 1024;
/// A client that does not finish its header for this long is disconnected.
const HEADER_TIMEOUT: Duration = Duration::from_secs(20);
/// HTTP/2 flow-control windows, bytes: one message of audio for a stream, several for a connection.
const H2_WINDOWS: (u32, u32) = (1 << 20, 16 << 20);
/// Streams of one HTTP/2 connection.
const H2_STREAMS: u32 = 4_096;
/// Time for last frames and connection ends after the drain.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Pause after a failed accept (out of file descriptors), so that it is no busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Everything the edges share.
pub struct Gateway {
    /// This process, as the queue knows it.
    pub id: GatewayId,
    /// What it was started with.
    pub config: Config,
    /// The queue.
    pub queue: Arc<dyn GatewayPort>,
    /// The license.
    pub license: Arc<dyn License>,
    /// Who is inside.
    pub door: Door,
    /// Who waits for answers.
    pub relay: Relay,
    /// The ways to workers.
    pub outboxes: Outboxes,
    /// What is known of the world behind.
    pub view: watch::Receiver<View>,
    /// Memory for audio.
    pub budget: Budget,
    /// Threads that decode.
    pub pool: Pool,
    /// Fetches addresses, where that is allowed.
    pub fetcher: Fetcher,
    /// When it started.
    pub started: Instant,
    /// The drain's time is over: live sessions end now.
    pub expired: CancellationToken,
    viewer: watch::Sender<View>,
}

impl Gateway {
    /// The state of a gateway that does not serve yet.
    pub fn new(
        config: Config,
        queue: Arc<dyn GatewayPort>,
        license: Arc<dyn License>,
    ) -> Result<Arc<Self>, Error> {
        let (viewer, view) = watch::channel(View::default());
        Ok(Arc::new(Self {
            id: GatewayId::generate(),
            license,
            door: Door::default(),
            relay: Relay::default(),
            outboxes: Outboxes::new(queue.clone()),
            queue,
            view,
            budget: Budget::new(config.limits.max_buffered_bytes),
            pool: Pool::new(config.limits.decode_threads),
            fetcher: Fetcher::new(config.url_fetch)?,
            started: Instant::now(),
            expired: CancellationToken::new(),
            viewer,
            config,
        }))
    }

    /// Lets a request in, or says why not.
    pub fn enter(&self, kind: Kind, key: Option<&str>) -> Result<Admitted, Error> {
        self.door.enter(kind, key, &self.config, self.license.as_ref())
    }

    /// Why it is not ready; `None` when it is.
    pub fn not_ready(&self) -> Option<Error> {
        if self.door.is_draining() {
            return Some(Error::Draining);
        }
        if !self.view.borrow().queue_up {
            return Some(Error::QueueUnavailable(None));
        }
        self.license.check().err()
    }

    /// This gateway as it registers itself.
    fn record(&self) -> GatewayRecord {
        let (active_requests, active_streams) = self.door.active();
        let Standing { state, message, expires_at_ms } = self.license.standing();
        let license = LicenseRecord { state: state.to_owned(), message, expires_at_ms };
        let pod = self.config.pod_name.clone();
        GatewayRecord { id: self.id.clone(), pod, active_requests, active_streams, license: Some(license) }
    }

    /// Serves a listener until `shutdown`, then drains.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, shutdown: impl Future<Output = ()>) {
        metric::describe();
        let stop = CancellationToken::new();
        let background = TaskTracker::new();
        let gateway = self.clone();
        let record = move || gateway.record();
        background.spawn(observe::run(self.queue.clone(), record, self.viewer.clone(), stop.clone()));
        background.spawn(self.relay.clone().run(self.queue.clone(), self.id.clone(), stop.clone()));
        let (app, health) = edge::router(&self);
        background.spawn(edge::health::report(self.clone(), health, stop.clone()));

        let connections = TaskTracker::new();
        let closing = CancellationToken::new();
        let accepting = accept(&self, &listener, app, (connections.clone(), closing.clone()));
        tokio::pin!(accepting);
        tokio::select! {
            () = &mut accepting => {}
            () = shutdown => {}
        }
        self.door.close();
        let (requests, streams) = self.door.active();
        tracing::info!(requests, streams, "draining: no new work is taken");
        // Connections are still accepted, so that probes and clients are told that this gateway drains.
        let drained = tokio::time::timeout(self.config.limits.drain_timeout_ms, self.door.empty());
        let drained = tokio::select! {
            () = &mut accepting => false,
            drained = drained => drained.is_ok(),
        };
        if !drained {
            let (requests, streams) = self.door.active();
            tracing::warn!(requests, streams, "the drain took too long: ending what still runs");
            self.expired.cancel();
            drop(tokio::time::timeout(LAST_WORDS, self.door.empty()).await);
        }
        closing.cancel();
        connections.close();
        drop(tokio::time::timeout(LAST_WORDS, connections.wait()).await);
        stop.cancel();
        background.close();
        drop(tokio::time::timeout(LAST_WORDS, background.wait()).await);
        tracing::info!("drained");
    }
}

async fn accept(
    gateway: &Arc<Gateway>,
    listener: &TcpListener,
    app: axum::Router,
    (connections, closing): (TaskTracker, CancellationToken),
) {
    let places = Arc::new(Semaphore::new(gateway.config.limits.max_connections as usize));
    let builder = Arc::new(builder(&gateway.config.limits));
    let patience = gateway.config.limits.ping_interval_ms * 2;
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(e) => {
                tracing::warn!(error = %e, "failed to accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (app, builder, closing) = (app.clone(), builder.clone(), closing.clone());
        connections.spawn(async move {
            connection(&builder, stream, patience, app, closing).await;
            drop(place);
        });
    }
}

async fn connection(
    builder: &Builder<TokioExecutor>,
    stream: TcpStream,
    patience: Duration,
    app: axum::Router,
    closing: CancellationToken,
) {
    // Words must not wait for each other in the kernel.
    if let Err(e) = stream.set_nodelay(true) {
        tracing::debug!(error = %e, "failed to set TCP_NODELAY");
    }
    // A client that takes nothing of its answer, over HTTP/1 too, does not keep its connection for ever.
    if let Err(e) = SockRef::from(&stream).set_tcp_user_timeout(Some(patience)) {
        tracing::debug!(error = %e, "failed to set TCP_USER_TIMEOUT");
    }
    let service = app.map_request(|request: hyper::Request<hyper::body::Incoming>| request.map(Body::new));
    let serving =
        builder.serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(service));
    tokio::pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = closing.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(e) = ended {
        tracing::debug!(error = %e, "a connection ended with an error");
    }
}

fn builder(limits: &Limits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(HTTP1_BUFFER);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(limits.ping_interval_ms)
        .keep_alive_timeout(limits.ping_interval_ms)
        .initial_stream_window_size(H2_WINDOWS.0)
        .initial_connection_window_size(H2_WINDOWS.1)
        .max_concurrent_streams(H2_STREAMS)
        .max_header_list_size(HTTP1_BUFFER as u32);
    builder
}
