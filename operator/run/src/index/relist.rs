//! What a list named, between its begin and its end. Pure.

use std::collections::HashSet;

use crate::scale::Key;

/// Names of the objects that a list named, each with its deployment (or its namespace, for Secrets).
#[derive(Debug, Default)]
pub(crate) struct Relist(HashSet<(Key, String)>);

impl Relist {
    /// The list names this one.
    pub(crate) fn add(&mut self, key: Key, name: String) {
        self.0.insert((key, name));
    }

    /// Did the list name it?
    pub(crate) fn has(&self, key: &Key, name: &str) -> bool {
        self.0.contains(&(key.clone(), name.to_owned()))
    }
}
