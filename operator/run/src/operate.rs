//! The parts put together: started in order, stopped in reverse. Whatever ends unasked ends the program, and the
//! kubelet starts it again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use operator_metrics::{CertificateFrom, MetricSource};
use operator_plan::ClusterPlace;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::apply::Applier;
use crate::client::Clients;
use crate::config::{Cli, RunArgs};
use crate::desk::Desk;
use crate::fetch::Fetcher;
use crate::index::Index;
use crate::lease::{Candidate, Leadership, leadership};
use crate::reconcile::{Clock, Reconciler};
use crate::report::Reporting;
use crate::scale::{Key, Queues, Scaler};
use crate::watch::{Monitors, Synced, Watches};

/// Name of the Lease.
const LEASE: &str = "smallest-operator";
/// Service by which the apiserver reaches the external metrics, and where their certificate is kept.
const SERVICE: &str = "smallest-operator";
const TLS_SECRET: &str = "smallest-operator-tls";
const API_SERVICE: &str = "v1beta1.external.metrics.k8s.io";
/// How long turns under way may take to end when the program stops.
const DRAIN: Duration = Duration::from_secs(10);
/// Pauses between tries to reach the apiserver at the start.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LAST_PAUSE: Duration = Duration::from_secs(15);

/// What an operator consists of, beside the Lease and its servers.
pub(crate) struct Parts {
    /// See and remember.
    pub(crate) watches: Watches,
    /// Does the work.
    pub(crate) reconciler: Arc<Reconciler>,
    /// Scales from and to zero.
    pub(crate) scaler: Scaler,
    /// Deployments whose queue changed.
    pub(crate) changes: mpsc::Receiver<Key>,
}

/// What differs between operators.
pub(crate) struct Settings {
    /// The one namespace to look after, or all.
    pub(crate) namespace: Option<String>,
    /// Name of this replica.
    pub(crate) pod_name: String,
    /// What plans are made for.
    pub(crate) place: ClusterPlace,
    /// What time it is.
    pub(crate) clock: Clock,
}

impl Parts {
    /// Puts an operator together over these clients; nothing runs yet.
    pub(crate) fn over(
        clients: &Clients,
        leadership: &Leadership,
        leader: watch::Receiver<bool>,
        settings: Settings,
    ) -> Self {
        let index = Index::default();
        let (queues, changes) = Queues::new();
        let scaler = Scaler::new(clients.writer.clone(), queues.clone(), leader);
        let watches = Watches {
            client: clients.reader.clone(),
            index: index.clone(),
            desk: Arc::default(),
            synced: Synced::default(),
            namespace: settings.namespace,
            monitors: Monitors::new(settings.place.service_monitors),
        };
        let reconciler = Reconciler {
            fetcher: Fetcher::new(clients.reader.clone(), index.clone()),
            applier: Applier::new(clients.writer.clone(), index.clone()),
            reporting: Reporting::new(clients.writer.clone(), index.clone(), &settings.pod_name),
            index,
            queues,
            scaler: scaler.clone(),
            leadership: leadership.clone(),
            place: settings.place,
            monitors: watches.monitors.clone(),
            clock: settings.clock,
        };
        Self { watches, reconciler: Arc::new(reconciler), scaler, changes }
    }

    /// Starts everything but the workers; none of it ends before `stop`.
    pub(crate) fn start(self, tasks: &mut JoinSet<&'static str>, stop: &CancellationToken) {
        let Self { watches, reconciler, scaler, changes } = self;
        watches.start(tasks);
        let wake =
            wake_on_leadership(reconciler.leadership.clone(), reconciler.index.clone(), watches.desk.clone());
        tasks.spawn(named("wake on leadership", wake));
        tasks.spawn(named("wake on readings", wake_on_readings(changes, watches.desk)));
        tasks.spawn(named("scaler", scaler.run(stop.clone())));
    }

    /// Workers: as many resources are in work at a time. They begin when everything has been listed once.
    pub(crate) fn work(&self, concurrency: u16, stop: &CancellationToken) -> JoinSet<()> {
        let mut workers = JoinSet::new();
        for _ in 0..concurrency {
            let (reconciler, desk) = (self.reconciler.clone(), self.watches.desk.clone());
            let (synced, stop) = (self.watches.synced.clone(), stop.clone());
            workers.spawn(async move {
                tokio::select! {
                    () = synced.all() => {}
                    () = stop.cancelled() => return,
                }
                loop {
                    let key = tokio::select! {
                        biased;
                        () = stop.cancelled() => return,
                        key = desk.next() => key,
                    };
                    let turn = reconciler.turn(&key).await;
                    desk.done(&key, turn);
                }
            });
        }
        workers
    }
}

