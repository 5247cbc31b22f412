//! The examples themselves: they must plan, and the digest of the demo model must be that of its files.

use std::fs;
use std::path::{Path, PathBuf};

use operator_plan::local;
use operator_plan::{ClusterPlace, LocalPlace, Observed, Place, SecretText};
use sha2::{Digest as _, Sha256};

use crate::{now, planned, secrets_and};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("root of the workspace")
}

fn hex(digest: impl AsRef<[u8]>) -> String {
    digest.as_ref().iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

/// `sha256sum config.json model.safetensors tokenizer.json | sha256sum`.
fn digest(folder: &Path) -> String {
    let lines = ["config.json", "model.safetensors", "tokenizer.json"].map(|name| {
        let content = fs::read(folder.join(name)).expect("file of the demo model");
        format!("{}  {name}\n", hex(Sha256::digest(content)))
    });
    hex(Sha256::digest(lines.concat()))
}

#[test]
fn the_quickstart_plans_and_names_the_demo_model() {
    let text = fs::read_to_string(root().join("examples/quickstart.yaml")).expect("quickstart");
    let documents = operator_plan::read(&text).expect("the quickstart is a valid resource");
    let place = Place::Local(LocalPlace {
        base_dir: root().join("examples"),
        run_dir: "/run/smallest".into(),
        cache_dir: "/var/cache/smallest".into(),
    });
    let plan = planned(&documents, place).expect("plan");
    let run = local::programs(&plan, &documents.secrets).expect("programs");
    let names: Vec<&str> = run.programs.iter().map(|program| program.name.as_str()).collect();
    assert_eq!(names, ["redis", "license-proxy", "asr-0", "gateway"]);
    assert_eq!(run.url, "http://127.0.0.1:7100");

    let folder = root().join("models/demo-asr");
    let worker = &run.programs[2];
    assert_eq!(worker.env["MODEL_URL"].expose(), format!("file://{}", folder.display()));
    assert_eq!(
        worker.env["MODEL_CHECKSUM"].expose(),
        format!("sha256:{}", digest(&folder)),
        "the demo model changed: put its digest into examples/quickstart.yaml"
    );
}

#[test]
fn the_quickstart_of_a_cluster_serves_the_same_model_from_inside_the_image() {
    let read = |file: &str| {
        let text = fs::read_to_string(root().join("examples").join(file)).expect("quickstart");
        operator_plan::read(&text).expect("the quickstart is a valid resource").deployment
    };
    let (local, cluster) = (read("quickstart.yaml"), read("quickstart-kubernetes.yaml"));
    let model =
        |deployment: &crds::SmallestDeployment| deployment.spec.asr.clone().expect("asr").models[0].clone();
    assert_eq!(model(&cluster).sha256, model(&local).sha256);
    assert_eq!(model(&cluster).url, "file:///usr/share/smallest/models/demo-asr");
    // The development license knows it by this name.
    assert_eq!(cluster.metadata.name.as_deref(), Some("quickstart"));
    // Without keys it may be reached from inside the cluster only.
    assert!(cluster.spec.gateway.auth.allow_anonymous);
    assert_eq!(cluster.spec.gateway.service.type_, crds::ServiceType::ClusterIP);
}

#[test]
fn every_example_for_a_cluster_gives_objects() {
    let folder = fs::read_dir(root().join("examples/kubernetes")).expect("examples");
    let mut files: Vec<PathBuf> = folder.map(|entry| entry.expect("entry").path()).collect();
    files.push(root().join("examples/quickstart-kubernetes.yaml"));
    assert!(files.len() >= 6, "the examples are gone: {files:?}");
    for file in files {
        let text = fs::read_to_string(&file).expect("example");
        let documents =
            operator_plan::read(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let fetched = secrets_and(&documents, Place::Cluster(ClusterPlace::default()));
        let valid = operator_plan::validate(&documents.deployment, &fetched)
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let observed = Observed { redis_password: SecretText::new("generated") };
        let desired = operator_plan::desired(&valid, &operator_plan::plan(&valid, &observed, &now()));
        assert_eq!(desired.deployments.len(), 2, "{}", file.display());
    }
}
