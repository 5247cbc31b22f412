//! Secret values, and references to them. A value never appears in logs, plans printed, or debug output.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Serialize, Serializer};

/// What is shown instead of a secret.
const HIDDEN: &str = "(hidden)";

/// A secret value; printing and serializing it hide it.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(String);

impl SecretText {
    /// Takes a value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself, for whoever must hand it to a program.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl Serialize for SecretText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(HIDDEN)
    }
}

/// One entry of a Secret.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct SecretRef {
    /// Name of the Secret.
    pub name: String,
    /// Key of the entry.
    pub key: String,
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.name, self.key)
    }
}

/// Secrets by name and key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Secrets(BTreeMap<String, BTreeMap<String, SecretText>>);

impl Secrets {
    /// Adds an entry; the later of two wins.
    pub fn insert(&mut self, reference: SecretRef, value: SecretText) {
        self.0.entry(reference.name).or_default().insert(reference.key, value);
    }

    /// An entry.
    pub fn get(&self, reference: &SecretRef) -> Option<&SecretText> {
        self.0.get(&reference.name)?.get(&reference.key)
    }

    /// Those of these names.
    #[must_use]
    pub fn of(&self, names: &BTreeSet<String>) -> Self {
        let wanted = self.0.iter().filter(|(name, _)| names.contains(*name));
        Self(wanted.map(|(name, entries)| (name.clone(), entries.clone())).collect())
    }

    /// Keys of a Secret, if it is there.
    pub fn keys(&self, name: &str) -> Option<Vec<&str>> {
        self.0.get(name).map(|entries| entries.keys().map(String::as_str).collect())
    }
}
