//! Objects as data: `tests/cases/objects-*/cr.yaml` (with `place.yaml`, what the operator knows of the cluster) goes
//! in. `objects-base/objects.yaml` holds every object that comes out; in the other cases `objects.yaml` holds what is
//! not as in the base, so that a case shows its feature and nothing else: an object that is new, `gone`, or the
//! fields that differ (`gone` where one is left out). Recorded by `UPDATE_CASES=1`, like the plans.
//!
//! What must be so in every case stands in [`rules`]. `DUMP_OBJECTS=FOLDER` writes the objects of each case there, for
//! `kubectl apply --server-side --dry-run=server -f`: what an apiserver says of them cannot be known here.

mod rules;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use operator_plan::{
    ClusterPlace, Desired, Documents, ImageSet, Observed, Place, Plan, SecretRef, SecretText, Valid,
};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{now, secrets_and};

/// Objects by kind and name.
pub(crate) type Objects = BTreeMap<String, Value>;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases")
}

/// Names of the cases.
fn names() -> Vec<String> {
    let entries = fs::read_dir(folder()).expect("folder of cases");
    let names = entries.map(|entry| entry.expect("entry").file_name().into_string().expect("utf-8"));
    let mut names: Vec<String> = names.filter(|name| name.starts_with("objects-")).collect();
    names.sort();
    names
}

fn documents(case: &str) -> Documents {
    let text = fs::read_to_string(folder().join(case).join("cr.yaml")).expect("cr.yaml");
    operator_plan::read(&text).expect(case)
}

/// What the operator of a case knows of its cluster. The tag of the images does not move with the version.
pub(crate) fn place(case: &str) -> ClusterPlace {
    let image = |name: &str| format!("quay.io/smallestinc/{name}:test");
    let images = ImageSet {
        gateway: image("self-hosted-api-server"),
        worker: image("lightning-asr"),
        worker_cuda: image("lightning-asr-cuda"),
        license_proxy: image("license-proxy"),
        redis: image("redis"),
    };
    let text = fs::read_to_string(folder().join(case).join("place.yaml")).unwrap_or_default();
    let given: Value = serde_yaml::from_str(&text).expect("place.yaml");
    let word = |name: &str| given[name].as_str().map(str::to_owned);
    ClusterPlace {
        images,
        operator_namespace: word("operatorNamespace").unwrap_or_else(|| "smallest-system".to_owned()),
        license_trusted_keys: word("licenseTrustedKeys"),
        asr_engine: word("asrEngine"),
        tts_engine: word("ttsEngine"),
        service_monitors: given["serviceMonitors"] == true,
        ..ClusterPlace::default()
    }
}

/// The objects of a case.
pub(crate) fn of(case: &str) -> Objects {
    all()[case].clone()
}

/// The objects of every case, made once.
fn all() -> &'static BTreeMap<String, Objects> {
    static ALL: OnceLock<BTreeMap<String, Objects>> = OnceLock::new();
    ALL.get_or_init(|| names().into_iter().map(|case| (case.clone(), objects(desired(&case)))).collect())
}

/// What is desired in a case.
pub(crate) fn desired(case: &str) -> Desired {
    desired_of(case, &documents(case))
}

fn desired_of(case: &str, documents: &Documents) -> Desired {
    let (valid, plan) = planned(case, documents);
    operator_plan::desired(&valid, &plan)
}

fn planned(case: &str, documents: &Documents) -> (Valid, Plan) {
    let fetched = secrets_and(documents, Place::Cluster(place(case)));
    let valid = operator_plan::validate(&documents.deployment, &fetched).expect(case);
    let observed = Observed { redis_password: SecretText::new("generated") };
    let plan = operator_plan::plan(&valid, &observed, &now());
    (valid, plan)
}

fn objects(desired: Desired) -> Objects {
    fn add<T: Serialize>(objects: &mut Objects, list: Vec<T>) {
        for object in list {
            let value = serde_json::to_value(object).expect("plain data");
            let word = |value: &Value| value.as_str().expect("text").to_owned();
            let name = format!("{}/{}", word(&value["kind"]), word(&value["metadata"]["name"]));
            assert!(objects.insert(name.clone(), value).is_none(), "two objects are {name}");
        }
    }
    // No `..`: a new kind of object is a new line here.
    let Desired {
        service_accounts,
        secrets,
        config_maps,
        persistent_volume_claims,
        services,
        stateful_sets,
        deployments,
        horizontal_pod_autoscalers,
        pod_disruption_budgets,
        network_policies,
        service_monitors,
    } = desired;
    let mut objects = Objects::new();
    add(&mut objects, service_accounts);
    add(&mut objects, secrets);
    add(&mut objects, config_maps);
    add(&mut objects, persistent_volume_claims);
    add(&mut objects, services);
    add(&mut objects, stateful_sets);
    add(&mut objects, deployments);
    add(&mut objects, horizontal_pod_autoscalers);
    add(&mut objects, pod_disruption_budgets);
    add(&mut objects, network_policies);
    add(&mut objects, service_monitors);
    objects
}

/// Every leaf of an object by its path. Entries of a list stand under their names where all have one of their own.
fn leaves(value: &Value, path: &str, out: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, inner) in fields {
                let name = if name.contains(['.', '/']) { format!("[{name}]") } else { format!(".{name}") };
                leaves(inner, format!("{path}{name}").trim_start_matches('.'), out);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            let own: Vec<Option<&str>> = items.iter().map(|item| item["name"].as_str()).collect();
            let distinct = own
                .iter()
                .all(|name| name.is_some_and(|n| own.iter().filter(|o| **o == Some(n)).count() == 1));
            for (at, item) in items.iter().enumerate() {
                let key = own[at].filter(|_| distinct).map_or(at.to_string(), str::to_owned);
                leaves(item, &format!("{path}[{key}]"), out);
            }
        }
        leaf => drop(out.insert(path.to_owned(), leaf.clone())),
    }
}

