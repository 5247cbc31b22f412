//! The custom resource `SmallestDeployment` (group `smallest.ai`, version `v1`): types, schema and rules.
//!
//! Someone writes the resource; Kubernetes checks it against the schema made here (`crds/generated/`), and
//! `operator-plan` turns it into programs, under Kubernetes and in `smallest up` alike. A rule over several
//! fields stands beside its fields as CEL, with a message that says what to change; [`read`] refuses what an
//! apiserver refuses, where there is none. This crate is pure: no client, no runtime, no file.

#![expect(unreachable_pub, reason = "the expansion of KubeSchema holds a private copy of each struct")]

mod deployment;
mod gateway;
mod license;
mod pod;
mod read;
mod redis;
mod reference;
mod schedule;
mod status;
mod worker;

pub use deployment::{
    Image, ImagePullSecret, Images, Monitoring, NetworkPolicy, SmallestDeployment, SmallestDeploymentSpec,
};
pub use gateway::{ExternalTrafficPolicy, Gateway, GatewayAuth, GatewayLimits, GatewayService, ServiceType};
pub use license::{License, OfflineLicense};
pub use pod::{Lifecycle, PodOptions, Scaling, SecretKeyRef};
pub use read::{Problem, crd, read, reference};
pub use redis::{EmbeddedRedis, ExternalRedis, Persistence, Redis, RedisTls, Toggle};
pub use schedule::Schedule;
pub use status::{
    ComponentStatus, Endpoints, Fault, LicenseStatus, ModelStatus, QueueStatus, ScaleDecision,
    SmallestDeploymentStatus, StreamsStatus,
};
pub use worker::{
    AccessMode, Batch, Cache, Device, EmptyDirCache, Gpu, HostPathCache, Model, Precision, VolumeClaimCache,
    Worker,
};
