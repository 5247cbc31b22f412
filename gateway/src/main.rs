//! Starts the gateway: config → telemetry → queue and license → serve → drain.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser as _;
use gateway::config::{Args, Config};
use gateway::{Gateway, shutdown};
use license_proxy::LicenseGate;
use queue::port::{QueueError, QueueLimits};
use queue::redis::{RedisConfig, RedisQueue};
use tokio::net::TcpListener;

/// How long Redis may take to come up after this program. Whoever starts it may be as patient, or not.
const PATIENCE: Duration = Duration::from_mins(4);
/// Between two attempts to reach it.
const RETRY: Duration = Duration::from_millis(500);

fn main() -> anyhow::Result<()> {
    gateway::runtime().context("failed to start the async runtime")?.block_on(run())
}

async fn run() -> anyhow::Result<()> {
    let args = Args::parse();
    let _guard = telemetry::init(&args.telemetry.config("smallest-gateway"))?;
    let keys = args.api_keys_file.as_ref().map(std::fs::read_to_string).transpose();
    let keys = keys.context("failed to read the file named by API_KEYS_FILE")?;
    let config = Config::parse(&args, keys.as_deref())?;

    let beside = args.beside();
    let redis = RedisConfig {
        url: args.redis.url()?,
        root_certificates: args.redis.root_certificates()?,
        deployment: args.deployment,
        component: "asr",
        limits: QueueLimits::default(),
    };
    let license = LicenseGate::connect(&args.license_proxy_url, "gateway");
    let (queue, license) = tokio::join!(connect(&redis), license);
    let queue = queue.and_then(|queue| queue.beside(&redis.deployment, beside));
    let queue = queue.context("failed to use the Redis named by REDIS_URL or REDIS_HOST")?;

    let listener = TcpListener::bind(config.listen).await;
    let listener = listener.with_context(|| format!("failed to listen on {}", config.listen))?;
    let (address, version) = (listener.local_addr()?, telemetry::build_info().version);
    tracing::info!(%address, version, "listening");
    let delay = config.limits.drain_delay_ms;
    let gateway = Gateway::new(config, Arc::new(queue), Arc::new(license.clone()))?;
    gateway.serve(listener, shutdown::signal_and(delay)).await;
    license.flush().await;
    Ok(())
}

/// Redis may come up after this program: it is tried again for a while, and a signal ends the wait.
async fn connect(config: &RedisConfig) -> Result<RedisQueue, QueueError> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let stop = shutdown::signal();
    tokio::pin!(stop);
    loop {
        let error = match RedisQueue::connect(config).await {
            Ok(queue) => return Ok(queue),
            Err(error) => error,
        };
        if tokio::time::Instant::now() >= deadline {
            return Err(error);
        }
        let cause = std::error::Error::source(&error).map(tracing::field::display);
        tracing::warn!(reason = error.reason(), %error, cause, "no queue yet");
        tokio::select! {
            () = tokio::time::sleep(RETRY) => {}
            () = &mut stop => return Err(error),
        }
    }
}
