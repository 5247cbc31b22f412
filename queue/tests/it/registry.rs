//! Cases of registrations and of deployments side by side.

use queue::ids::{GatewayId, WorkerId};
use queue::port::{GatewayPort, GatewayRecord, Held, WorkerPort};
use queue::testing::RedisServer;

use crate::rig::{Kind, LEASE, NOTHING, Rig, SOON, connect, contract, job, limits, of_job, record, session};

contract!(
    a_worker_is_listed_while_its_heart_beats,
    an_unregistered_worker_is_gone_at_once,
    a_gateway_is_alive_while_it_reads,
    claims_of_strangers_are_lost,
    an_unregistered_workers_claims_are_not_lost_to_the_world,
);

async fn a_worker_is_listed_while_its_heart_beats(kind: Kind) {
    let rig = Rig::new(kind).await;
    let (a, b) = (WorkerId::generate(), WorkerId::generate());
    assert_eq!(rig.gateway.workers().await.unwrap(), []);
    rig.beat(&b, Held::default()).await;
    rig.beat(&a, Held::default()).await;
    assert_eq!(rig.gateway.workers().await.unwrap(), [record(&a), record(&b)]);
    let mut look = tokio::time::interval(LEASE / 10);
    let only_a = async {
        while rig.gateway.workers().await.unwrap() != [record(&a)] {
            look.tick().await;
            rig.beat(&a, Held::default()).await;
        }
    };
    tokio::time::timeout(SOON, only_a).await.expect("a silent worker is gone after its lease");
}

async fn an_unregistered_worker_is_gone_at_once(kind: Kind) {
    let rig = Rig::new(kind).await;
    let worker = WorkerId::generate();
    rig.beat(&worker, Held::default()).await;
    rig.worker.unregister(&worker).await.unwrap();
    assert_eq!(rig.gateway.workers().await.unwrap(), []);
    rig.worker.unregister(&worker).await.unwrap();
}

async fn a_gateway_is_alive_while_it_reads(kind: Kind) {
    let rig = Rig::new(kind).await;
    let gateway = GatewayId::generate();
    assert!(!rig.worker.gateway_alive(&gateway).await.unwrap());
    rig.gateway.heartbeat_gateway(&GatewayRecord::idle(gateway.clone())).await.unwrap();
    assert!(rig.worker.gateway_alive(&gateway).await.unwrap());
    assert!(rig.gateway.receive(&gateway, LEASE * 4).await.unwrap().is_empty());
    assert!(rig.worker.gateway_alive(&gateway).await.unwrap(), "one long read keeps it alive");
    let mut look = tokio::time::interval(LEASE / 10);
    let gone = async {
        while rig.worker.gateway_alive(&gateway).await.unwrap() {
            look.tick().await;
        }
    };
    tokio::time::timeout(SOON, gone).await.expect("a silent gateway is gone after some leases");
}

async fn claims_of_strangers_are_lost(kind: Kind) {
    let rig = Rig::new(kind).await;
    let (gateway, worker) = (GatewayId::generate(), WorkerId::generate());
    rig.submit(&gateway).await;
    let mine = rig.claim_job(&worker).await;
    let held = Held {
        jobs: vec!["1-1".into(), mine.claim.clone(), "nonsense".into()],
        sessions: vec!["nonsense".into(), "2-2/ses-unknown".into()],
    };
    let lost = rig.beat(&worker, held).await;
    assert_eq!(lost.jobs, ["1-1", "nonsense"]);
    let mut sessions = lost.sessions;
    sessions.sort();
    assert_eq!(sessions, ["2-2/ses-unknown", "nonsense"]);
}

async fn an_unregistered_workers_claims_are_not_lost_to_the_world(kind: Kind) {
    let rig = Rig::new(kind).await;
    let (gateway, a, b) = (GatewayId::generate(), WorkerId::generate(), WorkerId::generate());
    let job = rig.submit(&gateway).await;
    let claimed = rig.claim_job(&a).await;
    rig.beat(&a, of_job(&claimed)).await;
    rig.worker.unregister(&a).await.unwrap();
    assert_eq!(rig.claim_job(&b).await.job, job);
}

/// Only on Redis: in memory every queue is a deployment of its own.
#[tokio::test]
async fn two_deployments_never_see_each_others_work() {
    let server = RedisServer::start().unwrap();
    let one = connect(&server.url(), "default/one", limits()).await;
    let two = connect(&server.url(), "default/two", limits()).await;
    let (gateway, worker) = (GatewayId::generate(), WorkerId::generate());
    let work = job(&gateway);
    one.submit(&work, bytes::Bytes::from_static(b"sound")).await.unwrap();
    one.open_session(&session(&gateway)).await.unwrap();
    one.heartbeat(&record(&worker), &Held::default()).await.unwrap();
    assert_eq!(two.claim_jobs(&worker, 1, NOTHING).await.unwrap(), []);
    assert_eq!(two.claim_sessions(&worker, 1, NOTHING).await.unwrap(), []);
    assert_eq!(two.workers().await.unwrap(), []);
    assert_eq!(two.audio(&work.id).await.unwrap(), None);
    assert_eq!(GatewayPort::depth(&two).await.unwrap(), queue::port::Depth::default());
    assert!(!two.gateway_alive(&gateway).await.unwrap());
    assert_eq!(one.claim_jobs(&worker, 1, SOON).await.unwrap().len(), 1);
}
