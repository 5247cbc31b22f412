//! A resource file: one `SmallestDeployment`, and the Secrets that it refers to beside it.
//!
//! Under Kubernetes the documents of the file are objects of their own; `smallest up` finds them all here.

use serde::Deserialize as _;
use serde_json::Value;

use crds::{Problem, SmallestDeployment};

use crate::secret::{SecretRef, SecretText, Secrets};

/// A file with more documents than this is no resource file.
const MAX_DOCUMENTS: usize = 64;

/// What a resource file holds.
#[derive(Debug, Clone)]
pub struct Documents {
    /// The one deployment.
    pub deployment: SmallestDeployment,
    /// The Secrets beside it.
    pub secrets: Secrets,
}

/// Why a resource file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// No YAML.
    #[error("failed to read the resource as YAML")]
    ParseYaml(#[source] serde_yaml::Error),
    /// Not exactly one deployment.
    #[error("failed to find one SmallestDeployment (apiVersion smallest.ai/v1): the file has {found}")]
    CountDeployments {
        /// How many there are.
        found: usize,
    },
    /// A document of a kind that has no meaning here.
    #[error("failed to read a document of kind {kind:?}: only SmallestDeployment and Secret are understood")]
    ReadKind {
        /// The kind.
        kind: String,
    },
    /// A Secret whose entries cannot be used.
    #[error("failed to read Secret {name:?}: {message}")]
    ReadSecret {
        /// Its name.
        name: String,
        /// What is wrong.
        message: &'static str,
    },
    /// The deployment breaks its schema.
    #[error("failed to accept the resource:{}", list(problems))]
    CheckSchema {
        /// Everything that is wrong.
        problems: Vec<Problem>,
    },
    /// Too many documents.
    #[error("failed to read the resource: it has more than {MAX_DOCUMENTS} documents")]
    CountDocuments,
}

impl ReadError {
    /// A stable word for conditions, metrics and logs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::ParseYaml(_) => "InvalidYaml",
            Self::CountDeployments { .. } => "NotOneDeployment",
            Self::ReadKind { .. } => "UnknownKind",
            Self::ReadSecret { .. } => "InvalidSecret",
            Self::CheckSchema { .. } => "InvalidSpec",
            Self::CountDocuments => "TooManyDocuments",
        }
    }
}

fn list(problems: &[Problem]) -> String {
    problems.iter().fold(String::new(), |text, problem| format!("{text}\n  - {problem}"))
}

/// Reads the text of a resource file.
pub fn read(text: &str) -> Result<Documents, ReadError> {
    let mut secrets = Secrets::default();
    let mut deployments = Vec::new();
    for (at, document) in serde_yaml::Deserializer::from_str(text).enumerate() {
        if at == MAX_DOCUMENTS {
            return Err(ReadError::CountDocuments);
        }
        let value = Value::deserialize(document).map_err(ReadError::ParseYaml)?;
        match value["kind"].as_str() {
            _ if value.is_null() => {}
            Some("SmallestDeployment") => deployments.push(value),
            Some("Secret") => read_secret(&value, &mut secrets)?,
            kind => return Err(ReadError::ReadKind { kind: kind.unwrap_or_default().to_owned() }),
        }
    }
    let [deployment] = deployments.as_slice() else {
        return Err(ReadError::CountDeployments { found: deployments.len() });
    };
    let deployment = crds::read(deployment).map_err(|problems| ReadError::CheckSchema { problems })?;
    Ok(Documents { deployment, secrets })
}

/// Takes `stringData`, which is plain text, and `data`, which is base64 of text.
fn read_secret(secret: &Value, secrets: &mut Secrets) -> Result<(), ReadError> {
    let name = secret["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let refuse = |message| ReadError::ReadSecret { name: name.clone(), message };
    if name.is_empty() {
        return Err(refuse("metadata.name is missing"));
    }
    for (field, encoded) in [("data", true), ("stringData", false)] {
        for (key, value) in secret[field].as_object().into_iter().flatten() {
            let text = value.as_str().ok_or_else(|| refuse("every entry must be text"))?;
            let text = if encoded {
                decode(text).ok_or_else(|| refuse("entries of data must be base64 of text"))?
            } else {
                text.to_owned()
            };
            secrets.insert(SecretRef { name: name.clone(), key: key.clone() }, SecretText::new(text));
        }
    }
    Ok(())
}

fn decode(text: &str) -> Option<String> {
    let quoted = Value::String(text.trim().to_owned());
    let bytes: k8s_openapi::ByteString = serde_json::from_value(quoted).ok()?;
    String::from_utf8(bytes.0).ok()
}
