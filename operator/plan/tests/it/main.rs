//! Cases as data: `tests/cases/<name>/cr.yaml` goes in, `desired.yaml` is what must come out, a plan with the
//! programs of one machine, or the error. `UPDATE_CASES=1 cargo test -p operator-plan` records them anew; read
//! the difference before you commit it.

mod example;
mod handover;
mod objects;
mod status;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use operator_plan::local::{self, LocalRun};
use operator_plan::{Documents, Fetched, LocalPlace, Observed, Place, Plan, SecretText};
use serde::Serialize;

/// The instant of all cases.
pub(crate) fn now() -> Time {
    serde_json::from_str("\"2026-11-21T00:00:00Z\"").expect("a time")
}

pub(crate) fn place() -> Place {
    Place::Local(LocalPlace {
        base_dir: PathBuf::from("/srv/speech/examples"),
        run_dir: PathBuf::from("/run/smallest"),
        cache_dir: PathBuf::from("/var/cache/smallest"),
    })
}

pub(crate) fn secrets_and(documents: &Documents, place: Place) -> Fetched {
    Fetched { secrets: documents.secrets.clone(), place }
}

pub(crate) fn planned(documents: &Documents, place: Place) -> Result<Plan, operator_plan::Invalid> {
    let fetched = secrets_and(documents, place);
    let valid = operator_plan::validate(&documents.deployment, &fetched)?;
    let observed = Observed { redis_password: SecretText::new("generated") };
    Ok(operator_plan::plan(&valid, &observed, &now()))
}

/// What a case records: for people to read, and every value a program would see.
#[derive(Serialize)]
#[serde(untagged)]
enum Recorded {
    Error { reason: &'static str, message: String },
    Run { url: String, conditions: Vec<operator_plan::Condition>, programs: Vec<RecordedProgram> },
    Plan(Box<Plan>),
}

#[derive(Serialize)]
struct RecordedProgram {
    name: String,
    command: String,
    args: Vec<String>,
    env: BTreeMap<String, String>,
    files: BTreeMap<PathBuf, String>,
    ports: Vec<u16>,
    probe: String,
    after: Vec<String>,
    drain_seconds: u32,
}

fn record(text: &str, place: &Place) -> Recorded {
    let documents = match operator_plan::read(text) {
        Ok(documents) => documents,
        Err(error) => return Recorded::Error { reason: error.reason(), message: error.to_string() },
    };
    let plan = match planned(&documents, place.clone()) {
        Ok(plan) => plan,
        Err(error) => return Recorded::Error { reason: error.reason(), message: error.to_string() },
    };
    if matches!(place, Place::Cluster(_)) {
        return Recorded::Plan(Box::new(plan));
    }
    match local::programs(&plan, &documents.secrets) {
        Ok(run) => recorded_run(run, plan),
        Err(error) => Recorded::Error { reason: error.reason(), message: error.to_string() },
    }
}

fn recorded_run(run: LocalRun, plan: Plan) -> Recorded {
    let programs = run.programs.into_iter().map(|program| RecordedProgram {
        name: program.name,
        command: program.command,
        args: program.args,
        env: program.env.into_iter().map(|(name, value)| (name, value.expose().to_owned())).collect(),
        files: program.files.into_iter().map(|f| (f.path, f.content.expose().to_owned())).collect(),
        ports: program.ports,
        probe: format!("{:?}", program.probe),
        after: program.after,
        drain_seconds: program.drain_seconds,
    });
    Recorded::Run { url: run.url, conditions: plan.conditions, programs: programs.collect() }
}

#[test]
fn cases() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let update = std::env::var_os("UPDATE_CASES").is_some();
    let mut wrong = Vec::new();
    let mut count = 0;
    for entry in fs::read_dir(&folder).expect("folder of cases") {
        let case = entry.expect("entry").path();
        let name = case.file_name().expect("name").to_string_lossy().into_owned();
        if name.starts_with("objects-") {
            continue;
        }
        let cr = fs::read_to_string(case.join("cr.yaml")).expect("cr.yaml");
        let place = if name.starts_with("cluster") { Place::Cluster(objects::place(&name)) } else { place() };
        let found = serde_yaml::to_string(&record(&cr, &place)).expect("plain data");
        let file = case.join("desired.yaml");
        if update {
            fs::write(&file, &found).expect("record the case");
        }
        let desired = fs::read_to_string(&file).unwrap_or_default();
        if desired != found {
            wrong.push(format!("{}:\n{found}", case.display()));
        }
        count += 1;
    }
    assert!(count >= 10, "the cases are gone: {count} found");
    assert!(wrong.is_empty(), "UPDATE_CASES=1 records these:\n{}", wrong.join("\n"));
}

#[test]
fn the_same_input_gives_the_same_plan() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/replicas/cr.yaml"))
        .expect("case");
    let documents = operator_plan::read(&text).expect("resource");
    let once = planned(&documents, place()).expect("plan");
    let again = planned(&documents, place()).expect("plan");
    assert_eq!(serde_yaml::to_string(&once).expect("yaml"), serde_yaml::to_string(&again).expect("yaml"));
}

/// The schema refuses it too, but what was stored before it did may stay as it is.
#[test]
fn one_deployment_serves_one_model() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/minimal/cr.yaml"))
        .expect("case");
    let mut documents = operator_plan::read(&text).expect("resource");
    let models = &mut documents.deployment.spec.asr.as_mut().expect("asr").models;
    models.push(models[0].clone());
    let error = planned(&documents, place()).expect_err("two models");
    assert_eq!(error.reason(), "TooManyModels");
    assert!(error.to_string().contains("make another SmallestDeployment"), "{error}");
}

#[test]
fn a_printed_plan_holds_no_secret() {
    let text = "apiVersion: v1\nkind: Secret\nmetadata: {name: lic}\nstringData: {license.jwt: very-secret}\n---\n\
        apiVersion: smallest.ai/v1\nkind: SmallestDeployment\nmetadata: {name: a}\nspec:\n  \
        license: {offline: {secretRef: {name: lic}}}\n  asr: {models: [{name: m, url: 'https://example.com/m', \
        sha256: '0000000000000000000000000000000000000000000000000000000000000000'}]}\n";
    let documents = operator_plan::read(text).expect("resource");
    let plan = planned(&documents, place()).expect("plan");
    let run = local::programs(&plan, &documents.secrets).expect("programs");
    let printed = format!("{plan:?} {documents:?} {run:?} {}", serde_yaml::to_string(&plan).expect("yaml"));
    assert!(!printed.contains("very-secret") && !printed.contains("generated"), "{printed}");
    assert!(printed.contains("(hidden)"));
}
