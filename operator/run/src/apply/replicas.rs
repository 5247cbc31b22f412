//! From a fixed number of replicas to scaling: the operator lets go of `spec.replicas`, and nobody else holds it yet.
//!
//! Server-side apply resets a field that its last manager no longer applies, here to one replica, under load. So the
//! number that runs is first applied under another name; the autoscaler takes it over from that with its first
//! change.

use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt as _;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

use super::Round;
use crate::index::{Kind, describe};

/// Who holds the number of replicas until an autoscaler does.
const HOLDER: &str = "smallest-operator-replicas";

impl Round<'_> {
    /// Hands the number of replicas over, where a Deployment no longer says it.
    pub(super) async fn keep_replicas(&mut self, deployments: &[Deployment]) {
        let owned = self.applier.index.owned(self.key);
        let live = self.applier.index.children(self.key).deployments;
        let lets_go = |deployment: &&Deployment| {
            let says = deployment.spec.as_ref().and_then(|spec| spec.replicas).is_some();
            let object = (Kind::Deployment, deployment.name_any());
            !says && owned.get(&object).is_some_and(|live| live.sets_replicas)
        };
        for deployment in deployments.iter().filter(lets_go) {
            let name = deployment.name_any();
            let now = live.iter().find(|live| live.name_any() == name);
            let Some(replicas) = now.and_then(|live| live.spec.as_ref()?.replicas) else { continue };
            if let Err(error) = self.hold(&name, replicas).await {
                self.fail(&describe(Kind::Deployment, &name), &error.into());
            }
        }
    }

    async fn hold(&self, name: &str, replicas: i32) -> kube::Result<()> {
        let api: Api<Deployment> = Api::namespaced(self.applier.client.clone(), &self.key.namespace);
        let number =
            json!({ "apiVersion": "apps/v1", "kind": "Deployment", "spec": { "replicas": replicas } });
        let params = PatchParams::apply(HOLDER).force();
        api.patch(name, &params, &Patch::Apply(&number)).await.map(drop)
    }
}
