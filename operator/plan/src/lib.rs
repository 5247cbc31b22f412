//! From a `SmallestDeployment` to what must run: text → read → validate → plan → local programs.
//!
//! ```text
//! resource file ──read──▶ Documents ─┐
//!                                    ├─validate──▶ Valid ──plan──▶ Plan { components, secrets, conditions }
//! secrets, place ──────────▶ Fetched ┘               ▲               │
//!                                   Observed, now ───┘               ├──▶ local::programs (`smallest up`)
//!                                                                    └──▶ desired: Kubernetes objects (the operator)
//! ```
//!
//! Everything here is pure: no clock, no file, no network, no randomness; they come in as arguments. After
//! [`validate`] nothing can fail for reasons of input. Names are made in `names` and nowhere else.

mod build;
mod component;
mod desired;
mod handover;
pub mod local;
mod names;
mod place;
mod plan;
mod quantity;
mod reading;
mod resource;
mod resources;
pub mod scale;
mod secret;
mod status;
mod url;
mod valid;
mod validate;

pub use component::{
    Component, ComponentKind, Container, Content, EnvVar, File, Port, Probe, Reload, Role, Value,
};
pub use desired::{Desired, desired};
pub use handover::held;
pub use names::redis_password_ref;
pub use place::{ClusterPlace, ImageSet, LocalPlace, Place};
pub use plan::{Condition, GeneratedSecret, Observed, Plan, plan};
pub use reading::{
    ComponentReading, GatewayReading, LicenseReading, QueueView, Reading, WorkerPhase, WorkerReading,
};
pub use resource::{Documents, ReadError, read};
pub use secret::{SecretRef, SecretText, Secrets};
pub use status::{ApplyFailure, ApplyFailureKind, Children, Found, Note, REASONS, look_again, notes, status};
pub use valid::Valid;
pub use validate::{Fetched, Invalid, secret_names, validate};
