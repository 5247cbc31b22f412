//! [`Plan`] → [`Desired`]: every Kubernetes object that a deployment owns. Pure, and the last step before apply.
//!
//! Whoever applies it adds nothing and leaves nothing out: namespace, labels and owner are set here. Objects come
//! in the order in which they are to be created.

mod config;
mod container;
mod disruption;
mod meta;
mod monitoring;
mod network;
mod pod;
mod probes;
mod scaling;
mod service;
mod storage;
mod volumes;
mod workload;

use std::fmt;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;

use crate::component::{Component, ComponentKind};
use crate::plan::Plan;
use crate::valid::{Valid, ValidRedis};

use pod::Source;

/// Every object of a deployment, one field for each kind.
#[derive(Clone, Default, PartialEq)]
pub struct Desired {
    /// Identity of the pods; without a token and without any right.
    pub service_accounts: Vec<ServiceAccount>,
    /// What the plan generated: password, address and configuration of the embedded Redis.
    pub secrets: Vec<Secret>,
    /// Configuration that is no secret.
    pub config_maps: Vec<ConfigMap>,
    /// Model caches. They have no owner: they stay when the deployment goes.
    pub persistent_volume_claims: Vec<PersistentVolumeClaim>,
    /// Addresses.
    pub services: Vec<Service>,
    /// The embedded Redis.
    pub stateful_sets: Vec<StatefulSet>,
    /// Gateway and workers.
    pub deployments: Vec<Deployment>,
    /// Scaling between one and the most replicas.
    pub horizontal_pod_autoscalers: Vec<HorizontalPodAutoscaler>,
    /// How many pods may be evicted at a time.
    pub pod_disruption_budgets: Vec<PodDisruptionBudget>,
    /// Who may talk to whom.
    pub network_policies: Vec<NetworkPolicy>,
    /// `ServiceMonitor` (monitoring.coreos.com/v1), a kind that is not part of Kubernetes itself.
    pub service_monitors: Vec<serde_json::Value>,
}

impl fmt::Debug for Desired {
    /// Secrets are in it: only numbers are shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desired")
            .field("secrets", &self.secrets.len())
            .field("services", &self.services.len())
            .field("deployments", &self.deployments.len())
            .finish_non_exhaustive()
    }
}

/// The objects of a plan. The same input gives the same objects; a plan for one machine has none.
pub fn desired(valid: &Valid, plan: &Plan) -> Desired {
    let Some(cluster) = valid.place.cluster() else { return Desired::default() };
    let source = Source { valid, plan, cluster };
    let of_redis = |component: &&Component| component.kind == ComponentKind::Redis;
    let redis = plan.components.iter().filter(of_redis);
    let serving = || plan.components.iter().filter(|component| !of_redis(component));
    let stateful_sets = match &valid.redis {
        ValidRedis::Embedded(embedded) => {
            redis.map(|component| workload::stateful_set(source, component, embedded)).collect()
        }
        ValidRedis::External { .. } => Vec::new(),
    };
    Desired {
        service_accounts: vec![service::service_account(valid)],
        secrets: config::secrets(valid, plan),
        config_maps: config::config_maps(valid, plan),
        persistent_volume_claims: valid
            .workers()
            .filter_map(|worker| storage::model_claim(valid, worker))
            .collect(),
        services: service::services(valid, plan),
        stateful_sets,
        deployments: serving().map(|component| workload::deployment(source, component)).collect(),
        horizontal_pod_autoscalers: serving()
            .filter_map(|component| scaling::autoscaler(valid, component))
            .collect(),
        pod_disruption_budgets: serving()
            .filter_map(|component| disruption::budget(valid, component))
            .collect(),
        network_policies: network::policies(source),
        service_monitors: monitoring::service_monitor(source).into_iter().collect(),
    }
}
