//! Second step of loading: weight files become tensors, each asked for by name and shape.
//!
//! In comes a model folder with `model.safetensors` or `model.safetensors.index.json`; out go tensors on the
//! CPU in their stored type. Strict: whatever is missing, left over or of another shape is reported at once,
//! by file and tensor. Must not know what the tensors mean.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use tch::{Kind, Tensor};
use workers_engine::EngineError;

use crate::ffi;

/// The file of an unsharded model.
pub(crate) const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// Tensors named in one error message; more are counted.
const NAMED: usize = 5;

/// The tensors of a model, taken out one by one.
pub(crate) struct Weights {
    file: String,
    tensors: BTreeMap<String, Tensor>,
    missing: Vec<String>,
    misshapen: Vec<String>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Weights {
    /// Reads all tensors of the folder.
    pub(crate) fn read(folder: &Path) -> Result<Self, EngineError> {
        let files = if folder.join(INDEX).exists() {
            let text =
                std::fs::read(folder.join(INDEX)).map_err(|error| broken(INDEX, &error.to_string()))?;
            let index: Index =
                serde_json::from_slice(&text).map_err(|error| broken(INDEX, &error.to_string()))?;
            index.weight_map.into_values().collect::<BTreeSet<_>>()
        } else {
            BTreeSet::from([SINGLE.to_owned()])
        };
        let mut tensors = BTreeMap::new();
        for file in &files {
            if Path::new(file).file_name() != Some(file.as_ref()) {
                return Err(broken(INDEX, &format!("the shard name '{file}' is not a plain file name")));
            }
            read_file(folder, file, &mut tensors)?;
        }
        let file =
            if files.len() == 1 { files.into_iter().next().unwrap_or_default() } else { INDEX.to_owned() };
        Ok(Self { file, tensors, missing: Vec::new(), misshapen: Vec::new() })
    }

    /// Random weights for speed measurements: every tensor exists in every shape.
    pub(crate) fn random() -> Self {
        Self { file: "random".into(), tensors: BTreeMap::new(), missing: Vec::new(), misshapen: Vec::new() }
    }

    /// Takes the tensor `name`, which must have `shape`. A wrong one is noted and replaced by noise; `finish` tells.
    pub(crate) fn take(&mut self, name: &str, shape: &[i64]) -> Tensor {
        match self.tensors.remove(name) {
            Some(tensor) if tensor.size() == shape => return tensor,
            Some(tensor) => {
                self.misshapen.push(format!("{name} is {:?}, expected {shape:?}", tensor.size()));
            }
            None => self.missing.push(name.to_owned()),
        }
        let fan_in = shape.iter().skip(1).product::<i64>().max(1) as f64;
        Tensor::randn(shape, (Kind::Float, tch::Device::Cpu)) * (1.0 / fan_in.sqrt())
    }

    /// Ends taking: an error when anything was missing, misshapen or is left over.
    pub(crate) fn finish(self) -> Result<(), EngineError> {
        if self.file == "random" {
            return Ok(());
        }
        let left: Vec<String> = self.tensors.into_keys().collect();
        let problems: Vec<String> =
            [("missing", &self.missing), ("of wrong shape", &self.misshapen), ("unexpected", &left)]
                .into_iter()
                .filter(|(_, names)| !names.is_empty())
                .map(|(what, names)| summary(what, names))
                .collect();
        if problems.is_empty() { Ok(()) } else { Err(broken(&self.file, &problems.join("; "))) }
    }
}

fn summary(what: &str, names: &[String]) -> String {
    let shown = names.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMED) {
        0 => format!("tensors {what}: {shown}"),
        more => format!("tensors {what}: {shown} and {more} more"),
    }
}

fn broken(file: &str, detail: &str) -> EngineError {
    EngineError::LoadModel { file: file.to_owned(), detail: detail.to_owned() }
}

fn read_file(folder: &Path, file: &str, tensors: &mut BTreeMap<String, Tensor>) -> Result<(), EngineError> {
    let opened = std::fs::File::open(folder.join(file)).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => broken(file, "the file is missing"),
        _ => broken(file, &error.to_string()),
    })?;
    let map = ffi::map_file(&opened).map_err(|error| broken(file, &error.to_string()))?;
    let parsed = SafeTensors::deserialize(&map)
        .map_err(|error| broken(file, &format!("the file is truncated or not safetensors: {error}")))?;
    for (name, view) in parsed.iter() {
        let kind = match view.dtype() {
            Dtype::F32 => Kind::Float,
            Dtype::F16 => Kind::Half,
            Dtype::BF16 => Kind::BFloat16,
            Dtype::I64 => Kind::Int64,
            other => return Err(broken(file, &format!("tensor {name} has the unsupported type {other:?}"))),
        };
        let shape: Vec<i64> = view.shape().iter().map(|&size| size as i64).collect();
        let tensor = Tensor::f_from_data_size(view.data(), &shape, kind)
            .map_err(|error| broken(file, &format!("tensor {name}: {error}")))?;
        tensors.insert(name.to_owned(), tensor);
    }
    Ok(())
}
