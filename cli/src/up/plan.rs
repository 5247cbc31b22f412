//! From a `SmallestDeployment` file to programs of this machine, through the plan that the operator uses.
//!
//! Comes in: a file, a choice of ports, folders. Goes out: an [`operator_plan::local::LocalRun`] and nothing
//! on disk. What is decided here is only what a machine must add: a time, a password, folders, free ports.

use super::ports;
use super::run_state;
use crate::args::PortChoice;
use crds::SmallestDeployment;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use operator_plan::local::{LocalError, LocalRun};
use operator_plan::{Fetched, Invalid, LocalPlace, Observed, Place, ReadError, SecretText};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Replicas of workers beyond this have no place in a block of free ports.
const MOST_WORKERS: u32 = 64;

/// Why a file cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The file is not there, or cannot be read.
    #[error("failed to read {}", path.display())]
    ReadFile {
        /// The file.
        path: PathBuf,
        /// The system's word.
        #[source]
        source: std::io::Error,
    },
    /// It is no resource file.
    #[error("failed to use {}", path.display())]
    ReadResource {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: ReadError,
    },
    /// It asks for what cannot be.
    #[error("failed to use {}", path.display())]
    Validate {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: Invalid,
    },
    /// The plan is not for this machine.
    #[error(transparent)]
    Plan(#[from] LocalError),
    /// There are no free ports, or no random numbers.
    #[error("failed to get {what} from the system")]
    AskSystem {
        /// What.
        what: &'static str,
        /// The system's word.
        #[source]
        source: std::io::Error,
    },
}

impl PlanError {
    /// A stable word for logs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::ReadFile { .. } => "ReadFile",
            Self::ReadResource { source, .. } => source.reason(),
            Self::Validate { source, .. } => source.reason(),
            Self::Plan(error) => error.reason(),
            Self::AskSystem { .. } => "AskSystem",
        }
    }
}

/// Reads a file and plans it for this machine.
pub fn load(file: &Path, choice: PortChoice) -> Result<LocalRun, PlanError> {
    let path = || file.to_owned();
    let text =
        std::fs::read_to_string(file).map_err(|source| PlanError::ReadFile { path: path(), source })?;
    let documents =
        operator_plan::read(&text).map_err(|source| PlanError::ReadResource { path: path(), source })?;
    let mut deployment = documents.deployment;
    if choice == PortChoice::Free {
        use_free_ports(&mut deployment)?;
    }
    let place = Place::Local(place(file, &deployment)?);
    let fetched = Fetched { secrets: documents.secrets, place };
    let valid = operator_plan::validate(&deployment, &fetched)
        .map_err(|source| PlanError::Validate { path: path(), source })?;
    let observed = Observed { redis_password: fresh_password()? };
    let plan = operator_plan::plan(&valid, &observed, &Time(Timestamp::now()));
    Ok(operator_plan::local::programs(&plan, &fetched.secrets)?)
}

fn place(file: &Path, deployment: &SmallestDeployment) -> Result<LocalPlace, PlanError> {
    let source = |source| PlanError::ReadFile { path: file.to_owned(), source };
    let file = std::fs::canonicalize(file).map_err(source)?;
    let namespace = deployment.metadata.namespace.as_deref().unwrap_or("default");
    let name = deployment.metadata.name.as_deref().unwrap_or_default();
    Ok(LocalPlace {
        base_dir: file.parent().map(Path::to_owned).unwrap_or_default(),
        run_dir: std::path::absolute(run_state::folder())
            .map_err(source)?
            .join(format!("{namespace}_{name}")),
        cache_dir: std::path::absolute(cache_folder()).map_err(source)?,
    })
}

/// Downloaded models: `$SMALLEST_CACHE`, else `$XDG_CACHE_HOME/smallest`, else `$HOME/.cache/smallest`.
fn cache_folder() -> PathBuf {
    let from = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = from("SMALLEST_CACHE").or_else(|| from("XDG_CACHE_HOME").map(|dir| dir.join("smallest")));
    cache
        .unwrap_or_else(|| from("HOME").unwrap_or_else(std::env::temp_dir).join(".cache/smallest"))
        .join("models")
}

/// Replaces every port of the deployment by one that is free now; those of replicas follow each other.
fn use_free_ports(deployment: &mut SmallestDeployment) -> Result<(), PlanError> {
    let failed = |source| PlanError::AskSystem { what: "free ports", source };
    let spec = &mut deployment.spec;
    let [gateway, license, redis]: [u16; 3] =
        ports::find_free(3).map_err(failed)?.try_into().expect("as many as were asked for");
    spec.gateway.service.port = gateway;
    spec.license.port = license;
    if spec.redis.external.is_none() {
        spec.redis.embedded.get_or_insert_default().port = redis;
    }
    if let Some(asr) = &mut spec.asr {
        let replicas = asr.replicas.unwrap_or(1).clamp(1, MOST_WORKERS) as usize;
        let block = ports::find_free_block(2 * replicas).map_err(failed)?;
        asr.port = Some(block);
        asr.metrics_port = Some(block + replicas as u16);
    }
    Ok(())
}

/// 192 random bits as letters and digits.
fn fresh_password() -> Result<SecretText, PlanError> {
    let mut random = [0_u8; 24];
    let mut source = std::fs::File::open("/dev/urandom");
    source
        .as_mut()
        .map_err(|error| std::io::Error::from(error.kind()))
        .and_then(|source| source.read_exact(&mut random))
        .map_err(|source| PlanError::AskSystem { what: "random numbers", source })?;
    Ok(SecretText::new(crate::model::hex(&random)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_long_and_never_the_same() {
        let (first, second) = (fresh_password().unwrap(), fresh_password().unwrap());
        assert_eq!(first.expose().len(), 48);
        assert_ne!(first, second);
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = load(Path::new("no-such.yaml"), PortChoice::Default).unwrap_err();
        assert_eq!(error.reason(), "ReadFile");
        assert!(error.to_string().contains("no-such.yaml"));
    }
}
