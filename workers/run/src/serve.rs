//! The journey of `smallest-worker`, from parsed flags to exit.
//!
//! `config → health and metrics → license → queue, register → load → ready → work → drain`. IO only at the edges that it calls.

use std::sync::Arc;
use std::time::{Duration, Instant};

use queue::ids::WorkerId;
use queue::port::{QueueLimits, WorkerPhase, WorkerPort};
use queue::redis::{RedisConfig, RedisQueue};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use workers_batch::Limits;
use workers_engine::SAMPLE_RATE_HZ;

use crate::config::{AsrArgs, Component, EngineKind};
use crate::license::{self, LicenseMeter};
use crate::load::{self, Loaded};
use crate::queue_health::{BackOff, QueueHealth};
use crate::ready::{self, ListenError, Readiness};
use crate::register::{self, About, Who};
use crate::sessions::Patience;
use crate::worker::{self, Gate, Parts, WorkerConfig, WorkerError};

/// Why the program ended with an error.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A port is in use.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Signals cannot be received.
    #[error("failed to listen for signals")]
    Signals(#[source] std::io::Error),
    /// The flags name no Redis.
    #[error(transparent)]
    Redis(#[from] queue::args::RedisArgsError),
    /// No license proxy is named.
    #[error("failed to find the license proxy: LICENSE_PROXY_URL is empty, which only ENGINE=fake allows")]
    NoLicenseProxy,
    /// Speech synthesis was asked for, and there is no engine for it.
    #[error(
        "failed to serve tts: this version has no engine for speech synthesis; remove spec.tts, or use ENGINE=fake in tests"
    )]
    NoSynthesis,
    /// The worker failed.
    #[error(transparent)]
    Worker(#[from] WorkerError),
}

/// Longest wait for the last words to queue and license proxy.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Serves until SIGTERM or SIGINT, or until the engine dies.
pub async fn serve(component: Component, args: AsrArgs) -> Result<(), ServeError> {
    if component == Component::Tts && args.engine == EngineKind::Torch {
        return Err(ServeError::NoSynthesis);
    }
    let redis = redis_config(component, &args)?;
    let started = Instant::now();
    let stop = on_signals()?;
    let metrics = telemetry::metrics();
    crate::metrics::describe();
    let health = QueueHealth::default();
    let (readiness, readiness_out) = watch::channel(Readiness::starting(WorkerPhase::Starting, "starting"));
    let health_port = ready::listen(args.health_address(component), "health", "PORT").await?;
    let metrics_port = ready::listen(args.metrics_address(component), "metrics", "METRICS_PORT").await?;
    spawn_server(health_port, ready::router(readiness_out, health.clone()));
    spawn_server(metrics_port, metrics.router());

    let (gate, meter, license) = connect_license(component, &args).await?;
    let pod = args.pod_name.clone().filter(|pod| !pod.is_empty());
    let about = About { pod, model_sha256: None, license: license.clone() };
    let id = WorkerId::generate();
    let lease = Duration::from_millis(args.queue_lease_ms);
    let who = Who { id: &id, component: component.name(), about: &about, lease };
    let prepared = prepare((&redis, &args), &who, (&readiness, &health), &stop);
    let Some((queue, loaded)) = prepared.await else { return Ok(()) };

    let about = About { model_sha256: loaded.model_sha256.clone(), ..about };
    let config = worker_config((id, component), &args, &loaded);
    let info = loaded.engine.info();
    let ready = Readiness::Ready {
        device: info.device.clone(),
        model: info.model.clone(),
        slots: config.limits.streams,
    };
    crate::metrics::ready(info, config.limits.streams, started.elapsed());
    tracing::info!(worker = %config.id, after_ms = started.elapsed().as_millis() as u64, "ready");
    readiness.send_replace(ready);
    let draining = stop.clone();
    tokio::spawn(async move {
        draining.cancelled().await;
        readiness.send_replace(Readiness::Draining);
    });
    let port: Arc<dyn WorkerPort> = Arc::new(queue);
    let parts = Parts { port, engine: loaded.engine, gate, meter: Arc::new(meter), health, about };
    let result = worker::run(parts, config, stop).await;
    if let Some(license) = license {
        // Counted work should not be lost, but nobody waits long for it.
        drop(tokio::time::timeout(LAST_WORDS, license.flush()).await);
    }
    Ok(result?)
}

