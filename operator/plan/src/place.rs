//! Where a plan is to be carried out. Facts that differ between a cluster and one machine, and nothing else.

use std::path::PathBuf;

use serde::Serialize;

/// Where a plan is to be carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Place {
    /// Programs on this machine, which find each other on the loopback address.
    Local(LocalPlace),
    /// Pods in a cluster, which find each other through Services.
    Cluster,
}

/// Folders of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LocalPlace {
    /// Absolute folder of the resource file; relative `file:` models start here.
    pub base_dir: PathBuf,
    /// Absolute folder of this run, for the files of the programs.
    pub run_dir: PathBuf,
    /// Absolute folder where downloaded models are kept.
    pub cache_dir: PathBuf,
}

impl Place {
    /// Address that programs listen on.
    pub(crate) fn host(&self) -> &'static str {
        match self {
            Self::Local(_) => "127.0.0.1",
            Self::Cluster => "0.0.0.0",
        }
    }
}
