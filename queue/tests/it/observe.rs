//! Cases of the observer: what it sees, and what wakes it.

use std::time::Duration;

use queue::ids::{GatewayId, WorkerId};
use queue::observe::ObserverPort;
use queue::port::{
    Depth, GatewayPort as _, GatewayRecord, Held, LicenseRecord, QueueError, QueueLimits, WorkerPhase,
    WorkerPort, WorkerRecord,
};
use queue::redis::{ObserverConfig, RedisObserver, Timeouts};
use queue::testing::RedisServer;

use crate::rig::{Kind, LEASE, NOTHING, Rig, SOON, connect, contract, limits, of_job, record};

contract!(
    both_lines_and_both_registers_are_seen_at_once,
    a_worker_is_seen_from_the_start_of_its_program,
    work_that_waits_already_is_told_at_once,
    queued_work_wakes_whoever_waits,
    a_job_wakes_like_a_session,
    nothing_new_is_nothing_until_the_wait_runs_out,
    a_changed_registration_is_news_and_an_unchanged_one_is_none,
    a_claim_that_lapses_waits_again,
);

fn starting(worker: &WorkerId) -> WorkerRecord {
    WorkerRecord {
        phase: WorkerPhase::Downloading,
        message: Some("model.safetensors: 40 %".into()),
        pod: Some("quickstart-asr-0".into()),
        license: Some(LicenseRecord {
            state: "GracePeriod".into(),
            message: None,
            expires_at_ms: Some(1_800_000_000_000),
        }),
        ..WorkerRecord::starting(worker.clone(), "asr")
    }
}

async fn both_lines_and_both_registers_are_seen_at_once(kind: Kind) {
    let rig = Rig::new(kind).await;
    let (gateway, worker) = (GatewayId::generate(), WorkerId::generate());
    let mut of_gateway = GatewayRecord::idle(gateway.clone());
    (of_gateway.active_streams, of_gateway.pod) = (3, Some("quickstart-gateway-0".into()));
    rig.gateway.heartbeat_gateway(&of_gateway).await.unwrap();
    rig.submit(&gateway).await;
    let held = rig.claim_job(&worker).await;
    rig.beat(&worker, of_job(&held)).await;
    rig.submit(&gateway).await;
    rig.open(&gateway).await;
    let sight = rig.observer.observe().await.unwrap();
    let [asr] = sight.components.as_slice() else { panic!("one component: {sight:?}") };
    assert_eq!((asr.component, asr.depth.batch, asr.depth.sessions), ("asr", 1, 1));
    assert_eq!((asr.held_jobs, asr.held_sessions), (1, 0));
    assert_eq!(
        (asr.workers.as_slice(), asr.gateways.as_slice()),
        ([record(&worker)].as_slice(), [of_gateway].as_slice())
    );
    // A claim counts at once, without a word of its worker.
    rig.claim_session(&worker).await;
    let sight = rig.observer.observe().await.unwrap();
    let asr = &sight.components[0];
    assert_eq!((asr.depth.sessions, asr.held_jobs, asr.held_sessions), (0, 1, 1));
}

async fn a_worker_is_seen_from_the_start_of_its_program(kind: Kind) {
    let rig = Rig::new(kind).await;
    let worker = WorkerId::generate();
    rig.worker.heartbeat(&starting(&worker), &Held::default()).await.unwrap();
    let sight = rig.observer.observe().await.unwrap();
    assert_eq!(sight.components[0].workers, [starting(&worker)]);
    assert!(!rig.gateway.workers().await.unwrap()[0].takes_work());
}

async fn work_that_waits_already_is_told_at_once(kind: Kind) {
    let rig = Rig::new(kind).await;
    rig.open(&GatewayId::generate()).await;
    let depth = tokio::time::timeout(SOON / 2, rig.observer.wait_for_work(SOON)).await.unwrap().unwrap();
    assert_eq!((depth.batch, depth.sessions), (0, 1));
}

async fn queued_work_wakes_whoever_waits(kind: Kind) {
    let rig = Rig::new(kind).await;
    let gateway = GatewayId::generate();
    let (depth, ()) = tokio::join!(rig.observer.wait_for_work(SOON), async {
        // The line exists only now: waiting for a stream that is not there must work too.
        rig.open(&gateway).await;
    });
    assert_eq!(depth.unwrap().sessions, 1);
}

async fn a_job_wakes_like_a_session(kind: Kind) {
    let rig = Rig::new(kind).await;
    let mark = rig.observer.observe().await.unwrap().mark;
    let gateway = GatewayId::generate();
    let (woken, _) = tokio::join!(rig.observer.changed(&mark, SOON), rig.submit(&gateway));
    assert!(woken.unwrap());
}

async fn nothing_new_is_nothing_until_the_wait_runs_out(kind: Kind) {
    let rig = Rig::new(kind).await;
    assert_eq!(rig.observer.wait_for_work(NOTHING).await.unwrap(), Depth::default());
    rig.submit(&GatewayId::generate()).await;
    let mark = rig.observer.observe().await.unwrap().mark;
    assert!(!rig.observer.changed(&mark, NOTHING).await.unwrap(), "what waits already is no news");
}

