//! A namespace of a story: made for it, looked into when it fails, deleted with it.

use super::resource::LICENSE;
use super::{Cluster, PATIENCE, diagnosis, field_manager, reach, wait};
use anyhow::Context;
use cli::args;
use crds::SmallestDeployment;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Namespace, Pod, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{DeleteParams, ListParams, Patch, PostParams};
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::fmt::Debug;
use std::time::Duration;

/// A license lasts longer than any run.
const LICENSE_DAYS: f64 = 30.0;

/// A kind of objects that live in a namespace and can be watched there.
pub trait Namespaced:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Send + DeserializeOwned + 'static
{
}

impl<K> Namespaced for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + Send
        + DeserializeOwned
        + 'static
{
}

/// A namespace of its own.
pub struct Space<'a> {
    /// The cluster.
    pub cluster: &'a Cluster,
    /// The namespace.
    pub name: String,
    forwards: reach::Forwards,
}

/// Runs a story in a namespace of its own, with a license in it. When it fails, the error tells what the namespace
/// looked like. The namespace goes away afterwards; `E2E_KEEP` keeps those of failed stories.
pub async fn in_namespace<T>(
    cluster: &Cluster,
    story: &str,
    body: impl AsyncFnOnce(&Space<'_>) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let space = Space::make(cluster, story).await?;
    let result = match space.license(LICENSE, &cluster.vendor.license(LICENSE_DAYS)?).await {
        Ok(()) => body(&space).await,
        Err(error) => Err(error),
    };
    let result = match result {
        Ok(told) => Ok(told),
        Err(error) => Err(anyhow::anyhow!("{error:#}\n{}", diagnosis::of(cluster, &space.name).await)),
    };
    if result.is_ok() || std::env::var_os("E2E_KEEP").is_none() {
        space.delete().await?;
    }
    result
}

impl<'a> Space<'a> {
    async fn make(cluster: &'a Cluster, story: &str) -> anyhow::Result<Self> {
        let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
        let made: Namespace = serde_json::from_value(json!({
            "metadata": {
                "generateName": format!("e2e-{story}-"),
                // What the pods of a deployment must satisfy everywhere.
                "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
            },
        }))?;
        let made = namespaces.create(&PostParams::default(), &made).await?;
        Ok(Self { cluster, name: made.name_any(), forwards: reach::Forwards::default() })
    }

    /// Deletes the namespace, if the story has not done so; it is gone some time later.
    async fn delete(&self) -> anyhow::Result<()> {
        let namespaces: Api<Namespace> = Api::all(self.cluster.client.clone());
        match namespaces.delete(&self.name, &DeleteParams::default()).await {
            Err(kube::Error::Api(answer)) if answer.code == 404 => Ok(()),
            result => result.map(|_| ()).context("the namespace can be deleted"),
        }
    }

    /// Deletes the namespace and waits until it is gone.
    pub async fn dissolve(&self) -> anyhow::Result<()> {
        self.delete().await?;
        let namespaces: Api<Namespace> = Api::all(self.cluster.client.clone());
        wait::until(&namespaces, &self.name, "the namespace is gone", PATIENCE, |found| found.is_none())
            .await?;
        Ok(())
    }

    /// All objects of a kind in this namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.cluster.client.clone(), &self.name)
    }

    /// Applies an object, given as the API takes it.
    pub async fn apply<K>(&self, object: &Value) -> anyhow::Result<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        let name = object["metadata"]["name"].as_str().context("the object has a name")?;
        let applied = self.api::<K>().patch(name, &field_manager(), &Patch::Apply(object)).await;
        applied.with_context(|| format!("{name} can be applied"))
    }

    /// Applies a `SmallestDeployment`.
    pub async fn deploy(&self, resource: &Value) -> anyhow::Result<SmallestDeployment> {
        self.apply(resource).await
    }

    /// Changes the spec of a `SmallestDeployment` by a merge patch.
    pub async fn change(&self, name: &str, spec: &Value) -> anyhow::Result<SmallestDeployment> {
        let patch = Patch::Merge(json!({"spec": spec}));
        Ok(self.api().patch(name, &kube::api::PatchParams::default(), &patch).await?)
    }

    /// Puts a license into a Secret.
    pub async fn license(&self, secret: &str, token: &str) -> anyhow::Result<()> {
        let object = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": secret},
            "stringData": {"license.jwt": token},
        });
        self.apply::<Secret>(&object).await.map(|_| ())
    }

    /// Waits until a deployment is ready with its current spec.
    pub async fn ready(&self, name: &str) -> anyhow::Result<SmallestDeployment> {
        self.told(name, "Ready").until("is True", PATIENCE, |condition| condition.status == "True").await?;
        Ok(self.api().get(name).await?)
    }

    /// A condition of a deployment, to wait for.
    pub fn told<'t>(&'t self, deployment: &'t str, type_: &'t str) -> Told<'t> {
        Told { space: self, deployment, type_ }
    }

    /// Waits until an object of any kind is as wanted.
    pub async fn until<K>(&self, name: &str, what: &str, wanted: impl Fn(&K) -> bool) -> anyhow::Result<K>
    where
        K: Namespaced + Serialize,
    {
        let found =
            wait::until(&self.api::<K>(), name, what, PATIENCE, |found| found.is_some_and(&wanted)).await?;
        found.with_context(|| what.to_owned())
    }

    /// Waits until an object is gone.
    pub async fn gone<K>(&self, name: &str) -> anyhow::Result<()>
    where
        K: Namespaced + Serialize,
    {
        wait::until(&self.api::<K>(), name, "it is gone", PATIENCE, |found| found.is_none()).await?;
        Ok(())
    }

    /// Pods of a component of a deployment that are not on their way out, oldest first.
    pub async fn pods(&self, name: &str, component: &str) -> anyhow::Result<Vec<Pod>> {
        let params = ListParams::default().labels(&selector(name, component));
        let mut pods = self.api::<Pod>().list(&params).await?.items;
        pods.retain(|pod| pod.metadata.deletion_timestamp.is_none());
        pods.sort_by_key(|pod| pod.metadata.creation_timestamp.clone());
        Ok(pods)
    }

    /// Waits until exactly `count` pods of a component are there and ready.
    pub async fn pods_ready(&self, name: &str, component: &str, count: usize) -> anyhow::Result<Vec<Pod>> {
        let what = format!("{count} pods of {name}'s {component} are ready");
        wait::until_all(&self.api::<Pod>(), &selector(name, component), &what, PATIENCE, |pods: &[&Pod]| {
            pods.len() == count && pods.iter().all(|pod| is_ready(pod))
        })
        .await
    }

    /// The gateway of a deployment as a client names it, through its Service.
    pub async fn service(&self, name: &str) -> anyhow::Result<args::Service> {
        let url = reach::service(self, &format!("{name}-gateway"), &self.forwards).await?;
        Ok(args::Service { url, api_key: None })
    }
}

