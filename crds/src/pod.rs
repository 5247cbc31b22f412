//! Fields that several components share: where their pods run, how many, and how they end.

#![expect(clippy::struct_field_names, reason = "the unit stands last in names, as the Kubernetes API has it")]

use std::collections::BTreeMap;

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscalerBehavior;
use k8s_openapi::api::core::v1::{Affinity, PodSecurityContext, ResourceRequirements, Toleration};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schedule::Schedule;

/// One entry of a Secret in the namespace of the resource (under `smallest up`: in the same file).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Key of the entry. Each field that holds such a reference tells the key it takes by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub key: Option<String>,
}

/// Kubernetes' own options of a component's pods; `smallest up` has no use for them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodOptions {
    /// CPU and memory of the main container. GPUs are asked for in `gpu`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// Nodes the pods may run on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints the pods tolerate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
    /// Affinity; without it, pods spread over nodes and zones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// Priority class of the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority_class_name: Option<String>,
    /// Runtime class of the pods, such as `nvidia`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_class_name: Option<String>,
    /// Annotations added to the pods.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pod_annotations: BTreeMap<String, String>,
    /// Labels added to the pods.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pod_labels: BTreeMap<String, String>,
    /// Security context of the pods; the default is the restricted one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security_context: Option<PodSecurityContext>,
}

/// How a program starts and ends: asked to stop, it goes on taking work for `preStopSeconds`, then drains for
/// `drainSeconds`, and after `terminationGracePeriodSeconds` it is killed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "self.drainSeconds + self.preStopSeconds < self.terminationGracePeriodSeconds"
).message(
    "drainSeconds and preStopSeconds together must stay below terminationGracePeriodSeconds: raise the latter"
))]
pub struct Lifecycle {
    /// Longest time running work gets to finish after the request to stop, seconds.
    #[serde(default = "Lifecycle::default_drain")]
    #[schemars(range(min = 0, max = 3600))]
    pub drain_seconds: u32,
    /// Time for the endpoint to leave the load balancers before the program refuses new work, seconds. Workers have
    /// no endpoint, and do not wait.
    #[serde(default = "Lifecycle::default_pre_stop")]
    #[schemars(range(min = 0, max = 300))]
    pub pre_stop_seconds: u32,
    /// After this time the program is killed, seconds.
    #[serde(default = "Lifecycle::default_termination")]
    #[schemars(range(min = 1, max = 7200))]
    pub termination_grace_period_seconds: u32,
    /// Longest time from the start of a program until it is ready, downloads included, seconds; after it the program
    /// is started again. 1800 for workers and 300 for the gateway when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 10, max = 86_400))]
    pub startup_seconds: Option<u32>,
}

impl Lifecycle {
    fn default_drain() -> u32 {
        30
    }

    fn default_pre_stop() -> u32 {
        5
    }

    fn default_termination() -> u32 {
        60
    }
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self {
            drain_seconds: Self::default_drain(),
            pre_stop_seconds: Self::default_pre_stop(),
            termination_grace_period_seconds: Self::default_termination(),
            startup_seconds: None,
        }
    }
}

/// Scaling by load instead of a fixed number of replicas. `smallest up` runs `minReplicas`, at least one, at any time of
/// the day.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.minReplicas <= self.maxReplicas").message(
    "minReplicas must not be above maxReplicas: lower minReplicas or raise maxReplicas"
))]
#[x_kube(validation = Rule::new(
    "!has(self.schedules) || self.schedules.all(s, has(s.maxReplicas) || s.minReplicas <= self.maxReplicas)"
).message(
    "minReplicas of a schedule must not be above scaling.maxReplicas: lower it, or give the schedule a maxReplicas"
))]
#[x_kube(validation = Rule::new(
    "!has(self.schedules) || self.schedules.all(a, self.schedules.exists_one(b, b.name == a.name))"
).message("two schedules share a name: give each its own"))]
pub struct Scaling {
    /// Fewest replicas; 0 lets workers go to sleep after `idleSeconds`. A gateway, which would have nobody to wake it,
    /// keeps at least 1.
    #[serde(default = "Scaling::default_min")]
    #[schemars(range(min = 0, max = 10_000))]
    pub min_replicas: u32,
    /// Most replicas.
    #[serde(default = "Scaling::default_max")]
    #[schemars(range(min = 1, max = 10_000))]
    pub max_replicas: u32,
    /// Requests and streams, waiting ones included, that a replica should carry. Without it, workers are filled to
    /// four fifths of what they measured they can hold, and gateways to 70 percent of their limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub target_active_requests: Option<u32>,
    /// Requests and sessions that may wait for each worker; a gateway has no queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub target_queue_depth: Option<u32>,
    /// The number must be asked for during this time before replicas are added, seconds; 0 for workers and 30 for the
    /// gateway when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 3600))]
    pub scale_up_stabilization_window_seconds: Option<u32>,
    /// The number must be asked for during this time before replicas are removed, seconds; 300 for workers and 60 for
    /// the gateway when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 3600))]
    pub scale_down_stabilization_window_seconds: Option<u32>,
    /// Behaviour of the autoscaler in its own form; what it says goes before the windows above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behavior: Option<HorizontalPodAutoscalerBehavior>,
    /// With `minReplicas` 0: idle time before the last worker goes, seconds.
    #[serde(default = "Scaling::default_idle")]
    #[schemars(range(min = 10, max = 86_400))]
    pub idle_seconds: u32,
    /// Windows of time with bounds of their own. Of those that are open the one with the highest `minReplicas` holds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub schedules: Vec<Schedule>,
}

impl Scaling {
    fn default_min() -> u32 {
        1
    }

    fn default_max() -> u32 {
        10
    }

    fn default_idle() -> u32 {
        900
    }
}
