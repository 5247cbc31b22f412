//! The program: it prints plans and objects, and says what it needs to run.

mod chart;

use std::path::Path;
use std::process::{Command, Output};

fn run(args: &[&str]) -> (Output, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_smallest-operator"))
        .args(args)
        .env_remove("KUBECONFIG")
        .env_remove("KUBERNETES_SERVICE_HOST")
        .env("HOME", "/nonexistent")
        .output()
        .expect("run");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    (output, out, err)
}

fn example(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name);
    path.to_str().expect("utf-8").to_owned()
}

#[test]
fn it_prints_the_plan_of_the_quickstart_without_its_secrets() {
    let (output, plan, err) = run(&["--print-plan", &example("quickstart.yaml"), "--place", "local"]);
    assert!(output.status.success(), "{err}");
    for word in ["deployment: default/quickstart", "smallest-worker", "redis-server", "(hidden)"] {
        assert!(plan.contains(word), "{word} is not in\n{plan}");
    }
    assert!(!plan.contains("eyJ"), "the license is printed:\n{plan}");
}

#[test]
fn a_model_of_this_machine_is_no_model_of_a_cluster() {
    let (output, _, err) = run(&["--print-plan", &example("quickstart.yaml")]);
    assert_eq!(output.status.code(), Some(1));
    assert!(err.contains("file:../models/demo-asr"), "{err}");
}

#[test]
fn a_resource_that_breaks_its_schema_is_refused_with_every_problem() {
    let file = tempfile::NamedTempFile::new().expect("file");
    std::fs::write(
        file.path(),
        "apiVersion: smallest.ai/v1\nkind: SmallestDeployment\nspec: {licence: {}}\n",
    )
    .expect("written");
    let (output, _, err) = run(&["--print-plan", file.path().to_str().expect("utf-8")]);
    assert_eq!(output.status.code(), Some(1));
    for word in ["metadata.name", "spec.licence: is no field", "spec.license: is required"] {
        assert!(err.contains(word), "{word} is not in\n{err}");
    }
}

#[test]
fn it_prints_the_objects_of_the_quickstart_without_its_secrets() {
    let (output, objects, err) = run(&["--print-objects", &example("quickstart-kubernetes.yaml")]);
    assert!(output.status.success(), "{err}");
    for word in [
        "kind: Deployment",
        "kind: StatefulSet",
        "kind: NetworkPolicy",
        "name: quickstart-gateway",
        "(hidden)",
    ] {
        assert!(objects.contains(word), "{word} is not in\n{objects}");
    }
    assert!(!objects.contains("eyJ") && !objects.contains("requirepass"), "a secret is printed:\n{objects}");
}

#[test]
fn without_a_cluster_it_says_what_it_needs() {
    let (output, out, err) = run(&["--port", "0"]);
    assert_eq!((output.status.code(), out.as_str()), (Some(1), ""));
    assert!(err.contains("failed to find a cluster") && err.contains("KUBECONFIG"), "{err}");
}
