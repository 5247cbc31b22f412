//! The common core of both appliers: components of containers, with everything a program needs to start.

use serde::Serialize;

use crate::scale::Bounds;
use crate::secret::SecretRef;

/// What a component is for. The order is the order of starting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ComponentKind {
    /// Where work waits.
    Redis,
    /// The license; a sidecar of those that serve.
    LicenseProxy,
    /// Speech recognition.
    Asr,
    /// Speech synthesis.
    Tts,
    /// What clients talk to.
    Gateway,
}

/// A set of equal replicas.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Component {
    /// What it is for.
    pub kind: ComponentKind,
    /// Name of its objects.
    pub name: String,
    /// How many; with scaling, how many to begin with.
    pub replicas: u16,
    /// In a cluster, between how many it scales at the instant of the plan.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bounds: Option<Bounds>,
    /// Components that must be ready before.
    pub needs: Vec<ComponentKind>,
    /// Sidecars first, then the main container.
    pub containers: Vec<Container>,
}

/// Whether a container is the component itself or serves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// The component itself.
    Main,
    /// Beside it in every pod; on one machine, one for all.
    Sidecar,
}

/// One program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Container {
    /// What it is for.
    pub kind: ComponentKind,
    /// Main or sidecar.
    pub role: Role,
    /// Executable.
    pub command: String,
    /// Arguments.
    pub args: Vec<Value>,
    /// Environment.
    pub env: Vec<EnvVar>,
    /// Files that it reads.
    pub files: Vec<File>,
    /// Ports that it listens on; under `smallest up` replica *n* adds *n* to each.
    pub ports: Vec<Port>,
    /// How to see that it is ready.
    pub probe: Probe,
    /// Longest time it may finish its work after SIGTERM, seconds.
    pub drain_seconds: u32,
}

/// A text that is known now, or when the program starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Value {
    /// Known now.
    Text(String),
    /// Number of a port of this container, by its name.
    Port(&'static str),
    /// An entry of a Secret.
    Secret(SecretRef),
    /// Path of a file of this container.
    File(&'static str),
}

/// A variable of the environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EnvVar {
    /// Its name.
    pub name: &'static str,
    /// Its value.
    pub value: Value,
}

/// A file, readable by the program alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct File {
    /// Its name.
    pub name: &'static str,
    /// Its content.
    pub content: Content,
    /// What a change of the content takes.
    pub reload: Reload,
}

/// Content of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Content {
    /// An entry of a Secret.
    Secret(SecretRef),
    /// A text that is no secret.
    Text(String),
}

/// What a change of a file takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Reload {
    /// The program is started again.
    Restart,
    /// The program looks for changes itself.
    Itself,
}

/// A port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Port {
    /// Its name.
    pub name: &'static str,
    /// Its number in the first replica.
    pub number: u16,
}

/// How to see that a program is ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Probe {
    /// Redis answers `PING` on this port, if only to ask for a password.
    Redis {
        /// Name of the port.
        port: &'static str,
    },
    /// `GET` is answered with a status of 200 to 299.
    Http {
        /// Name of the port.
        port: &'static str,
        /// Path.
        path: &'static str,
    },
}

impl Container {
    /// Number of a port in the first replica.
    pub fn port(&self, name: &str) -> Option<u16> {
        self.ports.iter().find(|port| port.name == name).map(|port| port.number)
    }
}

/// A variable whose value is known now.
pub(crate) fn text(name: &'static str, value: &(impl ToString + ?Sized)) -> EnvVar {
    EnvVar { name, value: Value::Text(value.to_string()) }
}
