//! What a broken model folder or wrong work gives: an error that names the file and tensor, or the slot.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize_to_file};

use super::*;

const TENSOR: &str = "encoder.layers.1.self_attn.k_proj.weight";

/// A copy of a tiny model's folder.
fn folder() -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/tiny-4x/model");
    for entry in std::fs::read_dir(source).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    copy
}

fn load(folder: &Path) -> Result<TorchEngine, EngineError> {
    let options =
        LoadOptions { slots: Some(2), device: DeviceChoice::Cpu, threads: Some(1), ..LoadOptions::default() };
    TorchEngine::load(folder, &options)
}

/// Changes a folder and expects an error about `file` that tells all of `parts`.
#[track_caller]
fn check(change: impl Fn(&Path), file: &str, parts: &[&str]) {
    let folder = folder();
    change(folder.path());
    let error = load(folder.path()).expect_err("a broken folder is refused");
    assert_eq!(error.reason(), "LoadModel");
    let text = error.to_string();
    assert!(text.contains(file), "{text} does not name {file}");
    for part in parts {
        assert!(text.contains(part), "{text} does not tell {part}");
    }
}

fn edit_json(folder: &Path, file: &str, edit: impl Fn(&mut serde_json::Value)) {
    let path = folder.join(file);
    let mut value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    edit(&mut value);
    std::fs::write(path, serde_json::to_vec(&value).unwrap()).unwrap();
}

/// Rewrites the weights with one tensor under another name or none, in another shape, and with another added.
fn edit_weights(folder: &Path, rename: Option<&str>, shape: Option<Vec<usize>>, add: Option<&str>) {
    let path = folder.join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: BTreeMap<String, TensorView<'_>> =
        file.iter().map(|(name, view)| (name.to_owned(), view)).collect();
    let view = tensors.remove(TENSOR).unwrap();
    let shape = shape.unwrap_or_else(|| view.shape().to_vec());
    let changed = TensorView::new(view.dtype(), shape, view.data()).unwrap();
    if let Some(name) = rename {
        tensors.insert(name.to_owned(), changed);
    }
    if let Some(name) = add {
        tensors.insert(name.to_owned(), TensorView::new(Dtype::F32, vec![0], &[]).unwrap());
    }
    serialize_to_file(tensors, None, &path).unwrap();
}

#[test]
fn an_untouched_folder_loads() {
    assert!(load(folder().path()).is_ok());
}

#[test]
fn a_missing_file_is_named() {
    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
        check(|folder| std::fs::remove_file(folder.join(file)).unwrap(), file, &["missing"]);
    }
}

#[test]
fn a_truncated_file_is_named() {
    for length in [0, 5, 1000, 100_000] {
        let cut = |folder: &Path| {
            let path = folder.join("model.safetensors");
            let bytes = std::fs::read(&path).unwrap();
            std::fs::write(path, &bytes[..length.min(bytes.len() - 1)]).unwrap();
        };
        check(cut, "model.safetensors", &["truncated"]);
    }
}

#[test]
fn another_architecture_is_named() {
    let edit =
        |folder: &Path| edit_json(folder, "config.json", |config| config["model_type"] = "whisper".into());
    check(edit, "config.json", &["'whisper'", "'nemotron_asr_streaming'"]);
}

#[test]
fn a_missing_tensor_is_named() {
    check(|folder| edit_weights(folder, None, None, None), "model.safetensors", &["missing", TENSOR]);
}

#[test]
fn a_misshapen_tensor_is_named_with_both_shapes() {
    let reshape = |folder: &Path| {
        let bytes = std::fs::read(folder.join("model.safetensors")).unwrap();
        let size: usize =
            SafeTensors::deserialize(&bytes).unwrap().tensor(TENSOR).unwrap().shape().iter().product();
        edit_weights(folder, Some(TENSOR), Some(vec![size]), None);
    };
    check(reshape, "model.safetensors", &["wrong shape", TENSOR, "expected ["]);
}

#[test]
fn a_tensor_that_nothing_uses_is_named() {
    let add = |folder: &Path| edit_weights(folder, Some(TENSOR), None, Some("encoder.layers.77.surplus"));
    check(add, "model.safetensors", &["unexpected", "encoder.layers.77.surplus"]);
}

#[test]
fn a_tokenizer_of_another_size_is_named() {
    let edit = |folder: &Path| {
        edit_json(folder, "tokenizer.json", |tokenizer| {
            tokenizer["model"]["vocab"]["surplus"] = 9_999.into();
        });
    };
    check(edit, "tokenizer.json", &["surplus", "9999"]);
}

#[test]
fn shards_are_read_through_their_index() {
    let folder = folder();
    let path = folder.path();
    std::fs::rename(path.join("model.safetensors"), path.join("model-00001-of-00001.safetensors")).unwrap();
    let index = serde_json::json!({ "weight_map": { TENSOR: "model-00001-of-00001.safetensors" } });
    std::fs::write(path.join("model.safetensors.index.json"), index.to_string()).unwrap();
    assert!(load(path).is_ok());
    let outside = serde_json::json!({ "weight_map": { TENSOR: "../model.safetensors" } });
    std::fs::write(path.join("model.safetensors.index.json"), outside.to_string()).unwrap();
    assert!(load(path).err().unwrap().to_string().contains("not a plain file name"));
}

#[test]
fn wrong_work_names_the_slot() {
    let folder = folder();
    let mut engine = load(folder.path()).unwrap();
    let lookahead = engine.info().default_lookahead;
    let options = SlotOptions { lookahead, chunks_per_step: 1 };
    let samples = vec![0; engine.info().step_samples(options, true)];
    let work = |slot, end| SlotWork { slot, samples: &samples, end };
    let refused = |engine: &mut TorchEngine, work: &[SlotWork<'_>], part: &str| {
        let error = engine.step(work).unwrap_err();
        assert_eq!(error.reason(), "UseSlot");
        assert!(error.to_string().contains(part), "{error} does not tell {part}");
    };
    refused(&mut engine, &[work(1, false)], "not open");
    refused(&mut engine, &[work(2, false)], "there are 2 slots");
    engine.open(0, options).unwrap();
    refused(&mut engine, &[work(0, false), work(0, false)], "each once");
    engine.step(&[work(0, true)]).unwrap();
    refused(&mut engine, &[work(0, false)], "has ended");
}

/// A worker loads and warms an engine on one thread and serves with another; the second core is the gateway's.
#[test]
fn another_thread_computes_with_as_many_threads_as_were_asked_for() {
    let folder = folder();
    let mut engine = load(folder.path()).unwrap();
    let options = SlotOptions { lookahead: engine.info().default_lookahead, chunks_per_step: 1 };
    let samples = vec![0; engine.info().step_samples(options, true)];
    let serve = move || {
        engine.open(0, options).unwrap();
        engine.step(&[SlotWork { slot: 0, samples: &samples, end: false }]).unwrap();
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let name = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm")).ok();
        // Threads of OpenMP have the name of who started them.
        tasks.flatten().filter_map(name).filter(|name| name.trim() == "serves").count()
    };
    let thread = std::thread::Builder::new().name("serves".into()).spawn(serve).unwrap();
    assert_eq!(thread.join().unwrap(), 1);
}
