//! A real cluster with the operator in it: what the stories of `tests/cluster` run against.
//!
//! Comes in: `KUBECONFIG`, or a machine where [`tools/cluster.sh`](bring_up) may start a throw-away cluster. Goes
//! out: one [`Cluster`] for all stories, and a [`Space`], a namespace of its own, for each. Whatever is waited for is
//! watched ([`wait`]); when a story fails, [`diagnosis`] says what its namespace looked like.

pub mod bring_up;
pub mod diagnosis;
pub mod exec;
pub mod helm;
pub mod load;
pub mod machine;
pub mod metric;
pub mod needs;
pub mod node;
pub mod reach;
pub mod resource;
pub mod space;
pub mod vendor;
pub mod wait;

pub use bring_up::{Cluster, OPERATOR_NAMESPACE, Started};
pub use space::{Namespaced, Space, in_namespace};

use std::time::Duration;

/// What a condition must need at most to tell of a fault.
pub const TOLD_WITHIN: Duration = Duration::from_secs(10);

/// Nothing that a story waits for takes longer.
pub const PATIENCE: Duration = Duration::from_mins(3);

/// Short enough to end with a namespace, and told in every message.
pub fn field_manager() -> kube::api::PatchParams {
    kube::api::PatchParams::apply("e2e").force()
}
