//! News that is older than what the scaler did itself: the reconciler, woken by a decision, tells a target before the
//! watch has brought the patch.

use tokio::time::timeout;

use super::{Cluster, Rig, SOON, ScaleTarget, component, key, submit};

#[tokio::test]
async fn a_component_that_was_just_put_to_sleep_is_woken_all_the_same() {
    let cluster = Cluster::new(1);
    let mut rig = Rig::new(&cluster, component(1, 0)).await;
    cluster.until(|state| state.replicas == 0).await;
    let decided = async {
        while rig.scaler.decisions(&key()).is_empty() {
            rig.changes.recv().await;
        }
    };
    timeout(SOON, decided).await.expect("the decision is told");
    rig.scaler.set(&key(), Some(ScaleTarget { components: vec![component(1, 600)] }));
    submit(&rig.queue).await;
    cluster.until(|state| state.replicas == 1).await;
}
