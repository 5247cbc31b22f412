//! A real apiserver takes what the charts render and what the operator plans: all of it, as a server-side dry run,
//! which checks everything and stores nothing. `ServiceMonitors` are known to it by a definition of the fields that we
//! write: one that the operator learns of while it runs.

use e2e::cluster::resource::fake;
use e2e::cluster::{Cluster, PATIENCE, Space, in_namespace, wait};
use e2e::{eventually, repository};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams};
use libtest_mimic::Completion;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Folder with the objects of each of the operator's cases; `tools/test.sh cluster` fills it.
const OBJECTS: &str = "E2E_OBJECTS";

/// The definition that comes with the Prometheus operator.
const MONITOR: &str = "ServiceMonitor";
const MONITORS: &str = "servicemonitors.monitoring.coreos.com";

pub(crate) async fn the_apiserver_takes_every_variant_of_the_charts(cluster: &Cluster) -> anyhow::Result<()> {
    monitors(cluster).await?;
    let script = repository().join("tools/charts.sh");
    let output = cluster.tool(&script.display().to_string()).arg("--dry-run").output().await?;
    let said = String::from_utf8_lossy(&output.stdout);
    anyhow::ensure!(
        output.status.success(),
        "tools/charts.sh --dry-run: {}\n{said}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    eprintln!("charts: {said}");
    Ok(())
}

pub(crate) async fn the_apiserver_takes_every_planned_object(
    cluster: &Cluster,
) -> anyhow::Result<Completion> {
    let Some(folder) = std::env::var_os(OBJECTS).map(PathBuf::from) else {
        let reason =
            format!("{OBJECTS} names no folder with planned objects; tools/test.sh cluster makes one");
        return Ok(Completion::ignored_with(reason));
    };
    let monitors = monitors(cluster).await?;
    in_namespace(cluster, "objects", async |space| {
        let mut wrong = Vec::new();
        let mut count = 0;
        for entry in std::fs::read_dir(&folder)? {
            let case = entry?.path();
            if let Err(error) = taken(space, &case, &|object| monitors || object["kind"] != MONITOR).await {
                wrong.push(format!("{}: {error:#}", case.display()));
            }
            count += 1;
        }
        anyhow::ensure!(count > 0, "{} holds no objects", folder.display());
        anyhow::ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        eprintln!("the apiserver takes the objects of {count} cases");
        if monitors { monitored(space).await } else { Ok(()) }
    })
    .await?;
    Ok(Completion::Completed)
}

/// Gives the objects of one case to the apiserver, in the story's namespace instead of their own.
async fn taken(space: &Space<'_>, case: &Path, known: &dyn Fn(&Value) -> bool) -> anyhow::Result<()> {
    let mut list: Value = serde_json::from_slice(&std::fs::read(case)?)?;
    let items = list["items"].as_array_mut().into_iter().flatten();
    let items: Vec<Value> = items.map(|item| moved(item.take(), &space.name)).filter(known).collect();
    list["items"] = Value::Array(items);
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("objects.json");
    std::fs::write(&file, list.to_string())?;
    let mut command = space.cluster.tool("kubectl");
    command
        .args(["apply", "--server-side", "--force-conflicts", "--dry-run=server", "--filename"])
        .arg(&file);
    let output = command.args(["--field-manager", "smallest-operator"]).output().await?;
    anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn moved(mut object: Value, namespace: &str) -> Value {
    object["metadata"]["namespace"] = namespace.into();
    object
}

/// Does the cluster know `ServiceMonitor`? Ours is made to; what others have in their clusters is theirs.
async fn monitors(cluster: &Cluster) -> anyhow::Result<bool> {
    let api: Api<CustomResourceDefinition> = Api::all(cluster.client.clone());
    if !cluster.own {
        return Ok(api.get_opt(MONITORS).await?.is_some());
    }
    let endpoint = fields(&json!({"port": text(), "path": text(), "interval": text()}));
    let labels = json!({"type": "object", "additionalProperties": text()});
    let spec = fields(&json!({
        "selector": fields(&json!({"matchLabels": labels})), "endpoints": {"type": "array", "items": endpoint},
    }));
    let schema = json!({"openAPIV3Schema": fields(&json!({"spec": spec}))});
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": MONITORS},
        "spec": {
            "group": "monitoring.coreos.com", "scope": "Namespaced",
            "names": {"kind": MONITOR, "plural": "servicemonitors", "singular": "servicemonitor"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}],
        },
    });
    api.patch(MONITORS, &PatchParams::apply("e2e").force(), &Patch::Apply(&definition)).await?;
    let established = |found: Option<&CustomResourceDefinition>| {
        let status = found.and_then(|found| found.status.as_ref());
        let conditions = status.and_then(|status| status.conditions.as_ref()).into_iter().flatten();
        conditions.into_iter().any(|one| one.type_ == "Established" && one.status == "True")
    };
    wait::until(&api, MONITORS, "the definition is established", PATIENCE, established).await?;
    Ok(true)
}

/// An object with these fields and no others: what is not among them is refused.
fn fields(properties: &Value) -> Value {
    json!({"type": "object", "properties": properties})
}

fn text() -> Value {
    json!({"type": "string"})
}

/// A deployment that asks for a `ServiceMonitor` gets one that selects its Services with metrics.
async fn monitored(space: &Space<'_>) -> anyhow::Result<()> {
    let nobody = json!({"replicas": 0});
    let changes = json!({"gateway": nobody, "asr": nobody, "monitoring": {"serviceMonitor": true}});
    space.deploy(&fake("demo", &changes)?).await?;
    let kind = GroupVersionKind::gvk("monitoring.coreos.com", "v1", MONITOR);
    let monitors: Api<DynamicObject> =
        Api::namespaced_with(space.cluster.client.clone(), &space.name, &ApiResource::from_gvk(&kind));
    let made =
        eventually("the ServiceMonitor is made", || async { monitors.get_opt("demo").await.ok()? }).await?;
    let selector = &made.data["spec"]["selector"]["matchLabels"];
    anyhow::ensure!(selector["app.kubernetes.io/instance"] == "demo", "{selector}");
    Ok(())
}
