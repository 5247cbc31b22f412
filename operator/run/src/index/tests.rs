//! Events in, keys to wake and what is known out.

use crds::SmallestDeployment;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    FieldsV1, ManagedFieldsEntry, ObjectMeta, OwnerReference,
};
use kube::core::{DeserializeGuard, PartialObjectMeta};
use serde_json::{Value, json};

use super::*;

fn resource(generation: i64, version: &str, extra: &Value) -> Seen {
    let mut value = json!({
        "apiVersion": "smallest.ai/v1", "kind": "SmallestDeployment",
        "metadata": {
            "name": "q", "namespace": "ns", "uid": "u1",
            "generation": generation, "resourceVersion": version,
        },
        "spec": {
            "license": { "secretRef": { "name": "license" } },
            "asr": { "models": [{ "name": "m", "url": "file:///m", "sha256": "0".repeat(64) }] },
        },
    });
    if let (Some(to), Some(from)) = (value.as_object_mut(), extra.as_object()) {
        to.extend(from.clone());
    }
    Seen::from(
        serde_json::from_value::<DeserializeGuard<SmallestDeployment>>(value).expect("metadata is read"),
    )
}

fn key() -> Key {
    Key::new("ns", "q")
}

/// An object of ours, whose fields are noted as `fields`.
fn metadata(name: &str, version: &str, fields: &str) -> ObjectMeta {
    let noted = ManagedFieldsEntry {
        manager: Some("smallest-operator".to_owned()),
        operation: Some("Apply".to_owned()),
        fields_v1: Some(FieldsV1(json!({ fields: {} }))),
        ..ManagedFieldsEntry::default()
    };
    let owner = OwnerReference { uid: "u1".to_owned(), controller: Some(true), ..OwnerReference::default() };
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some("ns".to_owned()),
        uid: Some(format!("uid-{name}")),
        resource_version: Some(version.to_owned()),
        labels: Some([(INSTANCE.to_owned(), "q".to_owned())].into()),
        managed_fields: Some(vec![noted]),
        owner_references: Some(vec![owner]),
        ..ObjectMeta::default()
    }
}

fn config_map(version: &str, fields: &str) -> ConfigMap {
    ConfigMap { metadata: metadata("c", version, fields), ..ConfigMap::default() }
}

fn deployment(version: &str, ready: i32) -> Deployment {
    let status = DeploymentStatus { ready_replicas: Some(ready), ..DeploymentStatus::default() };
    Deployment { metadata: metadata("d", version, "f"), status: Some(status), ..Deployment::default() }
}

fn secret(name: &str, version: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some("ns".to_owned()),
        resource_version: Some(version.to_owned()),
        ..ObjectMeta::default()
    }
}

/// An object is applied, and this is the answer. True when the watch told something newer meanwhile.
fn answered<O: Object>(index: &Index, answer: O) -> Answer {
    let (key, name) = Index::id(answer.meta()).expect("an object of ours");
    index.applying(&key, (O::KIND.expect("a kind"), name)).answered(answer, 7)
}

#[test]
fn of_a_pods_volumes_the_claims_are_kept() {
    let index = Index::default();
    let pod: Pod = serde_json::from_value(json!({
        "metadata": { "name": "p", "namespace": "ns", "uid": "uid-p", "labels": { (INSTANCE): "q" } },
        "spec": {
            "containers": [{ "name": "asr", "env": [{ "name": "A", "value": "b" }] }],
            "volumes": [
                { "name": "tmp", "emptyDir": {} },
                { "name": "models", "persistentVolumeClaim": { "claimName": "shared" } },
            ],
        },
    }))
    .expect("pod");
    index.put(pod);
    let spec = index.children(&key()).pods[0].spec.clone().expect("spec");
    let volumes: Vec<String> = spec.volumes.into_iter().flatten().map(|volume| volume.name).collect();
    assert_eq!(volumes, ["models"]);
    assert_eq!(spec.containers[0].env, None);
}

#[test]
fn a_resource_wakes_itself_when_its_content_changes_and_only_then() {
    let index = Index::default();
    let status = json!({ "status": { "observedGeneration": 1 } });
    assert_eq!(index.put_resource(resource(1, "10", &json!({}))), Some(key()));
    assert_eq!(index.put_resource(resource(1, "11", &json!({}))), None, "only the version is new");
    assert_eq!(index.put_resource(resource(2, "12", &json!({}))), Some(key()));
    assert_eq!(index.put_resource(resource(2, "13", &status)), Some(key()), "somebody wrote its status");
    assert_eq!(index.put_resource(resource(2, "13", &status)), None, "what an answer said before the watch");
    assert_eq!(index.put_resource(resource(1, "10", &json!({}))), None, "older than what is known");
    let resource = index.resource(&key()).expect("it is there");
    assert_eq!(resource.metadata().generation, Some(2));
}

