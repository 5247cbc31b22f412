//! What the apiserver notes of the fields that we set: `metadata.managedFields`, one entry for each manager and way of
//! writing. What was made by POST bears an entry of the way `Update`, what was applied one of the way `Apply`. Pure.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry, ObjectMeta};
use serde_json::Value;

use crate::apply::FIELD_MANAGER;

const APPLY: &str = "Apply";
const UPDATE: &str = "Update";
/// What says which object it is: nobody's field.
const IDENTITY: [&str; 2] = ["apiVersion", "kind"];
const NAMED: [&str; 2] = ["name", "namespace"];

/// Fingerprint of what the apiserver notes about the fields that we set. When anybody else changes or removes
/// one of them, it is not ours any more, and the note changes; when we do, its time does.
pub(super) fn fingerprint(metadata: &ObjectMeta) -> u64 {
    let mut hasher = DefaultHasher::new();
    for entry in ours(metadata) {
        entry.operation.hash(&mut hasher);
        entry.time.as_ref().map(|time| time.0).hash(&mut hasher);
        entry.fields_v1.as_ref().map(|fields| fields.0.to_string()).hash(&mut hasher);
    }
    hasher.finish()
}

/// Is `spec.replicas` among the fields that we set?
pub(super) fn has_replicas(metadata: &ObjectMeta) -> bool {
    let mut fields = ours(metadata).filter_map(|entry| entry.fields_v1.as_ref());
    fields.any(|fields| fields.0["f:spec"].get("f:replicas").is_some())
}

/// Did we set any field?
pub(crate) fn is_noted(metadata: &ObjectMeta) -> bool {
    ours(metadata).next().is_some()
}

/// Does an entry hold what we made the object with? It would hold for ever what is applied no more.
pub(super) fn is_made(metadata: &ObjectMeta) -> bool {
    ours(metadata).any(|entry| is(entry, UPDATE))
}

/// Is what we made the object with every field of what is wanted? A field that somebody changed or removed meanwhile is
/// not ours any more, so what is named is as it was made.
pub(crate) fn made_with(metadata: &ObjectMeta, wanted: &Value) -> bool {
    let entry = ours(metadata).find(|entry| is(entry, UPDATE));
    let Some(FieldsV1(noted)) = entry.and_then(|entry| entry.fields_v1.as_ref()) else { return false };
    let mut wanted =
        wanted.as_object().into_iter().flatten().filter(|(field, _)| !IDENTITY.contains(&field.as_str()));
    wanted.all(|(field, wanted)| match (field.as_str(), wanted) {
        ("metadata", Value::Object(metadata)) => {
            let mut fields = metadata.iter().filter(|(field, _)| !NAMED.contains(&field.as_str()));
            fields.all(|(field, wanted)| covers_field(&noted["f:metadata"], field, wanted))
        }
        _ => covers_field(noted, field, wanted),
    })
}

fn covers_field(noted: &Value, field: &str, wanted: &Value) -> bool {
    wanted.is_null() || noted.get(format!("f:{field}")).is_some_and(|noted| covers(noted, wanted))
}

/// Sets of fields say themselves which lists are one field and which are told item by item: by keys or by values.
fn covers(noted: &Value, wanted: &Value) -> bool {
    let Some(set) = noted.as_object() else { return false };
    if set.is_empty() {
        return true;
    }
    match wanted {
        Value::Object(fields) => fields.iter().all(|(field, wanted)| covers_field(noted, field, wanted)),
        Value::Array(items) => {
            let has =
                |item: &Value| set.iter().any(|(name, below)| is_name_of(name, item) && covers(below, item));
            items.iter().all(has)
        }
        _ => false,
    }
}

/// `k:{"port":80,"protocol":"TCP"}` or `v:"value"`. Where the key has a default, who wants the item need not say it.
fn is_name_of(name: &str, item: &Value) -> bool {
    let (Some(kind), Some(value)) = (name.get(..2), name.get(2..)) else { return false };
    match (kind, serde_json::from_str(value)) {
        ("k:", Ok(Value::Object(keys))) => {
            keys.iter().all(|(key, value)| item.get(key).is_none_or(|said| said == value))
        }
        ("v:", Ok(value)) => *item == value,
        _ => false,
    }
}

/// All entries, with what we made the object with as if we had applied it; nothing where that is so already.
pub(crate) fn as_applied(metadata: &ObjectMeta) -> Option<Vec<ManagedFieldsEntry>> {
    if !is_made(metadata) {
        return None;
    }
    let entries = metadata.managed_fields.iter().flatten().cloned();
    let (ours, mut all): (Vec<_>, Vec<_>) = entries.partition(is_ours);
    // One that is there already stays, with its time; of one manager the apiserver takes only one of a way.
    let (applied, made): (Vec<_>, Vec<_>) = ours.into_iter().partition(|entry| is(entry, APPLY));
    let united = applied.into_iter().chain(made).reduce(|mut united, entry| {
        unite(&mut united, entry);
        united
    });
    all.extend(united.map(|entry| ManagedFieldsEntry { operation: Some(APPLY.to_owned()), ..entry }));
    Some(all)
}

fn unite(into: &mut ManagedFieldsEntry, entry: ManagedFieldsEntry) {
    match (&mut into.fields_v1, entry.fields_v1) {
        (Some(FieldsV1(into)), Some(FieldsV1(fields))) => add(into, fields),
        (Some(_), None) => {}
        (none, fields) => *none = fields,
    }
}

/// Sets of fields are trees without values: what is in either is in both together.
fn add(into: &mut Value, fields: Value) {
    let (Value::Object(into), Value::Object(fields)) = (into, fields) else { return };
    for (name, below) in fields {
        match into.get_mut(&name) {
            Some(known) => add(known, below),
            None => drop(into.insert(name, below)),
        }
    }
}

