//! A `SmallestDeployment` as it was read, and what of it is news. Pure.

use std::sync::Arc;

use crds::SmallestDeployment;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource as _;
use kube::core::DeserializeGuard;

/// A `SmallestDeployment` as the apiserver has it.
#[derive(Debug, Clone)]
pub(crate) enum Seen {
    /// It can be read.
    Valid(Arc<SmallestDeployment>),
    /// It cannot, though the apiserver let it pass: it was written for another version of the schema.
    Unreadable {
        /// Its metadata.
        metadata: Arc<ObjectMeta>,
        /// What does not fit.
        error: String,
    },
}

impl Seen {
    pub(crate) fn metadata(&self) -> &ObjectMeta {
        match self {
            Self::Valid(deployment) => deployment.meta(),
            Self::Unreadable { metadata, .. } => metadata,
        }
    }

    /// Is the other one worth a look? News of the status that is known already, and of the book-keeping of the
    /// apiserver, is not.
    pub(super) fn differs(&self, other: &Self) -> bool {
        !self.is_as(other)
            || matches!((self, other), (Self::Valid(a), Self::Valid(b)) if a.status != b.status)
    }

    /// Is the status all that the other one has anew?
    pub(super) fn differs_in_status_only(&self, other: &Self) -> bool {
        matches!(other, Self::Valid(_)) && self.is_as(other)
    }

    /// Does the other one say the same, status aside?
    fn is_as(&self, other: &Self) -> bool {
        let (mine, theirs) = (self.metadata(), other.metadata());
        let same_content = match (self, other) {
            (Self::Valid(a), Self::Valid(b)) => a.spec == b.spec,
            (Self::Unreadable { error: a, .. }, Self::Unreadable { error: b, .. }) => a == b,
            _ => false,
        };
        same_content
            && mine.uid == theirs.uid
            && mine.generation == theirs.generation
            && mine.deletion_timestamp == theirs.deletion_timestamp
            && mine.labels == theirs.labels
            && mine.annotations == theirs.annotations
    }
}

impl From<DeserializeGuard<SmallestDeployment>> for Seen {
    fn from(guard: DeserializeGuard<SmallestDeployment>) -> Self {
        match guard.0 {
            Ok(mut deployment) => {
                deployment.metadata.managed_fields = None;
                Self::Valid(Arc::new(deployment))
            }
            Err(mut invalid) => {
                invalid.metadata.managed_fields = None;
                Self::Unreadable { metadata: Arc::new(invalid.metadata), error: invalid.error }
            }
        }
    }
}
