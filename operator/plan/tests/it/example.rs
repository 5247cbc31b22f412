//! `examples/quickstart.yaml` itself: it must plan, and its digest must be that of the model beside it.

use std::fs;
use std::path::{Path, PathBuf};

use operator_plan::local;
use operator_plan::{LocalPlace, Place};
use sha2::{Digest as _, Sha256};

use crate::planned;

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