/// Reaches the queue and loads the model; both take their time, and neither needs the other. As soon as the queue is
/// reached, the worker is registered there. `None` when asked to stop before.
async fn prepare(
    (redis, args): (&RedisConfig, &AsrArgs),
    who: &Who<'_>,
    (readiness, health): (&watch::Sender<Readiness>, &QueueHealth),
    stop: &CancellationToken,
) -> Option<(RedisQueue, Loaded)> {
    let loaded = CancellationToken::new();
    let registering = async {
        let queue = connect_queue(redis, health, stop).await?;
        register::while_loading(&queue, who, (readiness.subscribe(), health), &loaded).await;
        Some(queue)
    };
    let loading = async {
        let engine = load::insist(args, readiness, stop).await;
        loaded.cancel();
        engine
    };
    match futures::future::join(registering, loading).await {
        (Some(queue), Some(loaded)) => Some((queue, loaded)),
        (Some(queue), None) => {
            drop(tokio::time::timeout(LAST_WORDS, queue.unregister(who.id)).await);
            None
        }
        (None, _) => None,
    }
}

fn worker_config((id, component): (WorkerId, Component), args: &AsrArgs, loaded: &Loaded) -> WorkerConfig {
    let lease = Duration::from_millis(args.queue_lease_ms);
    WorkerConfig {
        id,
        component: component.name(),
        limits: Limits {
            streams: loaded.streams,
            jobs: loaded.jobs,
            coalesce: Duration::from_millis(args.coalesce_ms),
            ..Limits::default()
        },
        job_chunks: loaded.job_chunks,
        job_samples: args.batch_audio_seconds * u64::from(SAMPLE_RATE_HZ),
        lease,
        patience: Patience {
            idle: Duration::from_secs(args.session_idle_seconds),
            probe: lease,
            quiet: lease * 2,
        },
        drain_timeout: args.drain_timeout(),
    }
}

/// One token for SIGTERM and SIGINT.
fn on_signals() -> Result<CancellationToken, ServeError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(ServeError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(ServeError::Signals)?;
    let stop = CancellationToken::new();
    let told = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        told.cancel();
    });
    Ok(stop)
}

fn spawn_server(listener: tokio::net::TcpListener, router: axum::Router) {
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "a health or metrics server ended");
        }
    });
}

type Licensed = (watch::Receiver<Gate>, LicenseMeter, Option<license_proxy::LicenseGate>);

async fn connect_license(component: Component, args: &AsrArgs) -> Result<Licensed, ServeError> {
    if args.license_proxy_url.is_empty() {
        if args.engine != EngineKind::Fake {
            return Err(ServeError::NoLicenseProxy);
        }
        return Ok((license::open(), LicenseMeter(None), None));
    }
    let license = license_proxy::LicenseGate::connect(&args.license_proxy_url, component.name()).await;
    Ok((license::gate(&license), LicenseMeter(Some(license.clone())), Some(license)))
}

fn redis_config(component: Component, args: &AsrArgs) -> Result<RedisConfig, ServeError> {
    let lease = Duration::from_millis(args.queue_lease_ms);
    Ok(RedisConfig {
        url: args.redis.url()?,
        root_certificates: args.redis.root_certificates()?,
        deployment: args.deployment.clone(),
        component: component.name(),
        limits: QueueLimits { lease, ..QueueLimits::default() },
    })
}

async fn connect_queue(
    config: &RedisConfig,
    health: &QueueHealth,
    stop: &CancellationToken,
) -> Option<RedisQueue> {
    let mut back_off = BackOff::default();
    while !stop.is_cancelled() {
        let connected = RedisQueue::connect(config).await;
        health.note(&connected);
        match connected {
            Ok(queue) => return Some(queue),
            Err(error) => {
                tracing::debug!(reason = error.reason(), %error, "no queue yet");
                back_off.wait(stop).await;
            }
        }
    }
    None
}
