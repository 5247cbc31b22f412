//! What stays on the way from one Redis to another, by what the cluster has.

use operator_plan::{Children, held};
use serde_json::{Value, json};

use crate::objects;

/// A Deployment: generation, observed generation, replicas, updated replicas.
type Counts = (i64, Option<i64>, i32, i32);

fn deployment(name: &str, (generation, observed, replicas, updated): Counts) -> Value {
    json!({
        "metadata": { "name": name, "generation": generation },
        "spec": { "selector": {}, "template": {} },
        "status": { "observedGeneration": observed, "replicas": replicas, "updatedReplicas": updated },
    })
}

fn pod(component: &str, deleted: bool) -> Value {
    let at = deleted.then_some("2026-11-21T00:00:00Z");
    json!({ "metadata": {
        "name": "pod", "labels": { "app.kubernetes.io/component": component }, "deletionTimestamp": at,
    }})
}

fn evicted() -> Value {
    let mut pod = pod("asr", false);
    pod["status"] = json!({ "phase": "Failed" });
    pod
}

fn children(deployments: &[Value], pods: &[Value]) -> Children {
    let read = |value: &Value| serde_json::from_value(value.clone()).expect("a Deployment");
    Children {
        deployments: deployments.iter().map(read).collect(),
        pods: pods.iter().map(|pod| serde_json::from_value(pod.clone()).expect("a pod")).collect(),
        ..Children::default()
    }
}

#[test]
fn objects_of_a_former_redis_are_held_until_the_last_pod_of_before_is_gone() {
    let done: Counts = (2, Some(2), 1, 1);
    let cases: [(&str, Counts, Counts, &[Value], bool); 12] = [
        ("both are rolled out", done, done, &[], false),
        ("the controller has not seen the change", (3, Some(2), 1, 1), done, &[], true),
        ("the controller has seen nothing yet", done, (1, None, 0, 0), &[], true),
        ("no new pod yet", done, (2, Some(2), 1, 0), &[], true),
        ("the new pod is not ready, the old one serves", (2, Some(2), 2, 1), done, &[], true),
        ("some of many", (2, Some(2), 5, 4), done, &[], true),
        ("asleep", done, (2, Some(2), 0, 0), &[], false),
        ("an old worker drains", done, done, &[pod("asr", true), pod("gateway", false)], true),
        ("all pods stay", done, done, &[pod("asr", false), pod("gateway", false)], false),
        ("Redis itself goes", done, done, &[pod("redis", true), pod("redis", false)], false),
        ("a pod is evicted", done, done, &[pod("asr", false), pod("gateway", false), evicted()], false),
        (
            "the news of the old worker's end are not here yet",
            done,
            done,
            &[pod("asr", false), pod("asr", false), pod("gateway", false)],
            true,
        ),
    ];
    for (why, gateway, worker, pods, stays) in cases {
        let deployments = [deployment("speech-gateway", gateway), deployment("speech-asr", worker)];
        let found = held("speech", &children(&deployments, pods));
        let expected: &[&str] = if stays { &["speech-redis", "speech-redis-external"] } else { &[] };
        assert_eq!(found, expected, "{why}");
    }
}

/// Every object that a deployment makes for its queue bears one of the names that are held.
#[test]
fn what_is_held_is_all_that_a_redis_consists_of() {
    let rolling = children(&[deployment("speech-asr", (2, Some(1), 1, 1))], &[]);
    let names = held("speech", &rolling);
    for case in ["objects-base", "objects-redis-embedded", "objects-redis-external"] {
        let of_redis = objects::of(case)
            .into_values()
            .filter(|object| object["metadata"]["labels"]["app.kubernetes.io/component"] == "redis");
        let of_redis: Vec<Value> = of_redis.collect();
        assert!(!of_redis.is_empty(), "{case}");
        for object in of_redis {
            let name = object["metadata"]["name"].as_str().expect("name");
            assert!(names.iter().any(|held| held == name), "{case}: {name} would go");
        }
    }
}

#[test]
fn the_way_to_a_redis_that_is_there_stays_open() {
    let base = objects::desired("objects-base");
    let former = Children { stateful_sets: base.stateful_sets.clone(), ..Children::default() };
    let mut foreign = former.clone();
    foreign.stateful_sets[0].metadata.owner_references = None;
    assert!(base.clone().with_way_to_former(&former) == base, "it is the Redis of the plan");

    let plan = objects::desired("objects-redis-external");
    assert!(plan.clone().with_way_to_former(&Children::default()) == plan, "there is none");
    assert!(plan.clone().with_way_to_former(&foreign) == plan, "it is not ours to delete");
    let open = plan.clone().with_way_to_former(&former);
    assert_eq!(open.network_policies.len(), 2);
    for (closed, open) in plan.network_policies.iter().zip(&open.network_policies) {
        let egress = |policy: &k8s_openapi::api::networking::v1::NetworkPolicy| {
            policy.spec.clone().expect("spec").egress.expect("rules")
        };
        let (mut before, after) = (egress(closed), egress(open));
        let added = after.last().expect("a rule");
        let selector = added.to.as_ref().and_then(|peers| peers[0].pod_selector.clone());
        assert_eq!(selector.as_ref(), former.stateful_sets[0].spec.as_ref().map(|spec| &spec.selector));
        before.push(added.clone());
        assert_eq!(before, after, "nothing else is opened");
    }

    let off = objects::desired("objects-network-policy-off");
    let mut without_redis = off.clone();
    without_redis.stateful_sets.clear();
    assert!(without_redis.with_way_to_former(&former).network_policies.is_empty(), "policies are off");
}
