//! From a `SmallestDeployment` file to programs, through the plan that the operator uses as well.

use super::program::Program;
use crate::args::PortChoice;
use std::path::Path;

/// A deployment as it runs on this machine.
#[derive(Debug, Clone)]
pub struct Deployment {
    /// `namespace/name`.
    pub name: String,
    /// Address of the gateway.
    pub url: String,
    /// In the order in which they start.
    pub programs: Vec<Program>,
}

/// Why a file cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// x
    #[error("x")]
    X,
}
impl PlanError {
    /// x
    pub fn reason(&self) -> &'static str {
        "x"
    }
}

/// x
pub fn load(_file: &Path, _ports: PortChoice) -> Result<Deployment, PlanError> {
    Err(PlanError::X)
}
impl Deployment {
    /// x
    pub fn write_files(&self) -> Result<(), super::UpError> {
        Ok(())
    }
}
