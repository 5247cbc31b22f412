//! Pods that run, of whom nobody is registered: what they hold is not known, and nobody takes them for idle.

use std::collections::BTreeMap;
use std::time::Duration;

use operator_metrics::{MetricError, MetricSource as _, Selector};
use operator_plan::ComponentKind;
use queue::ids::WorkerId;
use queue::port::{Held, WorkerPort as _, WorkerRecord};
use queue::testing::RedisServer;

use super::{Cluster, QueueTarget, Queues, Rig, ScaleTarget, component, key, queue_on, target, told};

/// A queue in which two workers should be registered.
fn two_started(url: &str) -> QueueTarget {
    QueueTarget { started: BTreeMap::from([(ComponentKind::Asr, 2)]), ..target(url) }
}

#[tokio::test]
async fn what_they_hold_is_no_zero() {
    let server = RedisServer::start().unwrap();
    let queue = queue_on(&server).await;
    let (queues, mut changes) = Queues::new();
    queues.set(&key(), Some(target(&server.url())));
    told(&queues, &mut changes, |reading| reading.asr.workers.is_empty()).await;
    let load = async || {
        let selector: Selector = "deployment=quickstart,component=asr".parse().unwrap();
        let values = queues.values("speech", "smallest_load", &selector).await;
        values.map(|values| values[0].milli)
    };
    assert_eq!(load().await, Ok(0), "none has started");
    queues.set(&key(), Some(two_started(&server.url())));
    let unknown = load().await;
    assert!(
        matches!(unknown, Err(MetricError::Unavailable { reason: "NobodyRegistered", .. })),
        "{unknown:?}"
    );
    let worker = WorkerRecord::ready(WorkerId::generate(), "asr");
    queue.heartbeat(&worker, &Held::default()).await.unwrap();
    told(&queues, &mut changes, |reading| !reading.asr.workers.is_empty()).await;
    assert_eq!(load().await, Ok(0), "it says that it holds nothing");
}

#[tokio::test]
async fn they_are_not_put_to_sleep() {
    let cluster = Cluster::new(2);
    let mut rig = Rig::new(&cluster, super::ScaledComponent { replicas: None, ..component(2, 0) }).await;
    rig.queues.set(&key(), Some(two_started(&rig.server.url())));
    told(&rig.queues, &mut rig.changes, |reading| reading.asr.workers.is_empty()).await;
    rig.scaler.set(&key(), Some(ScaleTarget { components: vec![component(2, 0)] }));
    let long = tokio::time::sleep(Duration::from_millis(500));
    tokio::select! { () = long => {}, () = cluster.written.notified() => panic!("nobody knows whether they work") }
    let worker = WorkerRecord::ready(WorkerId::generate(), "asr");
    rig.queue.heartbeat(&worker, &Held::default()).await.unwrap();
    cluster.until(|state| state.replicas == 0).await;
}
