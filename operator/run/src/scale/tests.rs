//! Queues and scaler on a real Redis, with an apiserver of a few lines.

mod cluster;
mod older_news;
mod served;
mod silent;
mod slow;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use operator_plan::scale::{Bounds, Window};
use operator_plan::{ComponentKind, QueueView, Reading, SecretText};
use queue::ids::{GatewayId, JobId, WorkerId};
use queue::job::{BatchJob, CONTRACT_VERSION, RecognizeOptions};
use queue::port::{GatewayPort, GatewayRecord, Held, QueueLimits, WorkerPort, WorkerRecord};
use queue::redis::{RedisConfig, RedisQueue};
use queue::testing::{RedisServer, TlsRedis};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use self::cluster::Cluster;
use super::{Key, PodCost, QueueTarget, Queues, Replicas, ScaleTarget, ScaledComponent, Scaler};

/// Long enough for anything that must come.
const SOON: Duration = Duration::from_secs(20);

fn key() -> Key {
    Key::new("speech", "quickstart")
}

fn target(url: &str) -> QueueTarget {
    QueueTarget {
        url: SecretText::new(url),
        root_certificates: None,
        scope: key().to_string(),
        components: vec![ComponentKind::Asr],
        up: true,
        started: BTreeMap::new(),
    }
}

async fn queue_on(server: &RedisServer) -> RedisQueue {
    let limits = QueueLimits { lease: SOON, ..QueueLimits::default() };
    let (url, deployment) = (server.url(), key().to_string());
    let config = RedisConfig { url, root_certificates: None, deployment, component: "asr", limits };
    RedisQueue::connect(&config).await.unwrap()
}

async fn submit(queue: &RedisQueue) {
    let options = RecognizeOptions {
        model: None,
        language: "en".into(),
        lookahead: None,
        word_timestamps: false,
        endpointing_ms: 500,
    };
    let job = BatchJob {
        version: CONTRACT_VERSION,
        id: JobId::generate(),
        gateway: GatewayId::generate(),
        options,
        samples: 2,
        accepted_at_ms: 0,
        deadline_ms: u64::MAX / 2,
        traceparent: None,
    };
    queue.submit(&job, Bytes::from_static(b"sound")).await.unwrap();
}

/// Waits until a deployment's view is as it should be, woken by the keys that are told.
async fn told(
    queues: &Queues,
    changes: &mut mpsc::Receiver<Key>,
    right: impl Fn(&Reading) -> bool,
) -> Reading {
    let wait = async {
        loop {
            if let QueueView::Read(reading) = queues.last(&key())
                && right(&reading)
            {
                return reading;
            }
            assert_eq!(changes.recv().await, Some(key()));
        }
    };
    timeout(SOON, wait).await.expect("the change is told")
}

fn component(replicas: u32, idle_seconds: u32) -> ScaledComponent {
    let pods = Vec::new();
    ScaledComponent {
        kind: ComponentKind::Asr,
        deployment: "quickstart-asr".into(),
        bounds: Bounds { min_replicas: 0, max_replicas: 10, window: None, next_change: None },
        idle_seconds,
        replicas: Some(Replicas { number: replicas, version: 0 }),
        pods,
    }
}

/// A scaler over a Redis and an apiserver; stopped when dropped.
struct Rig {
    server: RedisServer,
    queue: RedisQueue,
    queues: Queues,
    changes: mpsc::Receiver<Key>,
    scaler: Scaler,
    leader: watch::Sender<bool>,
    stop: CancellationToken,
}

