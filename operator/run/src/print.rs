//! `--print-plan` and `--print-objects`: file → read → validate → plan → desired → YAML on standard output. Secrets
//! stay hidden.

use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use operator_plan::{ClusterPlace, Desired, Fetched, LocalPlace, Observed, Place, Plan, SecretText, Valid};
use serde::Serialize;
use serde_json::Value;

use crate::config::Target;

/// What is shown instead of a secret, as in plans.
const HIDDEN: &str = "(hidden)";

/// Prints the plan of a resource file.
pub(crate) fn plan(file: &Path, target: Target, cluster: &ClusterPlace) -> anyhow::Result<()> {
    let (_, plan) = read(file, place(file, target, cluster)?)?;
    print(&serde_yaml::to_string(&plan).context("failed to print the plan")?)
}

/// Prints the objects of a resource file, in the order of applying them.
pub(crate) fn objects(file: &Path, cluster: &ClusterPlace) -> anyhow::Result<()> {
    let (valid, plan) = read(file, Place::Cluster(cluster.clone()))?;
    let mut text = String::new();
    for object in values(operator_plan::desired(&valid, &plan)).context("failed to print the objects")? {
        text += "---\n";
        text += &serde_yaml::to_string(&object).context("failed to print the objects")?;
    }
    print(&text)
}

fn read(file: &Path, place: Place) -> anyhow::Result<(Valid, Plan)> {
    let text = std::fs::read_to_string(file).with_context(|| format!("failed to read {}", file.display()))?;
    let documents = operator_plan::read(&text)?;
    let fetched = Fetched { secrets: documents.secrets, place };
    let valid = operator_plan::validate(&documents.deployment, &fetched)?;
    // Nothing is started with it, and printing hides it.
    let observed = Observed { redis_password: SecretText::new("unused") };
    let plan = operator_plan::plan(&valid, &observed, &Time(Timestamp::now()));
    Ok((valid, plan))
}

fn print(text: &str) -> anyhow::Result<()> {
    std::io::stdout().write_all(text.as_bytes()).context("failed to print")
}

fn place(file: &Path, target: Target, cluster: &ClusterPlace) -> anyhow::Result<Place> {
    if target == Target::Cluster {
        return Ok(Place::Cluster(cluster.clone()));
    }
    let file = file.canonicalize().with_context(|| format!("failed to find {}", file.display()))?;
    let base_dir = file.parent().unwrap_or(Path::new("/")).to_owned();
    let run_dir = std::env::temp_dir().join("smallest");
    Ok(Place::Local(LocalPlace { base_dir, cache_dir: run_dir.join("models"), run_dir }))
}

fn values(desired: Desired) -> Result<Vec<Value>, serde_json::Error> {
    // Every field is named: a kind of object that is not printed does not compile.
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
    let mut all = list(&service_accounts)?;
    all.extend(list(&secrets)?.into_iter().map(hide));
    all.extend(list(&config_maps)?);
    all.extend(list(&persistent_volume_claims)?);
    all.extend(list(&services)?);
    all.extend(list(&network_policies)?);
    all.extend(list(&stateful_sets)?);
    all.extend(list(&deployments)?);
    all.extend(list(&pod_disruption_budgets)?);
    all.extend(list(&horizontal_pod_autoscalers)?);
    all.extend(service_monitors);
    Ok(all)
}

fn list<O: Serialize>(objects: &[O]) -> Result<Vec<Value>, serde_json::Error> {
    objects.iter().map(serde_json::to_value).collect()
}

fn hide(mut secret: Value) -> Value {
    for field in ["data", "stringData"] {
        for value in secret[field].as_object_mut().into_iter().flat_map(|entries| entries.values_mut()) {
            *value = Value::from(HIDDEN);
        }
    }
    secret
}