fn ours(metadata: &ObjectMeta) -> impl Iterator<Item = &ManagedFieldsEntry> {
    metadata.managed_fields.iter().flatten().filter(|entry| is_ours(entry))
}

fn is_ours(entry: &ManagedFieldsEntry) -> bool {
    entry.manager.as_deref() == Some(FIELD_MANAGER) && entry.subresource.is_none()
}

fn is(entry: &ManagedFieldsEntry, way: &str) -> bool {
    entry.operation.as_deref() == Some(way)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn noted(entries: &Value) -> ObjectMeta {
        serde_json::from_value(json!({ "managedFields": entries })).expect("metadata")
    }

    fn converted(metadata: &ObjectMeta) -> Value {
        serde_json::to_value(as_applied(metadata)).expect("entries")
    }

    #[test]
    fn what_it_was_made_with_counts_as_applied() {
        let entry = |way: &str, fields: Value| json!({ "manager": "smallest-operator", "operation": way, "time": "2026-11-27T10:00:00Z", "fieldsV1": fields });
        let theirs = json!({ "manager": "kubectl-edit", "operation": "Update", "fieldsV1": { "f:data": { "f:b": {} } } });
        let of_status =
            json!({ "manager": "smallest-operator", "operation": "Update", "subresource": "status" });
        let fields = json!({ "f:data": { ".": {}, "f:a": {} } });

        let made = noted(&json!([entry("Update", fields.clone()), theirs, of_status]));
        assert!(is_made(&made));
        assert_eq!(converted(&made), json!([theirs, of_status, entry("Apply", fields.clone())]));

        let more = json!({ "f:data": { "f:b": {} }, "f:metadata": { "f:labels": {} } });
        let both = noted(&json!([entry("Apply", more), entry("Update", fields)]));
        let united = json!({ "f:data": { ".": {}, "f:a": {}, "f:b": {} }, "f:metadata": { "f:labels": {} } });
        assert_eq!(converted(&both), json!([entry("Apply", united.clone())]));

        let applied = noted(&json!([entry("Apply", united), theirs, of_status]));
        assert!(!is_made(&applied) && as_applied(&applied).is_none());
    }

    #[test]
    fn what_it_was_made_with_is_all_that_is_wanted_until_somebody_changes_a_field() {
        let wanted = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {
                "name": "demo", "namespace": "ns", "labels": { "app": "demo" },
                "ownerReferences": [{ "uid": "7", "name": "demo", "controller": true }],
            },
            "spec": {
                "clusterIP": null, "selector": { "app": "demo" }, "type": "ClusterIP",
                "ports": [{ "name": "http", "port": 7100 }, { "name": "grpc", "port": 7101, "protocol": "TCP" }],
            },
        });
        let port = json!({ ".": {}, "f:name": {}, "f:port": {}, "f:protocol": {}, "f:targetPort": {} });
        let noted_of_service = json!({
            "f:metadata": {
                "f:labels": { ".": {}, "f:app": {} },
                "f:ownerReferences": { ".": {}, r#"k:{"uid":"7"}"#: {} },
            },
            "f:spec": {
                "f:internalTrafficPolicy": {}, "f:selector": {}, "f:type": {},
                "f:ports": {
                    ".": {}, r#"k:{"port":7100,"protocol":"TCP"}"#: port, r#"k:{"port":7101,"protocol":"TCP"}"#: port,
                },
            },
        });
        let by = |way: &str, fields: &Value| {
            noted(&json!([{ "manager": "smallest-operator", "operation": way, "fieldsV1": fields }]))
        };
        assert!(made_with(&by("Update", &noted_of_service), &wanted));
        assert!(!made_with(&by("Apply", &noted_of_service), &wanted), "that was applied");

        let gone = [
            "/f:metadata/f:labels/f:app",
            r#"/f:metadata/f:ownerReferences/k:{"uid":"7"}"#,
            "/f:spec/f:selector",
            r#"/f:spec/f:ports/k:{"port":7100,"protocol":"TCP"}"#,
            r#"/f:spec/f:ports/k:{"port":7101,"protocol":"TCP"}/f:name"#,
        ];
        for path in gone {
            let mut left = noted_of_service.clone();
            let (parent, name) = path.rsplit_once('/').expect("a path");
            let parent = left.pointer_mut(parent).and_then(Value::as_object_mut).expect("it is there");
            assert!(parent.remove(name).is_some(), "{path}");
            assert!(!made_with(&by("Update", &left), &wanted), "{path} is somebody else's");
        }
        let mut more = wanted.clone();
        more["spec"]["sessionAffinity"] = json!("ClientIP");
        assert!(!made_with(&by("Update", &noted_of_service), &more), "that was not asked for");
    }

    #[test]
    fn items_are_known_by_keys_or_values() {
        let cases = [
            (r#"k:{"name":"a"}"#, json!({ "name": "a", "value": 1 }), true),
            (r#"k:{"name":"a"}"#, json!({ "name": "b" }), false),
            (r#"k:{"port":1,"protocol":"TCP"}"#, json!({ "port": 1 }), true),
            (r#"k:{"port":1,"protocol":"TCP"}"#, json!({ "port": 1, "protocol": "UDP" }), false),
            (r#"v:"a""#, json!("a"), true),
            (r#"v:"a""#, json!("b"), false),
            ("i:0", json!("a"), false),
            ("v:", json!("a"), false),
            ("", json!("a"), false),
            ("é", json!("a"), false),
        ];
        for (name, item, is) in cases {
            assert_eq!(is_name_of(name, &item), is, "{name} of {item}");
        }
    }
}
