//! Objects of one kind, by name, as small as they can be kept. Pure.
//!
//! A type of the Kubernetes API has room for every field there is: a Deployment of which status reads ten fields
//! takes kilobytes. As JSON, absent fields take nothing; what is kept of a thousand deployments is a few megabytes.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Objects by name.
#[derive(Debug)]
pub(super) struct Shelf<T> {
    objects: BTreeMap<Box<str>, Box<[u8]>>,
    of: PhantomData<fn() -> T>,
}

impl<T> Default for Shelf<T> {
    fn default() -> Self {
        Self { objects: BTreeMap::new(), of: PhantomData }
    }
}

impl<T: Serialize + DeserializeOwned> Shelf<T> {
    /// Puts an object there; true when it differs from the one before in what `plain` leaves of both.
    pub(super) fn put(&mut self, name: String, object: &T, plain: fn(&T) -> Option<T>) -> bool {
        let new = write(object);
        let known = self.objects.get(name.as_str());
        if known.is_some_and(|known| **known == *new) {
            return false;
        }
        let same = known.and_then(|known| read::<T>(known)).is_some_and(|known| {
            matches!((plain(&known), plain(object)), (Some(known), Some(new)) if write(&known) == write(&new))
        });
        self.objects.insert(name.into_boxed_str(), new);
        !same
    }

    /// Takes an object away.
    pub(super) fn remove(&mut self, name: &str) {
        self.objects.remove(name);
    }

    /// Names of all.
    pub(super) fn names(&self) -> Vec<String> {
        self.objects.keys().map(|name| String::from(&**name)).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// All, by name.
    pub(super) fn read(&self) -> impl Iterator<Item = T> {
        self.objects.values().filter_map(|object| read(object))
    }
}

/// What the apiserver sent can be written again; an object that cannot would differ from nothing.
fn write(object: &impl Serialize) -> Box<[u8]> {
    serde_json::to_vec(object).unwrap_or_default().into_boxed_slice()
}

fn read<T: DeserializeOwned>(object: &[u8]) -> Option<T> {
    serde_json::from_slice(object).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    type Pair = (u32, u32);

    #[test]
    fn what_is_put_comes_back_and_only_what_counts_is_news() {
        let mut shelf = Shelf::<Pair>::default();
        let cases = [
            ((1, 1), true, "new"),
            ((1, 1), false, "the same"),
            ((1, 2), false, "kept, and no news"),
            ((2, 2), true, "another"),
        ];
        for (pair, news, why) in cases {
            assert_eq!(shelf.put("a".to_owned(), &pair, |pair| Some((pair.0, 0))), news, "{why}");
            assert_eq!(shelf.read().collect::<Vec<_>>(), [pair], "{why}");
        }
        assert!(shelf.put("b".to_owned(), &(3, 3), |_| None));
        assert!(shelf.put("b".to_owned(), &(3, 4), |_| None), "every difference counts");
        assert_eq!(shelf.names(), ["a", "b"]);
        shelf.remove("a");
        shelf.remove("b");
        assert!(shelf.is_empty());
    }
}