/// Runs until SIGTERM.
pub(crate) async fn operate(cli: Cli) -> anyhow::Result<()> {
    let _guard = telemetry::init(&cli.telemetry.config("smallest-operator"))?;
    let stop = stop_on_signal()?;
    let (granted, leadership) = leadership();
    let config =
        kube::Config::infer().await.context("failed to find a cluster: set KUBECONFIG, or run in one")?;
    let clients = Clients::new(config, &leadership).context("failed to set up the way to the apiserver")?;
    let mut settings = Settings {
        namespace: cli.run.watched(),
        pod_name: cli.run.pod_name.clone(),
        place: cli.images.place(&cli.run.pod_namespace),
        clock: Arc::new(|| Time(Timestamp::now())),
    };
    tracing::info!(build = %telemetry::build_info(), namespace = ?settings.namespace, "operator starts");
    settings.place.service_monitors = tokio::select! {
        found = has_service_monitors(&clients) => found,
        () = stop.cancelled() => return Ok(()),
    };
    let parts = Parts::over(&clients, &leadership, granted.flag(), settings);
    let synced = parts.watches.synced.clone();
    let mut tasks = JoinSet::new();
    serve(&cli, &synced, &mut tasks).await?;
    serve_external_metrics(&cli, &clients, &parts, (&mut tasks, &stop)).await?;
    let workers = parts.work(cli.run.concurrency, &stop);
    parts.start(&mut tasks, &stop);

    // Nobody leads before having seen what there is.
    tokio::select! {
        biased;
        () = stop.cancelled() => return Ok(()),
        () = synced.all() => {}
        ended = tasks.join_next() => bail!("failed to go on: {ended:?} ended"),
    }
    let leases: Api<Lease> = Api::namespaced(clients.reader.clone(), &cli.run.pod_namespace);
    let candidate = Candidate::new(leases, LEASE, &cli.run.pod_name, granted);
    let resign = CancellationToken::new();
    let election = tokio::spawn(candidate.run(resign.clone()));
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        ended = tasks.join_next() => bail!("failed to go on: {ended:?} ended"),
    }
    // Turns under way end before the Lease is given back: two replicas never write at a time.
    drain(workers).await;
    resign.cancel();
    election.await.context("failed to give the Lease back")
}

async fn named(name: &'static str, task: impl Future<Output = ()>) -> &'static str {
    task.await;
    name
}

async fn serve(cli: &Cli, synced: &Synced, tasks: &mut JoinSet<&'static str>) -> anyhow::Result<()> {
    let listener = listen(SocketAddr::new(cli.run.host, cli.run.port), "PORT").await?;
    let app = crate::server::router(synced.clone());
    tasks.spawn(named("health server", async move {
        if let Err(error) = axum::serve(listener, app).await {
            tracing::error!(%error, "failed to serve health and metrics");
        }
    }));
    Ok(())
}

/// Every replica serves them, whether it leads or not.
async fn serve_external_metrics(
    cli: &Cli,
    clients: &Clients,
    parts: &Parts,
    (tasks, stop): (&mut JoinSet<&'static str>, &CancellationToken),
) -> anyhow::Result<()> {
    let RunArgs { external_metrics, external_metrics_port, external_metrics_tls_dir, .. } = &cli.run;
    if !external_metrics {
        return Ok(());
    }
    let address = SocketAddr::new(cli.run.host, *external_metrics_port);
    let listener = listen(address, "EXTERNAL_METRICS_PORT").await?;
    let certificate = match external_metrics_tls_dir {
        Some(folder) => CertificateFrom::Folder(folder.clone()),
        None => CertificateFrom::Operator {
            namespace: cli.run.pod_namespace.clone(),
            secret: TLS_SECRET.to_owned(),
            service: SERVICE.to_owned(),
            api_service: API_SERVICE.to_owned(),
        },
    };
    let source: Arc<dyn MetricSource> = Arc::new(parts.reconciler.queues.clone());
    // The certificate belongs to no leader, so the ungated client writes it.
    let served = operator_metrics::run(clients.reader.clone(), listener, certificate, (source, stop.clone()));
    tasks.spawn(named("external metrics", served));
    Ok(())
}

async fn listen(address: SocketAddr, variable: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("failed to listen on {address}: is another program there? set {variable}"))
}

/// `ServiceMonitor`s are made only where the cluster knows them; a watch tells when that changes. Asks until the
/// apiserver answers.
async fn has_service_monitors(clients: &Clients) -> bool {
    let mut pause = FIRST_PAUSE;
    loop {
        match clients.reader.list_api_groups().await {
            Ok(groups) => return groups.groups.iter().any(|group| group.name == "monitoring.coreos.com"),
            Err(error) => {
                let error = crate::error::causes(&error);
                tracing::warn!(error, "failed to ask the apiserver what it serves; tries again");
            }
        }
        sleep(pause.mul_f64(0.5 + crate::random::fraction())).await;
        pause = (pause * 2).min(LAST_PAUSE);
    }
}

async fn drain(mut workers: JoinSet<()>) {
    let ended = timeout(DRAIN, async { while workers.join_next().await.is_some() {} }).await;
    if ended.is_err() {
        tracing::warn!(turns = workers.len(), "gave up turns under way");
        workers.shutdown().await;
    }
}

/// Whoever begins to lead looks at everything once.
async fn wake_on_leadership(mut leadership: Leadership, index: Index, desk: Arc<Desk>) {
    loop {
        leadership.becomes(true).await;
        index.forget_applied();
        desk.wake(index.keys());
        leadership.becomes(false).await;
    }
}

async fn wake_on_readings(mut changes: mpsc::Receiver<Key>, desk: Arc<Desk>) {
    while let Some(key) = changes.recv().await {
        desk.wake([key]);
    }
}

fn stop_on_signal() -> anyhow::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate()).context("failed to listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("failed to listen for SIGINT")?;
    let stop = CancellationToken::new();
    let cancel = stop.clone();
    tokio::spawn(async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        tracing::info!("stops");
        cancel.cancel();
    });
    Ok(stop)
}
