//! What the stories need: a proxy in this process, licenses, and waiting for a condition.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use license_proxy::edge::{self, Health};
use license_proxy::issue::{SigningKey, generate};
use license_proxy::license::{AUDIENCE, Claims};
use license_proxy::service::{Service, ServiceConfig, now_ms};
use license_proxy::token::TrustedKeys;
use license_proxy::upstream::Source;
use license_proxy::{Decision, DenyReason, LicenseGate};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Longest wait for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn committed(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/licenses").join(name)
}

pub(crate) fn development() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples/license/development.jwt")
}

pub(crate) struct Vendor(pub(crate) SigningKey);

impl Vendor {
    pub(crate) fn new() -> Self {
        Self(generate("vendor").expect("key"))
    }

    pub(crate) fn keys(&self) -> TrustedKeys {
        TrustedKeys::with(&self.0.trusted()).expect("its own key")
    }

    /// A license that ends `seconds` from now.
    pub(crate) fn license(&self, seconds: u64) -> String {
        let now = now_ms() / 1000;
        let claims = Claims {
            iss: "vendor".into(),
            aud: AUDIENCE.into(),
            sub: "customer".into(),
            jti: "L1".into(),
            iat: now - 60,
            nbf: None,
            exp: now + seconds,
            features: vec!["asr".into()],
            max_streams: Some(5),
            hosts: Vec::new(),
        };
        self.0.sign(&claims).expect("license")
    }
}

pub(crate) struct Proxy {
    pub(crate) url: String,
    pub(crate) service: Arc<Service>,
    _stop: DropGuard,
}

impl Proxy {
    pub(crate) async fn start(source: Source, keys: TrustedKeys, config: ServiceConfig) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
        Self::start_on(listener, source, keys, config)
    }

    pub(crate) fn start_on(
        listener: TcpListener,
        source: Source,
        keys: TrustedKeys,
        config: ServiceConfig,
    ) -> Self {
        let url = format!("http://{}", listener.local_addr().expect("address"));
        let service = Arc::new(Service::new(config));
        let stop = CancellationToken::new();
        let (watched, stopped) = (service.clone(), stop.clone());
        tokio::spawn(async move { watched.run(&source, &keys, &stopped).await });
        let app = edge::router(service.clone());
        let stopped = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = stopped.cancelled() => {}
                served = axum::serve(listener, app).into_future() => served.expect("serve"),
            }
        });
        Self { url, service, _stop: stop.drop_guard() }
    }

    /// A proxy with a license file on this machine.
    pub(crate) async fn with_file(file: PathBuf, host: &str) -> Self {
        let source = Source::new(Some(file), None, "http://unused").expect("source");
        Self::start(source, TrustedKeys::built_in(), config(host)).await
    }

    pub(crate) async fn health(&self) -> (u16, Health) {
        let answer = reqwest::get(format!("{}/health", self.url)).await.expect("answer");
        (answer.status().as_u16(), answer.json().await.expect("health"))
    }

    /// Health once `good` holds.
    pub(crate) async fn health_when(&self, good: impl Fn(&Health) -> bool) -> (u16, Health) {
        let wait = async {
            loop {
                let (status, health) = self.health().await;
                if good(&health) {
                    return (status, health);
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("the health that was waited for")
    }
}

pub(crate) fn config(host: &str) -> ServiceConfig {
    ServiceConfig {
        host: host.to_owned(),
        grace_period: Duration::from_hours(1),
        revalidate: Duration::from_millis(50),
    }
}

/// Waits until the gate's decision is `good`.
pub(crate) async fn until(gate: &LicenseGate, good: impl Fn(&Decision) -> bool) -> Decision {
    let mut changed = gate.changed();
    let found = changed.wait_for(|decision| good(decision));
    let found = tokio::time::timeout(PATIENCE, found).await;
    found.expect("the decision that was waited for").expect("the gate lives").clone()
}

pub(crate) fn denied_for(reason: DenyReason) -> impl Fn(&Decision) -> bool {
    move |decision| matches!(decision, Decision::Denied { reason: found, .. } if *found == reason)
}

pub(crate) fn granted(decision: &Decision) -> bool {
    matches!(decision, Decision::Granted { .. })
}
