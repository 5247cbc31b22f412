//! `smallest-license-proxy`: configuration → telemetry → serve until SIGTERM; and the vendor's `keygen` and
//! `issue`.

mod config;
mod probe;
mod vendor;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Parser as _;
use license_proxy::edge;
use license_proxy::service::Service;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::config::{Cli, Command, ServeArgs};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    match cli.command {
        None => serve(cli.serve).await,
        Some(Command::Keygen(args)) => vendor::keygen(&args),
        Some(Command::Issue(args)) => vendor::issue(&args),
        Some(Command::Show(args)) => vendor::show(&args, &cli.serve),
        Some(Command::Probe) => probe::probe(&cli.serve).await,
    }
}

async fn serve(args: ServeArgs) -> anyhow::Result<()> {
    let _guard = telemetry::init(&args.telemetry.config("smallest-license-proxy"))?;
    let metrics = telemetry::metrics();
    let keys = args.keys()?;
    let source = args.source()?;
    let service = Arc::new(Service::new(args.service_config()));
    let address = SocketAddr::new(args.host, args.port);
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("failed to listen on {address}: is another program there? set PORT"))?;
    tracing::info!(%address, build = %telemetry::build_info(), "license proxy listens");

    let stop = stop_on_signal()?;
    let look = {
        let (service, stop) = (service.clone(), stop.clone());
        tokio::spawn(async move { service.run(&source, &keys, &stop).await })
    };
    let app = edge::router(service).merge(metrics.router());
    let server = axum::serve(listener, app).with_graceful_shutdown(stop.clone().cancelled_owned());
    // Those who wait for another decision must not keep the program alive.
    let drained = async {
        stop.cancelled().await;
        tokio::time::sleep(args.drain()).await;
    };
    tokio::select! {
        result = server.into_future() => result.context("failed to serve")?,
        () = drained => {}
    }
    look.await.context("failed to watch the license")
}

fn stop_on_signal() -> anyhow::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate()).context("failed to listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("failed to listen for SIGINT")?;
    let stop = CancellationToken::new();
    let cancel = stop.clone();
    tokio::spawn(async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        cancel.cancel();
    });
    Ok(stop)
}