/// Label selector of a component's pods.
pub fn selector(name: &str, component: &str) -> String {
    format!(
        "app.kubernetes.io/name=smallest,app.kubernetes.io/instance={name},app.kubernetes.io/component={component}"
    )
}

/// Is the pod ready, and not on its way out?
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready =
        conditions.is_some_and(|all| all.iter().any(|one| one.type_ == "Ready" && one.status == "True"));
    ready && pod.metadata.deletion_timestamp.is_none()
}

/// Has the scheduler found no node for the pod?
pub fn unschedulable(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref()).into_iter().flatten();
    conditions.into_iter().any(|one| one.type_ == "PodScheduled" && one.status == "False")
}

/// What the deletion of a pod costs, as the operator has written it; the cheapest goes first.
pub fn deletion_cost(pod: &Pod) -> i64 {
    let cost = pod.annotations().get("controller.kubernetes.io/pod-deletion-cost");
    cost.and_then(|cost| cost.parse().ok()).unwrap_or(0)
}

/// A condition of a deployment, to wait for.
pub struct Told<'a> {
    space: &'a Space<'a>,
    deployment: &'a str,
    type_: &'a str,
}

impl Told<'_> {
    /// Waits until the condition, told of the current spec, is as wanted; `what` says so for people.
    pub async fn until(
        &self,
        what: &str,
        within: Duration,
        wanted: impl Fn(&Condition) -> bool,
    ) -> anyhow::Result<Condition> {
        let Self { space, deployment: name, type_ } = self;
        let current = |deployment: &SmallestDeployment| {
            let conditions =
                deployment.status.as_ref().map(|status| status.conditions.clone()).unwrap_or_default();
            let found = wait::condition(&conditions, type_)?.clone();
            let seen = found.observed_generation >= deployment.metadata.generation;
            (seen && wanted(&found)).then_some(found)
        };
        let what = format!("{type_} of {name} {what}");
        let found = wait::until(&space.api::<SmallestDeployment>(), name, &what, within, |deployment| {
            deployment.is_some_and(|deployment| current(deployment).is_some())
        })
        .await?;
        found.as_ref().and_then(current).context(what)
    }
}
