//! Plan → programs of one machine, in the order of starting, with every value filled in. Pure.
//!
//! What a cluster does with pods, Services and Secrets, one machine does with processes, loopback ports and
//! files that only their owner can read. Sidecars that are equal become one program.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::component::{Component, ComponentKind, Container, Content, Probe as PlanProbe, Value};
use crate::names;
use crate::place::Place;
use crate::plan::Plan;
use crate::secret::{SecretRef, SecretText, Secrets};

/// A deployment as programs of one machine.
#[derive(Debug, Clone)]
pub struct LocalRun {
    /// `namespace/name`.
    pub deployment: String,
    /// Address of the gateway, such as `http://127.0.0.1:7100`.
    pub url: String,
    /// In the order of starting: each needs those named in `after` to be ready.
    pub programs: Vec<Program>,
}

/// One program. It is started again whenever it ends by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Unique name, such as `redis`, `license-proxy`, `asr-0`, `gateway`.
    pub name: String,
    /// Executable, such as `smallest-worker`: ours stand beside each other, `redis-server` is the system's.
    pub command: String,
    /// Arguments.
    pub args: Vec<String>,
    /// Environment, in addition to the runner's own. Values may be secret.
    pub env: BTreeMap<String, SecretText>,
    /// Files to write before it starts, readable by the owner alone.
    pub files: Vec<LocalFile>,
    /// Ports that it listens on, all on the loopback address.
    pub ports: Vec<u16>,
    /// How to see that it is ready.
    pub probe: Probe,
    /// Programs that must be ready before it starts.
    pub after: Vec<String>,
    /// Longest time it may finish its work after SIGTERM, seconds.
    pub drain_seconds: u32,
}

/// A file of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalFile {
    /// Absolute path inside the run's folder.
    pub path: PathBuf,
    /// Content.
    pub content: SecretText,
}

/// How to see that a program is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// Redis answers `PING`, if only to ask for a password.
    Redis {
        /// Port.
        port: u16,
    },
    /// `GET` is answered with a status of 200 to 299.
    Http {
        /// Port.
        port: u16,
        /// Path.
        path: &'static str,
    },
}

/// Why a plan cannot be run on one machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LocalError {
    /// The plan was made for a cluster.
    #[error("failed to run the plan on this machine: it was made for a cluster")]
    RunPlace,
    /// A Secret is not there; `validate` refuses that, so the Secrets given here are other ones.
    #[error("failed to find the secret {0}")]
    FindSecret(SecretRef),
}

impl LocalError {
    /// A stable word for logs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::RunPlace => "PlaceMismatch",
            Self::FindSecret(_) => "SecretMissing",
        }
    }
}

/// The programs of a plan. `secrets` are those that the plan was validated with.
pub fn programs(plan: &Plan, secrets: &Secrets) -> Result<LocalRun, LocalError> {
    let Place::Local(place) = &plan.place else { return Err(LocalError::RunPlace) };
    let mut secrets = secrets.clone();
    for generated in &plan.secrets {
        secrets.insert(generated.reference.clone(), generated.value.clone());
    }
    let fill = Fill { run_dir: &place.run_dir, secrets: &secrets };
    let mut programs = Vec::new();
    for component in &plan.components {
        for (container, replica) in instances(component) {
            let program = fill.program(plan, component, container, replica)?;
            if programs.iter().all(|other: &Program| other.name != program.name) {
                programs.push(program);
            }
        }
    }
    let gateway = plan.components.iter().rfind(|component| component.kind == ComponentKind::Gateway);
    let port = gateway.and_then(|gateway| gateway.containers.last()?.port("http")).unwrap_or_default();
    let url = format!("http://{}:{port}", plan.place.host());
    Ok(LocalRun { deployment: plan.deployment.clone(), url, programs })
}

/// Every container of every replica; a sidecar stands before what it serves.
fn instances(component: &Component) -> impl Iterator<Item = (&Container, u16)> {
    let replicas = 0..component.replicas;
    replicas.flat_map(move |replica| component.containers.iter().map(move |container| (container, replica)))
}

struct Fill<'a> {
    run_dir: &'a Path,
    secrets: &'a Secrets,
}

impl Fill<'_> {
    fn program(
        &self,
        plan: &Plan,
        component: &Component,
        container: &Container,
        replica: u16,
    ) -> Result<Program, LocalError> {
        let shared = container.kind != component.kind;
        let offset = if shared { 0 } else { replica };
        let name = names::program(container.kind, offset);
        let value = |value: &Value| self.value(value, container, &name, offset);
        let files = container.files.iter().map(|file| {
            let content = match &file.content {
                Content::Secret(reference) => self.secret(reference)?,
                Content::Text(text) => SecretText::new(text.clone()),
            };
            Ok(LocalFile { path: self.path(&name, file.name), content })
        });
        let number = |port: &str| container.port(port).unwrap_or_default() + offset;
        Ok(Program {
            command: container.command.clone(),
            args: container
                .args
                .iter()
                .map(|arg| value(arg).map(|text| text.expose().to_owned()))
                .collect::<Result<_, _>>()?,
            env: container
                .env
                .iter()
                .map(|var| Ok((var.name.to_owned(), value(&var.value)?)))
                .collect::<Result<_, _>>()?,
            files: files.collect::<Result<_, _>>()?,
            ports: container.ports.iter().map(|port| port.number + offset).collect(),
            probe: match container.probe {
                PlanProbe::Redis { port } => Probe::Redis { port: number(port) },
                PlanProbe::Http { port, path } => Probe::Http { port: number(port), path },
            },
            after: if shared { Vec::new() } else { after(plan, component) },
            drain_seconds: container.drain_seconds,
            name,
        })
    }

    fn value(
        &self,
        value: &Value,
        container: &Container,
        program: &str,
        offset: u16,
    ) -> Result<SecretText, LocalError> {
        Ok(match value {
            Value::Text(text) => SecretText::new(text.clone()),
            Value::Port(name) => {
                let number = container.port(name).unwrap_or_default() + offset;
                SecretText::new(number.to_string())
            }
            Value::Secret(reference) => self.secret(reference)?,
            Value::File(name) => SecretText::new(self.path(program, name).display().to_string()),
        })
    }

    /// Line ends around a secret come from editors and `kubectl create secret`, and break keys.
    fn secret(&self, reference: &SecretRef) -> Result<SecretText, LocalError> {
        let value = self.secrets.get(reference).ok_or_else(|| LocalError::FindSecret(reference.clone()))?;
        Ok(SecretText::new(value.expose().trim()))
    }

    fn path(&self, program: &str, file: &str) -> PathBuf {
        self.run_dir.join(program).join(file)
    }
}

/// Names of all programs of the components that this one needs.
fn after(plan: &Plan, component: &Component) -> Vec<String> {
    let needed = |kind: &ComponentKind| match kind {
        ComponentKind::LicenseProxy => vec![names::program(*kind, 0)],
        kind => {
            let found = plan.components.iter().filter(|other| other.kind == *kind);
            found.flat_map(|other| (0..other.replicas).map(|at| names::program(other.kind, at))).collect()
        }
    };
    component.needs.iter().flat_map(needed).collect()
}
