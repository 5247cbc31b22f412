//! What a resource refers to: the Secrets that it names, and the one with the password of its Redis. Only gets, and
//! only of what changed: the watch of their metadata says which version there is, and a version is read once.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crds::SmallestDeployment;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, ResourceExt as _};
use operator_plan::{Invalid, Observed, SecretRef, SecretText, Secrets};
use tokio::time::Instant;

use crate::index::Index;
use crate::random;

/// An apiserver that has trouble for less than this is everyday life.
const PATIENCE: Duration = Duration::from_secs(10);

/// Reads what resources refer to.
pub(crate) struct Fetcher {
    client: Client,
    index: Index,
    /// By namespace and name: the version that was read, and its entries.
    read: Mutex<HashMap<(String, String), (String, Entries)>>,
    /// Since when a Secret, by namespace and name, cannot be read.
    failing: Mutex<HashMap<(String, String), Instant>>,
}

/// Entries of one Secret that are text.
type Entries = Vec<(String, SecretText)>;

/// What was read besides a resource.
#[derive(Debug)]
pub(crate) struct Found {
    /// The Secrets it names, those that are there.
    pub(crate) secrets: Secrets,
    /// Password of its Redis: the one it has, or a new one.
    pub(crate) observed: Observed,
}

/// Why something could not be read.
#[derive(Debug, thiserror::Error)]
#[error("failed to read Secret {name:?}")]
pub(crate) struct FetchError {
    /// Its name.
    name: String,
    /// Since when.
    since: Instant,
    /// What the apiserver said.
    #[source]
    pub(crate) source: kube::Error,
}

impl FetchError {
    /// What a status says of it: that a right is missing at once, anything else when it lasts. Where the apiserver does
    /// not answer at all, no status could be written either.
    pub(crate) fn told(&self) -> Option<Invalid> {
        let kube::Error::Api(status) = &self.source else { return None };
        let (name, message) = (self.name.clone(), status.message.clone());
        match status.code {
            401 | 403 => Some(Invalid::MayNotReadSecret { name, message }),
            _ if self.since.elapsed() >= PATIENCE => Some(Invalid::FetchSecret { name, message }),
            _ => None,
        }
    }
}

impl Fetcher {
    /// Reads through this client.
    pub(crate) fn new(client: Client, index: Index) -> Self {
        Self { client, index, read: Mutex::default(), failing: Mutex::default() }
    }

    /// Reads what the resource refers to.
    pub(crate) async fn fetch(&self, deployment: &SmallestDeployment) -> Result<Found, FetchError> {
        let namespace = deployment.namespace().unwrap_or_default();
        let mut secrets = Secrets::default();
        for name in operator_plan::secret_names(deployment) {
            let Some(entries) = self.secret(&namespace, &name).await? else { continue };
            for (key, value) in entries {
                secrets.insert(SecretRef { name: name.clone(), key }, value);
            }
        }
        let redis_password = self.redis_password(deployment, &namespace).await?;
        Ok(Found { secrets, observed: Observed { redis_password } })
    }

    /// Forgets what nobody names any more.
    pub(crate) fn tidy(&self) {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        read.retain(|(namespace, name), _| self.index.is_named(namespace, name));
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        failing.retain(|(namespace, name), _| self.index.is_named(namespace, name));
    }

    /// A Secret's entries; `None` when there is none.
    async fn secret(&self, namespace: &str, name: &str) -> Result<Option<Entries>, FetchError> {
        let id = (namespace.to_owned(), name.to_owned());
        let Some(version) = self.index.secret_version(namespace, name) else {
            self.read.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
            return Ok(None);
        };
        if let Some((known, entries)) = self.read.lock().unwrap_or_else(PoisonError::into_inner).get(&id)
            && *known == version
        {
            return Ok(Some(entries.clone()));
        }
        let Some(secret) = self.get(namespace, name).await? else { return Ok(None) };
        let version = secret.resource_version().unwrap_or_default();
        let entries = entries(secret);
        self.read.lock().unwrap_or_else(PoisonError::into_inner).insert(id, (version, entries.clone()));
        Ok(Some(entries))
    }

    async fn redis_password(
        &self,
        deployment: &SmallestDeployment,
        namespace: &str,
    ) -> Result<SecretText, FetchError> {
        let new = || SecretText::new(random::letters::<32>());
        if deployment.spec.redis.external.is_some() {
            return Ok(new());
        }
        let reference = operator_plan::redis_password_ref(&deployment.name_any());
        let mut found = self.secret(namespace, &reference.name).await?;
        if found.is_none() {
            // The watch may be behind: another password than the one in use would cut everybody off.
            found = self.get(namespace, &reference.name).await?.map(entries);
        }
        let password = found.into_iter().flatten().find(|(key, _)| *key == reference.key);
        Ok(password.map_or_else(new, |(_, password)| password))
    }

    async fn get(&self, namespace: &str, name: &str) -> Result<Option<Secret>, FetchError> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let found = api.get_opt(name).await;
        let id = (namespace.to_owned(), name.to_owned());
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        match found {
            Ok(found) => {
                failing.remove(&id);
                Ok(found)
            }
            Err(source) => {
                let since = *failing.entry(id).or_insert_with(Instant::now);
                Err(FetchError { name: name.to_owned(), since, source })
            }
        }
    }
}

/// Entries that are no text are of no use to any program here; validation says that they are missing.
fn entries(secret: Secret) -> Entries {
    let entries = secret.data.unwrap_or_default().into_iter();
    entries
        .filter_map(|(key, value)| Some((key, SecretText::new(String::from_utf8(value.0).ok()?))))
        .collect()
}
