//! A Redis that answers too late: whoever asks is told at once, a status only when it lasts.

use operator_plan::QueueView;
use queue::testing::RedisServer;
use tokio::task::yield_now;
use tokio::time::timeout;

use super::{Queues, SOON, key, target, told};

/// Asks until the answer is right; a view of the last moments is given without asking.
async fn ask(queues: &Queues, right: impl Fn(&QueueView) -> bool) {
    let asked = async {
        while !right(&queues.read(&key()).await) {
            yield_now().await;
        }
    };
    timeout(SOON, asked).await.expect("the answer changes");
}

fn too_slow(view: &QueueView) -> bool {
    matches!(view, QueueView::Unavailable { reason: "QueueTooSlow", .. })
}

#[tokio::test]
async fn one_slow_answer_is_not_yet_a_redis_that_is_away() {
    let server = RedisServer::start().unwrap();
    let (queues, mut changes) = Queues::new();
    queues.set(&key(), Some(target(&server.url())));
    told(&queues, &mut changes, |reading| reading.asr.queue_depth() == 0).await;
    server.pause();
    ask(&queues, too_slow).await;
    assert!(
        matches!(queues.last(&key()), QueueView::Read(_)),
        "a moment of a busy machine shows in no status"
    );
    assert!(too_slow(&queues.read(&key()).await));
    assert!(too_slow(&queues.last(&key())), "what lasts does");
    server.resume();
    ask(&queues, |view| matches!(view, QueueView::Read(_))).await;
    assert!(matches!(queues.last(&key()), QueueView::Read(_)));
}
