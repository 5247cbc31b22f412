//! The external metrics as they are served: of the deployment, component and namespace that are named, and of no other.

use operator_metrics::{MetricError, MetricSource as _, Selector};
use operator_plan::scale::Metric;
use queue::testing::RedisServer;

use super::{QueueTarget, Queues, key, queue_on, submit, target, told};

#[tokio::test]
async fn metrics_are_those_of_the_deployment_that_is_named() {
    let server = RedisServer::start().unwrap();
    let queue = queue_on(&server).await;
    let (queues, mut changes) = Queues::new();
    queues.set(&key(), Some(target(&server.url())));
    submit(&queue).await;
    told(&queues, &mut changes, |reading| reading.asr.batch_queue_depth == 1).await;
    let ask = async |namespace: &str, metric: &str, selector: &str| {
        let selector: Selector = selector.parse().unwrap();
        queues.values(namespace, metric, &selector).await.map(|values| {
            values.iter().map(|value| (value.labels["component"].clone(), value.milli)).collect::<Vec<_>>()
        })
    };
    let one = Ok(vec![("asr".to_owned(), 1_000)]);
    assert_eq!(ask("speech", "smallest_queue_depth", "deployment=quickstart,component=asr").await, one);
    assert_eq!(ask("speech", "smallest_queue_depth", "").await, one, "a gateway has no queue");
    let both = ask("speech", "smallest_load", "deployment=quickstart").await.unwrap();
    assert_eq!(both, [("asr".to_owned(), 1_000), ("gateway".to_owned(), 0)]);
    for (namespace, metric, selector) in [
        ("other", "smallest_load", ""),
        ("speech", "smallest_nothing", ""),
        ("speech", "smallest_load", "deployment=other"),
        ("speech", "smallest_queue_depth", "component=gateway"),
    ] {
        let refused = ask(namespace, metric, selector).await;
        assert!(
            matches!(refused, Err(MetricError::NotFound(_))),
            "{namespace} {metric} {selector}: {refused:?}"
        );
    }
    queues.set(&key(), Some(QueueTarget { up: false, ..target(&server.url()) }));
    let refused = ask("speech", "smallest_load", "deployment=quickstart,component=asr").await;
    assert!(matches!(refused, Err(MetricError::Unavailable { reason: "RedisNotReady", .. })), "{refused:?}");
}

#[test]
fn every_metric_is_served() {
    let (queues, _changes) = Queues::new();
    let names = queues.names();
    assert_eq!(names.len(), Metric::ALL.len());
    assert!(Metric::ALL.into_iter().all(|metric| names.contains(&metric.name())));
}
