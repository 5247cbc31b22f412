//! Every rule of the schema at a real apiserver, both ways: what it refuses, with the message that says what to change,
//! and what it lets through. The cases are those of the crate that holds the rules.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Context;
use crds::SmallestDeployment;
use e2e::cluster::resource::merge;
use e2e::cluster::{Cluster, Space, in_namespace};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde::Deserialize;
use serde_json::{Value, json};

/// `crds/tests/rules.yaml`: fragments are merged into the spec of a minimal resource.
#[derive(Deserialize)]
struct Rules {
    rules: Vec<Case>,
    changes: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    /// Part of the rule's message.
    message: String,
    /// What is there before a change.
    #[serde(default)]
    before: Value,
    bad: Value,
    good: Value,
}

pub(crate) async fn every_rule_refuses_with_its_message(cluster: &Cluster) -> anyhow::Result<()> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds/tests/rules.yaml");
    let cases: Rules = serde_yaml::from_str(&std::fs::read_to_string(file)?)?;
    in_namespace(cluster, "rules", async |space| {
        let mut failures = Vec::new();
        for case in &cases.rules {
            let (bad, good) = (try_out(space, &case.bad).await, try_out(space, &case.good).await);
            failures.extend(judge(case, bad, good));
        }
        for case in &cases.changes {
            let (bad, good) = change(space, case).await?;
            failures.extend(judge(case, bad, good));
        }
        let mut long = resource(&json!({}));
        long["metadata"]["name"] = json!("n".repeat(41));
        let refused = dry_run(space, &long).await;
        failures.extend(refusal("the name must not be longer than 40", refused));
        anyhow::ensure!(failures.is_empty(), "{}", failures.join("\n"));
        let known: BTreeSet<&str> =
            cases.rules.iter().chain(&cases.changes).map(|case| case.message.as_str()).collect();
        everything_is_covered(cluster, &known).await
    })
    .await
}

/// The least resource there is, without pods of its own but Redis, and what a case changes of its spec.
fn resource(fragment: &Value) -> Value {
    let model = json!({"name": "m", "url": "https://example.com/m", "sha256": "0".repeat(64)});
    let mut resource = json!({
        "apiVersion": "smallest.ai/v1",
        "kind": "SmallestDeployment",
        "metadata": {"name": "rules"},
        "spec": {"license": {"secretRef": {"name": "license"}}, "asr": {"models": [model]}},
    });
    merge(&mut resource["spec"], fragment);
    resource
}

async fn try_out(space: &Space<'_>, fragment: &Value) -> Result<(), kube::Error> {
    dry_run(space, &resource(fragment)).await
}

/// Server-side dry run of a resource that need not fit the types.
async fn dry_run(space: &Space<'_>, resource: &Value) -> Result<(), kube::Error> {
    let params = PatchParams { dry_run: true, ..PatchParams::apply("e2e") };
    let name = resource["metadata"]["name"].as_str().unwrap_or_default();
    space.api::<SmallestDeployment>().patch(name, &params, &Patch::Apply(resource)).await.map(|_| ())
}

/// What becomes of `bad` and `good` where `before` is.
async fn change(
    space: &Space<'_>,
    case: &Case,
) -> anyhow::Result<(Result<(), kube::Error>, Result<(), kube::Error>)> {
    let idle = |fragment: &Value| {
        let mut changed = resource(fragment);
        merge(&mut changed["spec"], &json!({"gateway": {"replicas": 0}, "asr": {"replicas": 0}}));
        changed
    };
    let api: Api<SmallestDeployment> = space.api();
    let before = idle(&case.before);
    api.patch("rules", &PatchParams::apply("e2e"), &Patch::Apply(&before))
        .await
        .context("before a change")?;
    let outcomes = (dry_run(space, &idle(&case.bad)).await, dry_run(space, &idle(&case.good)).await);
    api.delete("rules", &DeleteParams::default()).await?;
    Ok(outcomes)
}

/// What is wrong with the two answers of a case.
fn judge(case: &Case, bad: Result<(), kube::Error>, good: Result<(), kube::Error>) -> Vec<String> {
    let accepted = good.err().map(|error| format!("{} was to be accepted, but: {error}", case.good));
    refusal(&case.message, bad)
        .map(|failure| format!("{}: {failure}", case.bad))
        .into_iter()
        .chain(accepted)
        .collect()
}

fn refusal(message: &str, answer: Result<(), kube::Error>) -> Option<String> {
    match answer {
        Err(kube::Error::Api(answer)) if answer.code == 422 && answer.message.contains(message) => None,
        other => Some(format!("{message:?} was to refuse it, but: {other:?}")),
    }
}

/// Fails when the definition has a rule that no case breaks.
async fn everything_is_covered(cluster: &Cluster, known: &BTreeSet<&str>) -> anyhow::Result<()> {
    let definitions: Api<CustomResourceDefinition> = Api::all(cluster.client.clone());
    let definition = serde_json::to_value(definitions.get("smallestdeployments.smallest.ai").await?)?;
    let mut messages = BTreeSet::new();
    collect(&definition, &mut messages);
    anyhow::ensure!(messages.len() > 20, "the definition has its rules: {messages:?}");
    messages.retain(|message| !message.contains("the name must not be longer"));
    let uncovered: Vec<&String> =
        messages.iter().filter(|message| !known.iter().any(|case| message.contains(case))).collect();
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
