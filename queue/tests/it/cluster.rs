//! What only a Redis Cluster can do: move a slot under a queue that is at work.

use bytes::Bytes;
use queue::ids::{GatewayId, WorkerId};
use queue::port::{GatewayPort, WorkerPort};
use queue::session::ToGateway;
use queue::testing::RedisCluster;

use crate::rig::{SOON, connect, job, limits, success};

#[tokio::test]
async fn a_slot_that_moves_takes_its_queue_along() {
    let cluster = RedisCluster::start().unwrap();
    let queue = connect(&cluster.url(), "default/one", limits()).await;
    let (gateway, worker) = (GatewayId::generate(), WorkerId::generate());
    let waiting = job(&gateway);
    queue.submit(&waiting, Bytes::from_static(b"sound")).await.unwrap();
    // It waits at the old node while the slot moves.
    let inbox = tokio::spawn({
        let (queue, gateway) = (queue.clone(), gateway.clone());
        async move { GatewayPort::receive(&queue, &gateway, SOON * 3).await }
    });
    let _cluster =
        tokio::task::spawn_blocking(move || cluster.move_slot_of("{default/one}").map(|()| cluster))
            .await
            .unwrap()
            .unwrap();
    let claimed = queue.claim_jobs(&worker, 1, SOON).await.unwrap();
    assert_eq!(claimed.iter().map(|c| &c.job).collect::<Vec<_>>(), [&waiting], "accepted work came along");
    queue.complete(&worker, &claimed[0], success(&waiting, "hello")).await.unwrap();
    let told = tokio::time::timeout(SOON * 2, inbox).await.unwrap().unwrap().unwrap();
    assert_eq!(told, [ToGateway::Batch(success(&waiting, "hello"))]);
}
