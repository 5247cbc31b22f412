//! `--print-plan`: file → read → validate → plan → YAML on standard output.

use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use operator_plan::{ClusterPlace, Fetched, LocalPlace, Observed, Place, SecretText};

use crate::Target;

pub(crate) fn plan(file: &Path, target: Target) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(file).with_context(|| format!("failed to read {}", file.display()))?;
    let documents = operator_plan::read(&text)?;
    let fetched = Fetched { secrets: documents.secrets, place: place(file, target)? };
    let valid = operator_plan::validate(&documents.deployment, &fetched)?;
    // Nothing is started with it, and printing hides it.
    let observed = Observed { redis_password: SecretText::new("unused") };
    let plan = operator_plan::plan(&valid, &observed, &Time(Timestamp::now()));
    let yaml = serde_yaml::to_string(&plan).context("failed to print the plan")?;
    std::io::stdout().write_all(yaml.as_bytes()).context("failed to print the plan")
}

fn place(file: &Path, target: Target) -> anyhow::Result<Place> {
    if target == Target::Cluster {
        return Ok(Place::Cluster(ClusterPlace::default()));
    }
    let file = file.canonicalize().with_context(|| format!("failed to find {}", file.display()))?;
    let base_dir = file.parent().unwrap_or(Path::new("/")).to_owned();
    let run_dir = std::env::temp_dir().join("smallest");
    Ok(Place::Local(LocalPlace { base_dir, cache_dir: run_dir.join("models"), run_dir }))
}