#[test]
fn a_resource_of_another_schema_is_seen_as_such() {
    let index = Index::default();
    let odd = json!({ "spec": { "license": "a text where an object was", "asr": [] } });
    assert_eq!(index.put_resource(resource(1, "10", &odd)), Some(key()));
    let Some(Seen::Unreadable { error, metadata }) = index.resource(&key()) else { panic!("it was read") };
    assert!(!error.is_empty());
    assert_eq!(metadata.uid.as_deref(), Some("u1"));
    assert_eq!(index.put_resource(resource(1, "11", &odd)), None);
    assert_eq!(index.put_resource(resource(2, "12", &json!({}))), Some(key()), "it was corrected");
}

#[test]
fn what_was_applied_is_current_until_somebody_touches_it() {
    let index = Index::default();
    let object = (Kind::ConfigMap, "c".to_owned());
    index.put_resource(resource(1, "1", &json!({})));
    assert!(!index.is_current(&key(), &object, 7));
    answered(&index, config_map("10", "ours"));
    assert!(index.is_current(&key(), &object, 7));
    assert!(!index.is_current(&key(), &object, 8), "something else is desired");
    assert_eq!(index.put(config_map("10", "ours")), None, "the watch tells of our own change");
    assert_eq!(index.put(config_map("9", "before")), None, "the watch is behind");
    assert!(index.is_current(&key(), &object, 7));
    assert_eq!(index.put(config_map("11", "ours")), None, "somebody set a field that is not ours");
    assert!(index.is_current(&key(), &object, 7));
    assert_eq!(index.put(config_map("12", "fewer")), Some(key()), "somebody took a field from us");
    assert!(!index.is_current(&key(), &object, 7));
    answered(&index, config_map("13", "ours"));
    assert!(index.is_current(&key(), &object, 7));
    index.forget_applied();
    assert!(!index.is_current(&key(), &object, 7));
}

#[test]
fn an_object_that_was_made_again_is_not_the_one_that_was_applied() {
    let index = Index::default();
    answered(&index, config_map("10", "ours"));
    let mut other = config_map("11", "ours");
    other.metadata.uid = Some("another".to_owned());
    assert_eq!(index.put(other), Some(key()));
    assert!(!index.is_current(&key(), &(Kind::ConfigMap, "c".to_owned()), 7));
    assert_eq!(index.remove(&config_map("12", "ours")), None, "late news of the former one");
    assert_eq!(index.owned(&key()).len(), 1);
}

#[test]
fn status_of_an_object_wakes_when_what_status_reads_changed() {
    let index = Index::default();
    index.put_resource(resource(1, "1", &json!({})));
    assert_eq!(index.put(deployment("10", 0)), Some(key()));
    assert_eq!(index.put(deployment("11", 0)), None);
    assert_eq!(index.put(deployment("12", 1)), Some(key()));
    assert_eq!(index.put(deployment("11", 0)), None, "late news");
    let children = index.children(&key());
    let status = children.deployments[0].status.as_ref().expect("status");
    assert_eq!(status.ready_replicas, Some(1));
    assert_eq!(children.deployments[0].metadata.managed_fields, None, "nobody reads it");
    assert_eq!(index.remove(&deployment("13", 1)), Some(key()));
    assert!(index.children(&key()).deployments.is_empty());
}

#[test]
fn a_secret_wakes_who_names_it() {
    let index = Index::default();
    assert!(index.put_secret(&secret("license", "1")).is_empty(), "nobody names it yet");
    index.put_resource(resource(1, "1", &json!({})));
    assert!(index.put_secret(&secret("license", "1")).is_empty(), "nothing new");
    assert_eq!(index.put_secret(&secret("license", "2")), [key()]);
    assert!(index.put_secret(&secret("other", "1")).is_empty());
    assert_eq!(index.secret_version("ns", "license").as_deref(), Some("2"));
    assert_eq!(index.remove_secret(&secret("license", "3")), [key()]);
    assert_eq!(index.secret_version("ns", "license"), None);
    assert!(index.is_named("ns", "license") && !index.is_named("ns", "other"));
}

