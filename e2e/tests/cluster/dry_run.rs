//! A real apiserver takes what the charts render and what the operator plans: all of it, as a server-side dry run,
//! which checks everything and stores nothing.

use e2e::cluster::{Cluster, Space, in_namespace};
use e2e::repository;
use libtest_mimic::Completion;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Folder with the objects of each of the operator's cases; `tools/test.sh cluster` fills it.
const OBJECTS: &str = "E2E_OBJECTS";

pub(crate) async fn the_apiserver_takes_every_variant_of_the_charts(cluster: &Cluster) -> anyhow::Result<()> {
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
    in_namespace(cluster, "objects", async |space| {
        let mut wrong = Vec::new();
        let mut count = 0;
        for entry in std::fs::read_dir(&folder)? {
            let case = entry?.path();
            if let Err(error) = taken(space, &case).await {
                wrong.push(format!("{}: {error:#}", case.display()));
            }
            count += 1;
        }
        anyhow::ensure!(count > 0, "{} holds no objects", folder.display());
        anyhow::ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        eprintln!("the apiserver takes the objects of {count} cases");
        Ok(())
    })
    .await?;
    Ok(Completion::Completed)
}

/// Gives the objects of one case to the apiserver, in the story's namespace instead of their own.
async fn taken(space: &Space<'_>, case: &Path) -> anyhow::Result<()> {
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

/// Does every cluster know the kind? The definition of a `ServiceMonitor` comes with Prometheus.
fn known(object: &Value) -> bool {
    object["kind"] != "ServiceMonitor"
}