fn changes(base: &Value, found: &Value) -> Value {
    let (mut before, mut after) = (BTreeMap::new(), BTreeMap::new());
    leaves(base, "", &mut before);
    leaves(found, "", &mut after);
    let mut changed = Map::new();
    for (path, value) in &after {
        if before.get(path) != Some(value) {
            changed.insert(path.clone(), value.clone());
        }
    }
    for path in before.keys().filter(|path| !after.contains_key(*path)) {
        changed.insert(path.clone(), json!("gone"));
    }
    Value::Object(changed)
}

fn recorded(base: &Objects, found: &Objects) -> Value {
    let mut record = Map::new();
    for (name, object) in found {
        match base.get(name) {
            None => drop(record.insert(name.clone(), object.clone())),
            Some(before) if before == object => {}
            Some(before) => drop(record.insert(name.clone(), changes(before, object))),
        }
    }
    for name in base.keys().filter(|name| !found.contains_key(*name)) {
        record.insert(name.clone(), json!("gone"));
    }
    Value::Object(record)
}

#[test]
fn objects_are_as_recorded() {
    let cases = all();
    let base = &cases["objects-base"];
    let update = std::env::var_os("UPDATE_CASES").is_some();
    let mut wrong = Vec::new();
    for (case, found) in cases {
        if let Some(dump) = std::env::var_os("DUMP_OBJECTS") {
            let list =
                json!({"apiVersion": "v1", "kind": "List", "items": found.values().collect::<Vec<_>>()});
            fs::write(Path::new(&dump).join(format!("{case}.json")), list.to_string()).expect("dump");
        }
        let record = match case.as_str() {
            "objects-base" => serde_json::to_value(base).expect("plain data"),
            _ => recorded(base, found),
        };
        let found = serde_yaml::to_string(&record).expect("plain data");
        let file = folder().join(case).join("objects.yaml");
        if update {
            fs::write(&file, &found).expect("record the case");
        }
        if fs::read_to_string(&file).unwrap_or_default() != found {
            wrong.push(format!("{case}:\n{found}"));
        }
    }
    assert!(cases.len() >= 15, "the cases are gone: {:?}", cases.keys());
    assert!(wrong.is_empty(), "UPDATE_CASES=1 records these:\n{}", wrong.join("\n"));
}

#[test]
fn a_plan_for_one_machine_has_no_objects() {
    let documents = documents("objects-base");
    let valid = operator_plan::validate(&documents.deployment, &secrets_and(&documents, crate::place()))
        .expect("valid");
    let observed = Observed { redis_password: SecretText::new("generated") };
    let plan = operator_plan::plan(&valid, &observed, &now());
    assert!(operator_plan::desired(&valid, &plan) == Desired::default());
}

#[test]
fn the_operator_dials_the_queue_that_the_pods_dial() {
    for (case, expected) in [
        ("objects-base", "redis://:generated@speech-redis.voice.svc:6379/0"),
        ("objects-redis-embedded", "redis://speech-redis.voice.svc:6390/0"),
        ("objects-redis-external", "rediss://queue-user:p%40ss%2Fword@redis.example.com:6380/2"),
        ("objects-redis-external-secret", "rediss://:hidden@redis.example.com:7000"),
        ("objects-redis-external-authority", "rediss://:hidden@redis.example.com:6380"),
    ] {
        let documents = documents(case);
        let (_, plan) = planned(case, &documents);
        let url = plan.queue_url(&documents.secrets).expect("address");
        assert_eq!(url.expose(), expected, "{case}");
    }
}

/// Checksums of the pods of gateway, workers and Redis after a change of one entry of a Secret.
fn checksums(case: &str, change: Option<(&str, &str)>) -> [String; 3] {
    let mut documents = documents(case);
    if let Some((name, key)) = change {
        let entry = SecretRef { name: name.to_owned(), key: key.to_owned() };
        let before = documents.secrets.get(&entry).map_or("", |text| text.expose());
        let after = SecretText::new(format!("{before}\nanother value"));
        documents.secrets.insert(entry, after);
    }
    let objects = objects(desired_of(case, &documents));
    ["Deployment/speech-gateway", "Deployment/speech-asr", "StatefulSet/speech-redis"].map(|name| {
        let template = objects.get(name).map(|object| &object["spec"]["template"]);
        let checksum =
            template.map(|template| &template["metadata"]["annotations"]["smallest.ai/config-checksum"]);
        checksum.map(|checksum| checksum.as_str().expect("checksum").to_owned()).unwrap_or_default()
    })
}

#[test]
fn a_changed_secret_replaces_the_pods_that_read_it_once() {
    let before = checksums("objects-gateway", None);
    let keys = checksums("objects-gateway", Some(("clients", "api-keys")));
    assert_ne!(keys[0], before[0], "the gateway reads its keys once");
    assert_eq!(keys[1..], before[1..], "nobody else reads them");
    // The proxy looks at the file again and again: no stream ends because a license was renewed.
    assert_eq!(checksums("objects-gateway", Some(("license", "license.jwt"))), before);
    let before = checksums("objects-license-online", None);
    let key = checksums("objects-license-online", Some(("license", "license-key")));
    assert!(key[0] != before[0] && key[1] != before[1], "the key is a variable of both");
    assert_eq!(key[2], before[2], "Redis has no license");
    let before = checksums("objects-redis-external-authority", None);
    let authority = checksums("objects-redis-external-authority", Some(("redis-authority", "ca.crt")));
    assert!(authority[0] != before[0] && authority[1] != before[1], "both trust Redis by it");
}