#[test]
fn what_a_new_list_does_not_name_is_gone() {
    let index = Index::default();
    index.put_resource(resource(1, "1", &json!({})));
    index.put(config_map("2", "f"));
    index.put(deployment("3", 1));
    index.put_secret(&secret("license", "4"));
    let mut named = Relist::default();
    named.add(key(), "c".to_owned());
    assert!(index.retain::<ConfigMap>(&named).is_empty());
    assert_eq!(index.retain::<ConfigMap>(&Relist::default()), [key()]);
    assert_eq!(index.retain::<Deployment>(&Relist::default()), [key()]);
    assert_eq!(index.retain_secrets(&Relist::default()), [key()]);
    assert_eq!(index.retain_resources(&Relist::default()), [key()]);
    assert!(index.resource(&key()).is_none());
    assert!(index.keys().is_empty(), "nothing is remembered of it");
}

#[test]
fn a_secret_of_ours_is_known_at_once_when_it_was_made() {
    let index = Index::default();
    index.put_resource(resource(1, "1", &json!({})));
    answered(&index, Secret { metadata: metadata("q-redis", "5", "f"), ..Secret::default() });
    assert_eq!(index.secret_version("ns", "q-redis").as_deref(), Some("5"));
    let seen = PartialObjectMeta::<Secret> { metadata: metadata("q-redis", "5", "f"), ..Default::default() };
    assert_eq!(index.put(seen), None);
    index.retain_secrets(&Relist::default());
    assert!(index.owned(&key()).is_empty());
}

#[test]
fn what_is_left_of_a_deleted_resource_is_kept_until_it_is_gone_too() {
    let index = Index::default();
    let seen = resource(1, "1", &json!({}));
    let metadata = seen.metadata().clone();
    index.put_resource(seen);
    index.put(deployment("3", 1));
    assert_eq!(index.remove_resource(&metadata), Some(key()));
    assert!(index.resource(&key()).is_none());
    assert_eq!(index.keys(), [key()]);
    assert_eq!(index.remove(&deployment("4", 1)), Some(key()));
    assert!(index.keys().is_empty());
}

#[test]
fn news_of_what_is_being_applied_waits_for_the_answer() {
    let (index, key) = (Index::default(), key());
    let object = (Kind::ConfigMap, "c".to_owned());
    let flight = index.applying(&key, object.clone());
    assert_eq!(index.put(config_map("10", "ours")), None, "the watch is faster than the answer");
    assert_eq!(index.put(deployment("11", 0)), Some(key.clone()), "this one is not being applied");
    assert_eq!(flight.answered(config_map("10", "ours"), 7), Answer::Newest, "it was our own write");
    assert!(index.is_current(&key, &object, 7));

    let flight = index.applying(&key, object.clone());
    assert_eq!(index.put(config_map("13", "theirs")), None);
    let answer = flight.answered(config_map("12", "ours"), 7);
    assert_eq!(answer, Answer::Overtaken, "somebody wrote it after us");
    assert!(!index.is_current(&key, &object, 7), "and it will be applied again");
    assert_eq!(index.put(config_map("14", "ours")), Some(key.clone()), "nothing waits any more");

    drop(index.applying(&key, object));
    assert_eq!(
        index.put(config_map("15", "theirs")),
        Some(key.clone()),
        "nor after a call without an answer"
    );
}

#[test]
fn news_of_a_status_that_is_being_written_waits_for_the_answer() {
    let (index, key) = (Index::default(), key());
    let status = |replicas: i32| json!({ "status": { "observedGeneration": replicas } });
    index.put_resource(resource(1, "10", &json!({})));
    let flight = index.reporting(&key);
    assert_eq!(
        index.put_resource(resource(1, "11", &status(1))),
        None,
        "the watch is faster than the answer"
    );
    assert_eq!(flight.answered(resource(1, "11", &status(1))), Answer::Newest);

    let flight = index.reporting(&key);
    assert_eq!(index.put_resource(resource(1, "13", &status(3))), None);
    let answer = flight.answered(resource(1, "12", &status(2)));
    assert_eq!(answer, Answer::Overtaken, "somebody wrote it after us");

    let flight = index.reporting(&key);
    assert_eq!(index.put_resource(resource(2, "14", &status(3))), Some(key.clone()), "a spec is never ours");
    drop(flight);
    assert_eq!(
        index.put_resource(resource(2, "15", &status(4))),
        Some(key.clone()),
        "nothing waits any more"
    );
}