impl Rig {
    async fn new(cluster: &Cluster, component: ScaledComponent) -> Self {
        let server = RedisServer::start().unwrap();
        let queue = queue_on(&server).await;
        let (queues, changes) = Queues::new();
        let (leader, leads) = watch::channel(true);
        let (scaler, stop) = (Scaler::new(cluster.client(), queues.clone(), leads), CancellationToken::new());
        tokio::spawn(scaler.clone().run(stop.clone()));
        scaler.set(&key(), Some(ScaleTarget { components: vec![component] }));
        queues.set(&key(), Some(target(&server.url())));
        Self { server, queue, queues, changes, scaler, leader, stop }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[tokio::test]
async fn queued_work_and_registrations_are_told() {
    let server = RedisServer::start().unwrap();
    let queue = queue_on(&server).await;
    let (queues, mut changes) = Queues::new();
    assert_eq!(queues.read(&key()).await, QueueView::NotRead, "nobody said where it is");
    queues.set(&key(), Some(target(&server.url())));
    told(&queues, &mut changes, |reading| reading.asr.queue_depth() == 0).await;
    submit(&queue).await;
    told(&queues, &mut changes, |reading| reading.asr.batch_queue_depth == 1).await;
    let worker = WorkerId::generate();
    queue.heartbeat(&WorkerRecord::starting(worker.clone(), "asr"), &Held::default()).await.unwrap();
    let starting = |reading: &Reading| reading.asr.workers.iter().any(|w| w.id == worker.as_str());
    told(&queues, &mut changes, starting).await;
    let QueueView::Read(now) = queues.read(&key()).await else { panic!("Redis is there") };
    assert_eq!((now.asr.workers.len(), now.asr.capacity()), (1, 0));
    queues.set(&key(), None);
    assert_eq!(queues.last(&key()), QueueView::NotRead);
}

#[tokio::test]
async fn a_redis_that_is_away_is_unavailable_and_heals_by_itself() {
    let (queues, mut changes) = Queues::new();
    // Nobody listens on port 1.
    queues.set(&key(), Some(target("redis://127.0.0.1:1")));
    let away = async {
        loop {
            if let QueueView::Unavailable { reason, message } = queues.read(&key()).await {
                return (reason, message);
            }
            changes.recv().await;
        }
    };
    let (reason, message) = timeout(SOON, away).await.expect("the outage is told");
    assert_eq!(reason, "QueueUnavailable");
    assert!(message.contains("127.0.0.1:1") && !message.contains("secret"), "{message}");
    let server = RedisServer::start().unwrap();
    queues.set(&key(), Some(target(&server.url())));
    told(&queues, &mut changes, |reading| reading.asr.queue_depth() == 0).await;
    drop(server);
    let gone = async {
        while matches!(queues.last(&key()), QueueView::Read(_)) {
            changes.recv().await;
        }
    };
    timeout(SOON, gone).await.expect("the outage is told");
}

#[tokio::test]
async fn a_gateway_that_registers_with_both_components_is_one() {
    let server = RedisServer::start().unwrap();
    let queue = queue_on(&server).await.beside(&key().to_string(), &["tts"]).unwrap();
    let (queues, mut changes) = Queues::new();
    let components = vec![ComponentKind::Asr, ComponentKind::Tts];
    queues.set(&key(), Some(QueueTarget { components, ..target(&server.url()) }));
    told(&queues, &mut changes, |reading| reading.gateways.is_empty()).await;
    let mut gateway = GatewayRecord::idle(GatewayId::generate());
    gateway.active_streams = 3;
    queue.heartbeat_gateway(&gateway).await.unwrap();
    told(&queues, &mut changes, |reading| !reading.gateways.is_empty()).await;
    let QueueView::Read(reading) = queues.read(&key()).await else { panic!("Redis is there") };
    let seen: Vec<_> = reading.gateways.iter().map(|gateway| gateway.active_streams).collect();
    assert_eq!(seen, [3], "its streams are counted once");
}

#[tokio::test]
async fn a_redis_with_a_private_authority_is_read_when_it_is_named() {
    let server = TlsRedis::start().unwrap();
    let (queues, mut changes) = Queues::new();
    queues.set(&key(), Some(target(&server.url())));
    let refused = async {
        loop {
            if let QueueView::Unavailable { message, .. } = queues.last(&key()) {
                return message;
            }
            changes.recv().await;
        }
    };
    let message = timeout(SOON, refused).await.expect("it is told");
    assert!(message.contains("redis.external.tls.caSecretRef"), "{message}");
    let root_certificates = Some(SecretText::new(server.authority()));
    queues.set(&key(), Some(QueueTarget { root_certificates, ..target(&server.url()) }));
    told(&queues, &mut changes, |reading| reading.asr.queue_depth() == 0).await;
}

#[tokio::test]
async fn a_redis_that_does_not_run_is_not_dialled() {
    let (queues, mut changes) = Queues::new();
    let down = QueueTarget { up: false, ..target("redis://127.0.0.1:1") };
    queues.set(&key(), Some(down));
    let view = queues.last(&key());
    assert!(matches!(view, QueueView::Unavailable { reason: "RedisNotReady", .. }), "{view:?}");
    assert!(changes.try_recv().is_err(), "whoever says so knows it");
}

#[tokio::test]
async fn the_first_work_wakes_a_component_and_the_decision_is_kept() {
    let cluster = Cluster::new(0);
    let mut rig = Rig::new(&cluster, component(0, 600)).await;
    submit(&rig.queue).await;
    cluster.until(|state| state.replicas == 1).await;
    let decided = async {
        while rig.scaler.decisions(&key()).is_empty() {
            rig.changes.recv().await;
        }
    };
    timeout(SOON, decided).await.expect("the decision is told");
    let [decision] = <[_; 1]>::try_from(rig.scaler.decisions(&key())).unwrap();
    assert_eq!((decision.component.as_str(), decision.from, decision.to), ("asr", 0, 1));
    assert_eq!(decision.inputs, "batchQueueDepth=1 streamQueueDepth=0");
    // The reconciler has not seen it yet: that must not wake anybody again.
    rig.scaler.set(&key(), Some(ScaleTarget { components: vec![component(0, 601)] }));
    submit(&rig.queue).await;
    told(&rig.queues, &mut rig.changes, |reading| reading.asr.batch_queue_depth == 2).await;
    assert_eq!(cluster.state.lock().unwrap().patches.len(), 1);
    assert!(!rig.server.url().is_empty());
}

#[tokio::test]
async fn whoever_was_faster_wins() {
    let cluster = Cluster::new(0);
    cluster.state.lock().unwrap().meanwhile = Some(3);
    let rig = Rig::new(&cluster, component(0, 600)).await;
    submit(&rig.queue).await;
    cluster.until(|state| !state.patches.is_empty()).await;
    assert_eq!(cluster.state.lock().unwrap().replicas, 3);
    assert_eq!(rig.scaler.decisions(&key()), []);
}

#[tokio::test]
async fn an_apiserver_that_fails_is_asked_again() {
    let cluster = Cluster::new(0);
    cluster.state.lock().unwrap().failures = 2;
    let rig = Rig::new(&cluster, component(0, 600)).await;
    submit(&rig.queue).await;
    cluster.until(|state| state.replicas == 1).await;
    assert_eq!(cluster.state.lock().unwrap().failures, 0);
}

#[tokio::test]
async fn a_standby_writes_nothing_until_it_leads() {
    let cluster = Cluster::new(0);
    let mut rig = Rig::new(&cluster, component(0, 600)).await;
    rig.leader.send_replace(false);
    submit(&rig.queue).await;
    told(&rig.queues, &mut rig.changes, |reading| reading.asr.batch_queue_depth == 1).await;
    assert_eq!(cluster.state.lock().unwrap().replicas, 0);
    rig.leader.send_replace(true);
    cluster.until(|state| state.replicas == 1).await;
}

#[tokio::test]
async fn an_idle_component_goes_to_sleep_and_one_with_work_does_not() {
    let cluster = Cluster::new(2);
    let rig = Rig::new(&cluster, component(2, 1)).await;
    cluster.until(|state| state.replicas == 0).await;
    assert_eq!(cluster.state.lock().unwrap().patches.len(), 1);
    drop(rig);

    let cluster = Cluster::new(1);
    let rig = Rig::new(&cluster, ScaledComponent { replicas: None, ..component(1, 1) }).await;
    submit(&rig.queue).await;
    let (queues, mut changes) = (rig.queues.clone(), rig.queues.looks());
    let (scaler, idle) = (rig.scaler.clone(), component(1, 1));
    let waits = async {
        while !matches!(queues.last(&key()), QueueView::Read(reading) if reading.asr.batch_queue_depth == 1) {
            changes.recv().await.unwrap();
        }
    };
    timeout(SOON, waits).await.unwrap();
    scaler.set(&key(), Some(ScaleTarget { components: vec![idle] }));
    let long = tokio::time::sleep(Duration::from_millis(1_500));
    tokio::select! { () = long => {}, () = cluster.written.notified() => panic!("work waits: nothing may be written") }
}

#[tokio::test]
async fn a_window_that_opens_wakes_what_sleeps_and_keeps_it_awake() {
    let cluster = Cluster::new(0);
    let mut rig = Rig::new(&cluster, component(0, 1)).await;
    told(&rig.queues, &mut rig.changes, |reading| reading.asr.queue_depth() == 0).await;
    assert_eq!(cluster.state.lock().unwrap().patches, []);
    let window = Some(Window { schedule: "mornings".to_owned(), until: None });
    let open = Bounds { min_replicas: 3, max_replicas: 10, window, next_change: None };
    rig.scaler.set(
        &key(),
        Some(ScaleTarget { components: vec![ScaledComponent { bounds: open, ..component(0, 1) }] }),
    );
    cluster.until(|state| state.replicas == 3).await;
    let decided = async {
        while rig.scaler.decisions(&key()).is_empty() {
            rig.changes.recv().await;
        }
    };
    timeout(SOON, decided).await.expect("the decision is told");
    assert_eq!(rig.scaler.decisions(&key())[0].inputs, "minReplicas=3 schedule=mornings");
    // The window closes: what nobody uses sleeps again.
    rig.scaler.set(&key(), Some(ScaleTarget { components: vec![component(3, 1)] }));
    cluster.until(|state| state.replicas == 0).await;
}

#[tokio::test]
async fn the_emptiest_pods_go_first_and_nothing_is_written_at_rest() {
    let cluster = Cluster::new(2);
    let pod = |name: &str, cost| PodCost { name: name.to_owned(), cost };
    let pods = vec![pod("quickstart-asr-a", None), pod("quickstart-asr-b", None)];
    let mut busy = component(2, 600);
    (busy.pods, busy.bounds.min_replicas) = (pods, 1);
    let rig = Rig::new(&cluster, busy.clone()).await;
    let record = WorkerRecord {
        pod: Some("quickstart-asr-b".into()),
        active_streams: 5,
        slots: 10,
        ..WorkerRecord::ready(WorkerId::generate(), "asr")
    };
    rig.queue.heartbeat(&record, &Held::default()).await.unwrap();
    cluster.until(|state| !state.patches.is_empty()).await;
    let (path, body) = cluster.state.lock().unwrap().patches[0].clone();
    assert_eq!(path, "/api/v1/namespaces/speech/pods/quickstart-asr-b");
    assert_eq!(body["metadata"]["annotations"]["controller.kubernetes.io/pod-deletion-cost"], "8");
    // The cluster shows it, and another look finds it as it should be.
    busy.pods[1].cost = Some(8);
    rig.scaler.set(&key(), Some(ScaleTarget { components: vec![busy] }));
    rig.queues.read(&key()).await;
    assert_eq!(cluster.state.lock().unwrap().patches.len(), 1);
}