async fn a_changed_registration_is_news_and_an_unchanged_one_is_none(kind: Kind) {
    // A long lease: the record must not lapse between two heartbeats of a busy machine.
    let rig = Rig::with(kind, QueueLimits { lease: SOON, ..limits() }).await;
    let worker = WorkerId::generate();
    let news = async |mark| rig.observer.changed(&mark, NOTHING).await.unwrap();
    let look = async || rig.observer.observe().await.unwrap().mark;
    let mark = look().await;
    rig.worker.heartbeat(&starting(&worker), &Held::default()).await.unwrap();
    assert!(news(mark).await, "a new worker is news");
    let mark = look().await;
    rig.worker.heartbeat(&starting(&worker), &Held::default()).await.unwrap();
    assert!(!news(mark).await, "the same heartbeat is none");
    let mark = look().await;
    rig.beat(&worker, Held::default()).await;
    assert!(news(mark).await, "another phase is news");
    let mark = look().await;
    rig.worker.unregister(&worker).await.unwrap();
    assert!(news(mark).await, "its end is news");
    let (mark, gateway) = (look().await, GatewayRecord::idle(GatewayId::generate()));
    rig.gateway.heartbeat_gateway(&gateway).await.unwrap();
    assert!(news(mark).await, "a new gateway is news");
    let mark = look().await;
    rig.gateway.heartbeat_gateway(&gateway).await.unwrap();
    assert!(!news(mark).await, "its next heartbeat is none");
}

async fn a_claim_that_lapses_waits_again(kind: Kind) {
    let rig = Rig::new(kind).await;
    rig.submit(&GatewayId::generate()).await;
    rig.claim_job(&WorkerId::generate()).await;
    let mut look = tokio::time::interval(LEASE / 10);
    let lapsed = async {
        loop {
            let sight = rig.observer.observe().await.unwrap();
            let asr = &sight.components[0];
            assert_eq!(asr.depth.batch + asr.held_jobs, 1, "a job waits or is held");
            if asr.held_jobs == 0 {
                return;
            }
            look.tick().await;
        }
    };
    tokio::time::timeout(SOON, lapsed).await.expect("a claim without heartbeats lapses");
}

/// Only on Redis: in memory every queue is one component.
#[tokio::test]
async fn one_observer_sees_several_components_of_its_deployment_and_no_other() {
    let server = RedisServer::start().unwrap();
    let config = |deployment: &str| ObserverConfig {
        url: server.url(),
        root_certificates: None,
        deployment: deployment.to_owned(),
        components: vec!["asr", "tts"],
        limits: limits(),
        timeouts: Timeouts::default(),
    };
    let one = RedisObserver::connect(&config("default/one")).await.unwrap();
    let other = RedisObserver::connect(&config("default/other")).await.unwrap();
    let tts = connect_tts(&server.url()).await;
    let (worker, mark) = (WorkerId::generate(), other.observe().await.unwrap().mark);
    tts.heartbeat(&record(&worker), &Held::default()).await.unwrap();
    let sight = one.observe().await.unwrap();
    let workers = sight.components.iter().map(|c| (c.component, c.workers.len())).collect::<Vec<_>>();
    assert_eq!(workers, [("asr", 0), ("tts", 1)]);
    assert!(!other.changed(&mark, NOTHING).await.unwrap(), "another deployment's worker is no news");
    assert!(other.observe().await.unwrap().components.iter().all(|c| c.workers.is_empty()));
}

/// Only on Redis.
#[tokio::test]
async fn a_gateway_is_seen_by_every_component_that_it_may_send_work() {
    let server = RedisServer::start().unwrap();
    let (asr, tts) =
        (connect(&server.url(), "default/one", limits()).await, connect_tts(&server.url()).await);
    let config = ObserverConfig {
        url: server.url(),
        root_certificates: None,
        deployment: "default/one".to_owned(),
        components: vec!["asr", "tts"],
        limits: limits(),
        timeouts: Timeouts::default(),
    };
    let observer = RedisObserver::connect(&config).await.unwrap();
    let seen = async || {
        let sight = observer.observe().await.unwrap();
        sight.components.iter().map(|component| component.gateways.len()).collect::<Vec<_>>()
    };
    let gateway = GatewayRecord::idle(GatewayId::generate());
    asr.heartbeat_gateway(&gateway).await.unwrap();
    assert_eq!(seen().await, [1, 0]);
    assert!(!tts.gateway_alive(&gateway.id).await.unwrap());
    let asr = asr.beside("default/one", &["tts"]).unwrap();
    asr.heartbeat_gateway(&gateway).await.unwrap();
    assert_eq!(seen().await, [1, 1]);
    assert!(tts.gateway_alive(&gateway.id).await.unwrap(), "its workers answer it");
}

async fn connect_tts(url: &str) -> queue::redis::RedisQueue {
    let config =
        queue::redis::RedisConfig { component: "tts", ..crate::rig::config(url, "default/one", limits()) };
    queue::redis::RedisQueue::connect(&config).await.unwrap()
}

/// Only on Redis.
#[tokio::test]
async fn an_outage_is_an_error_and_not_an_empty_queue() {
    let server = RedisServer::start().unwrap();
    let queue = connect(&server.url(), "default/one", limits()).await;
    let patience = Duration::from_millis(200);
    let config = ObserverConfig {
        url: server.url(),
        root_certificates: None,
        deployment: "default/one".to_owned(),
        components: vec!["asr"],
        limits: limits(),
        timeouts: Timeouts { connect: patience, response: patience, retry_for: Duration::ZERO },
    };
    let observer = RedisObserver::connect(&config).await.unwrap();
    let mark = observer.observe().await.unwrap().mark;
    drop((queue, server));
    let (seen, woken) = (observer.observe().await, observer.changed(&mark, SOON).await);
    assert!(matches!(seen, Err(QueueError::Unavailable { .. })), "{seen:?}");
    assert!(matches!(woken, Err(QueueError::Unavailable { .. })), "{woken:?}");
    assert!(RedisObserver::connect(&config).await.is_err());
}
