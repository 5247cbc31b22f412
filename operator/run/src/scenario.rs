//! Whole turns against an apiserver in memory, faults included. Time is simulated: an hour passes in no time when
//! nobody has anything to do.

mod apiserver;
mod foreign;
mod handover;
mod lease;
mod made;
mod monitors;
mod resource;
mod secrets;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use operator_plan::ClusterPlace;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::client::Clients;
use crate::lease::{Granted, leadership};
use crate::operate::{Parts, Settings};
use crate::reconcile::Clock;
use apiserver::{Apiserver, Wrong};

const RESOURCE: &str = "/apis/smallest.ai/v1/namespaces/ns/smallestdeployments/quickstart";
const LICENSE: &str = "/api/v1/namespaces/ns/secrets/license";
const GATEWAY: &str = "/apis/apps/v1/namespaces/ns/deployments/quickstart-gateway";
const WORKER: &str = "/apis/apps/v1/namespaces/ns/deployments/quickstart-asr";
const REDIS: &str = "/apis/apps/v1/namespaces/ns/statefulsets/quickstart-redis";
const REDIS_SECRET: &str = "/api/v1/namespaces/ns/secrets/quickstart-redis";
/// What an apiserver does wrong for a while.
const PASSING: [Wrong; 6] = [
    Wrong::Code(500),
    Wrong::Code(409),
    Wrong::Code(503),
    Wrong::TooMany(7),
    Wrong::Silence,
    Wrong::Code(403),
];

/// An operator without its Lease: tests grant leadership themselves. It ends when dropped.
struct Running {
    granted: Granted,
    stop: CancellationToken,
    _tasks: JoinSet<&'static str>,
    _workers: JoinSet<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Starts an operator that stands by.
fn standby(server: &Apiserver) -> Running {
    let (granted, leadership) = leadership();
    let clients = Clients::over(&server.client(), &leadership);
    let settings = Settings {
        namespace: None,
        pod_name: "operator-0".to_owned(),
        place: ClusterPlace::default(),
        clock: clock(),
    };
    let parts = Parts::over(&clients, &leadership, granted.flag(), settings);
    let (mut tasks, stop) = (JoinSet::new(), CancellationToken::new());
    let workers = parts.work(4, &stop);
    parts.start(&mut tasks, &stop);
    Running { granted, stop, _tasks: tasks, _workers: workers }
}

/// A clock that goes with the simulated time, from six in the morning of a Monday on.
fn clock() -> Clock {
    let (six, began): (Timestamp, Instant) =
        ("2026-11-23T06:00:00Z".parse().expect("an instant"), Instant::now());
    Arc::new(move || Time(six + began.elapsed()))
}

/// Starts an operator that leads.
fn leader(server: &Apiserver) -> Running {
    let running = standby(server);
    running.granted.forever();
    running
}

/// An apiserver with a resource and the license that it names.
fn quickstart() -> Apiserver {
    let server = Apiserver::new();
    server.put(LICENSE, license());
    server.put(RESOURCE, resource());
    server
}

fn license() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": { "name": "license", "namespace": "ns" },
        "data": { "license.jwt": "ZXlKaGJHY2lPaUo=" },
    })
}

fn resource() -> Value {
    json!({
        "apiVersion": "smallest.ai/v1", "kind": "SmallestDeployment",
        "metadata": { "name": "quickstart", "namespace": "ns", "generation": 1 },
        "spec": {
            "license": { "offline": { "secretRef": { "name": "license" } } },
            "gateway": { "auth": { "allowAnonymous": true } },
            "asr": { "models": [{
                "name": "demo", "url": "file:///usr/share/smallest/models/demo-asr", "sha256": "0".repeat(64),
            }] },
        },
    })
}

/// A condition of the resource's status.
fn condition(server: &Apiserver, kind: &str) -> Option<Value> {
    let resource = server.get(RESOURCE)?;
    let conditions = resource["status"]["conditions"].as_array()?.clone();
    conditions.into_iter().find(|condition| condition["type"] == kind)
}

/// All objects stand, and the status speaks of this generation.
fn is_applied(server: &Apiserver) -> bool {
    [GATEWAY, WORKER, REDIS, REDIS_SECRET].iter().all(|path| server.get(path).is_some())
        && server.get(RESOURCE).is_some_and(|resource| {
            resource["status"]["observedGeneration"] == resource["metadata"]["generation"]
        })
}

/// Waits until the operator has nothing more to do: no call that writes for ten minutes.
async fn settled(server: &Apiserver) {
    loop {
        let before = server.writes();
        sleep(Duration::from_mins(10)).await;
        if server.writes() == before {
            return;
        }
    }
}

async fn applied(server: &Apiserver) -> Running {
    let running = leader(server);
    server.until("applied", is_applied).await;
    settled(server).await;
    running
}
