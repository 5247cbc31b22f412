//! `helm install`: the resource is known, one operator leads, and the cluster has its external metrics.

use anyhow::Context;
use e2e::cluster::bring_up::{OPERATOR, OPERATOR_NAMESPACE};
use e2e::cluster::{Cluster, PATIENCE, wait};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::Api;

pub(crate) async fn the_operator_serves_after_helm_install(cluster: &Cluster) -> anyhow::Result<()> {
    let definitions: Api<CustomResourceDefinition> = Api::all(cluster.client.clone());
    let definition = definitions.get("smallestdeployments.smallest.ai").await?;
    assert_eq!(definition.spec.names.short_names.as_deref(), Some(["sd".to_owned()].as_slice()));
    let subresources = definition.spec.versions.first().and_then(|version| version.subresources.clone());
    let subresources = subresources.context("the resource has subresources")?;
    assert!(subresources.status.is_some() && subresources.scale.is_some());

    let leases: Api<Lease> = Api::namespaced(cluster.client.clone(), OPERATOR_NAMESPACE);
    wait::until(&leases, OPERATOR, "one operator leads", PATIENCE, |lease| {
        lease.and_then(|lease| lease.spec.as_ref()?.holder_identity.as_ref()).is_some()
    })
    .await?;

    let services: Api<APIService> = Api::all(cluster.client.clone());
    wait::until(
        &services,
        "v1beta1.external.metrics.k8s.io",
        "external metrics are served",
        PATIENCE,
        |service| {
            let conditions =
                service.and_then(|service| service.status.as_ref()?.conditions.clone()).unwrap_or_default();
            conditions.iter().any(|condition| condition.type_ == "Available" && condition.status == "True")
        },
    )
    .await?;
    Ok(())
}
