//! Every rule of the schema refuses what it is there for, with the message that says what to change.

use anyhow::Context;
use crds::SmallestDeployment;
use e2e::cluster::resource::{fake, merge, model};
use e2e::cluster::{Cluster, Space, in_namespace};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// A spec that breaks one rule, and a part of the rule's message.
type Case = (&'static str, Value);

/// What a new resource is refused for.
fn at_creation() -> anyhow::Result<Vec<Case>> {
    let reference = json!({"name": "some-secret"});
    let external = |fields: Value| json!({"redis": {"embedded": null, "external": fields}});
    let scaling = json!({"minReplicas": 1, "maxReplicas": 2});
    Ok(vec![
        ("ask for at least one service", json!({"asr": null})),
        ("license.port is a port of a worker", json!({"license": {"port": 2233}})),
        ("gateway takes replicas", json!({"gateway": {"replicas": 1, "scaling": scaling}})),
        (
            "loadBalancerSourceRanges needs type",
            json!({"gateway": {"service": {"loadBalancerSourceRanges": ["192.0.2.0/24"]}}}),
        ),
        (
            "externalTrafficPolicy needs type",
            json!({"gateway": {"service": {"externalTrafficPolicy": "Local"}}}),
        ),
        (
            "auth cannot ask for API keys and allow anonymous",
            json!({"gateway": {"auth": {"secretRef": reference}}}),
        ),
        ("name exactly one license", json!({"license": {"secretRef": reference}})),
        ("drainSeconds and preStopSeconds together", json!({"asr": {"lifecycle": {"drainSeconds": 60}}})),
        (
            "minReplicas must not be above maxReplicas",
            json!({"asr": {"scaling": {"minReplicas": 3, "maxReplicas": 2}}}),
        ),
        ("name one Redis only", json!({"redis": {"external": {"url": "redis://redis:6379"}}})),
        ("name exactly one address of the external Redis", external(json!({}))),
        ("url must not hold a password", external(json!({"url": "redis://:secret@redis:6379"}))),
        (
            "urlSecretRef holds user and password itself",
            external(json!({"urlSecretRef": reference, "passwordSecretRef": reference})),
        ),
        (
            "a user needs a password",
            external(json!({"url": "redis://redis:6379", "usernameSecretRef": reference})),
        ),
        (
            "tls needs an address that begins with rediss",
            external(json!({"url": "redis://redis:6379", "tls": {}})),
        ),
        ("workers take replicas", json!({"asr": {"replicas": 1, "scaling": scaling}})),
        ("device cpu uses no GPU", json!({"asr": {"device": "cpu", "gpu": {"count": 1}}})),
        ("two models share a name", json!({"asr": {"models": [model()?, model()?]}})),
        ("port and metricsPort must differ", json!({"asr": {"port": 4000, "metricsPort": 4000}})),
        (
            "updateStrategy.rollingUpdate needs type",
            json!({"asr": {"updateStrategy": {"type": "Recreate", "rollingUpdate": {"maxSurge": 1}}}}),
        ),
        (
            "name at most one of emptyDir",
            json!({"asr": {"cache": {"emptyDir": {}, "existingClaim": "models"}}}),
        ),
        ("size belongs to emptyDir", json!({"asr": {"cache": {"size": "1Gi", "existingClaim": "models"}}})),
        ("a new claim needs a size", json!({"asr": {"cache": {"persistentVolumeClaim": {}}}})),
        ("an image needs a tag or a digest", json!({"images": {"gateway": "registry.example/gateway"}})),
    ])
}

/// What a change of a resource is refused for.
fn at_change() -> Vec<Case> {
    vec![
        ("persistence cannot be turned on or off", json!({"redis": {"embedded": {"persistence": null}}})),
        ("persistence cannot be changed", json!({"redis": {"embedded": {"persistence": {"size": "2Gi"}}}})),
        (
            "storageClassName cannot be changed",
            json!({"asr": {"cache": {"persistentVolumeClaim": {"storageClassName": "other"}}}}),
        ),
        (
            "accessModes cannot be changed",
            json!({"asr": {"cache": {"persistentVolumeClaim": {"accessModes": ["ReadWriteMany"]}}}}),
        ),
    ]
}

pub(crate) async fn every_rule_refuses_with_its_message(cluster: &Cluster) -> anyhow::Result<()> {
    in_namespace(cluster, "rules", async |space| {
        let api: Api<SmallestDeployment> = space.api();
        // Nothing that is refused is ever made, and nothing else either.
        let dry_run = PostParams { dry_run: true, ..PostParams::default() };
        let accepted: SmallestDeployment = serde_json::from_value(fake("accepted", &json!({}))?)?;
        api.create(&dry_run, &accepted).await.context("the resource that the cases change is accepted")?;

        let mut broken = BTreeSet::new();
        let mut failures = Vec::new();
        for (message, changes) in at_creation()? {
            // As text, since the types would refuse some of it before the apiserver could.
            let refused = create(space, &fake("refused", &changes)?).await;
            check(message, refused, &mut broken, &mut failures);
        }
        let long = fake(&"n".repeat(41), &json!({}))?;
        check("the name must not be longer than 40", create(space, &long).await, &mut broken, &mut failures);

        space.deploy(&kept()?).await?;
        let params = PatchParams { dry_run: true, ..PatchParams::default() };
        for (message, changes) in at_change() {
            let refused =
                api.patch("kept", &params, &Patch::Merge(json!({"spec": changes}))).await.map(|_| ());
            check(message, refused, &mut broken, &mut failures);
        }
        anyhow::ensure!(failures.is_empty(), "{}", failures.join("\n"));
        everything_is_covered(cluster, &broken).await
    })
    .await
}

/// A resource that has what later changes touch, and no pods but its Redis.
fn kept() -> anyhow::Result<Value> {
    let claim = json!({"size": "1Gi", "persistentVolumeClaim": {"accessModes": ["ReadWriteOnce"]}});
    let mut resource =
        fake("kept", &json!({"gateway": {"replicas": 0}, "asr": {"replicas": 0, "cache": claim}}))?;
    merge(&mut resource["spec"], &json!({"redis": {"embedded": {"persistence": {"size": "1Gi"}}}}));
    Ok(resource)
}

/// Server-side dry run of a resource that need not fit the types.
async fn create(space: &Space<'_>, resource: &Value) -> Result<(), kube::Error> {
    let params = PatchParams { dry_run: true, ..PatchParams::apply("e2e") };
    let name = resource["metadata"]["name"].as_str().unwrap_or_default();
    space.api::<SmallestDeployment>().patch(name, &params, &Patch::Apply(resource)).await.map(|_| ())
}

fn check(
    message: &'static str,
    refused: Result<(), kube::Error>,
    broken: &mut BTreeSet<&'static str>,
    failures: &mut Vec<String>,
) {
    broken.insert(message);
    match refused {
        Err(kube::Error::Api(answer)) if answer.code == 422 && answer.message.contains(message) => {}
        other => failures.push(format!("{message:?} was to refuse it, but: {other:?}")),
    }
}

/// Fails when the definition has a rule that no case breaks.
async fn everything_is_covered(cluster: &Cluster, broken: &BTreeSet<&str>) -> anyhow::Result<()> {
    let definitions: Api<CustomResourceDefinition> = Api::all(cluster.client.clone());
    let definition = serde_json::to_value(definitions.get("smallestdeployments.smallest.ai").await?)?;
    let mut messages = BTreeSet::new();
    collect(&definition, &mut messages);
    anyhow::ensure!(messages.len() > 20, "the definition has its rules: {messages:?}");
    let uncovered: Vec<&String> =
        messages.iter().filter(|message| !broken.iter().any(|case| message.contains(case))).collect();
    anyhow::ensure!(uncovered.is_empty(), "no case breaks: {uncovered:#?}");
    Ok(())
}

/// Messages of all rules below a value.
fn collect(value: &Value, messages: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for rule in fields.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten()
            {
                messages.extend(rule["message"].as_str().map(str::to_owned));
            }
            fields.values().for_each(|field| collect(field, messages));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, messages)),
        _ => {}
    }
}
