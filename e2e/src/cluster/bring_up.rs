//! One cluster for the whole suite: found by `KUBECONFIG`, or brought up on this machine; the operator installed in it.

use super::helm::{Helm, Release};
use super::machine::{Brought, Machine};
use super::vendor::Vendor;
use super::{PATIENCE, wait};
use crate::repository;
use anyhow::Context;
use k8s_openapi::api::apps::v1::Deployment;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use std::sync::Mutex;

/// Where the operator lives.
pub const OPERATOR_NAMESPACE: &str = "smallest-system";
/// The operator's Deployment, its Lease, and the name of its release.
pub const OPERATOR: &str = "smallest-operator";
/// Replicas of the operator: one leads, one stands by.
const OPERATOR_REPLICAS: i32 = 2;

/// A cluster with the operator in it.
pub struct Cluster {
    /// Everything; the suite is an administrator.
    pub client: Client,
    /// `helm` of this cluster.
    pub helm: Helm,
    /// Who signs the licenses.
    pub vendor: Vendor,
    /// On this machine: its processes and its network can be reached.
    pub own: bool,
    tools: Vec<(String, String)>,
    machine: Mutex<Option<Machine>>,
}

/// A cluster, or why there can be none here.
pub enum Started {
    /// It is up.
    Up(Box<Cluster>),
    /// This machine can have none, and none was named.
    Missing(String),
}

impl Cluster {
    /// Finds or makes the cluster, and installs the operator; safe to run again on a cluster that was kept. In a
    /// cluster of others the images have been pushed or loaded before.
    pub async fn start() -> anyhow::Result<Started> {
        let named = std::env::var_os("KUBECONFIG").is_some_and(|path| !path.is_empty());
        let machine = if named {
            None
        } else {
            match tokio::task::spawn_blocking(Machine::bring_up).await?? {
                Brought::Up(machine) => Some(machine),
                Brought::Cannot(reason) => {
                    return Ok(Started::Missing(format!("{reason}; and KUBECONFIG names no cluster")));
                }
            }
        };
        let tools = machine.as_ref().map(|machine| machine.tools.clone()).unwrap_or_default();
        let cluster = Self {
            client: client(&tools).await?,
            helm: Helm::new(&tools),
            vendor: Vendor::at(&repository().join("target/e2e-cluster/vendor"))?,
            own: machine.is_some(),
            tools,
            machine: Mutex::new(machine),
        };
        cluster.install_operator().await?;
        Ok(Started::Up(Box::new(cluster)))
    }

    /// Values of the operator's release in tests.
    pub fn operator_values(&self) -> Vec<(&'static str, String)> {
        vec![
            ("replicas", OPERATOR_REPLICAS.to_string()),
            ("images.pullPolicy", "IfNotPresent".to_owned()),
            ("licenseTrustedKeys", self.vendor.trusted.clone()),
            // Synthesis has no released engine; its objects and its scaling are tested with the fake one.
            ("ttsEngine", "fake".to_owned()),
        ]
    }

    /// Installs the operator, or brings it back, and waits until it is there.
    pub async fn install_operator(&self) -> anyhow::Result<()> {
        let chart = repository().join("charts/smallest-operator");
        let release = Release { name: OPERATOR, namespace: OPERATOR_NAMESPACE, chart: &chart };
        self.helm.upgrade(&release, &self.operator_values()).await?;
        self.operator_rolled_out().await
    }

    /// Waits until every replica of the operator is of the current version and ready.
    pub async fn operator_rolled_out(&self) -> anyhow::Result<()> {
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), OPERATOR_NAMESPACE);
        wait::until(&api, OPERATOR, "the operator is rolled out", PATIENCE, |found| {
            found.is_some_and(wait::rolled_out)
        })
        .await?;
        Ok(())
    }

    /// A program such as `kubectl`, with the cluster's environment.
    pub fn tool(&self, program: &str) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(program);
        command.envs(self.tools.iter().cloned()).kill_on_drop(true);
        command
    }

    /// Ends a cluster of this machine, unless `E2E_KEEP` is set.
    pub fn stop(&self) -> anyhow::Result<()> {
        let machine = self.machine.lock().ok().and_then(|mut machine| machine.take());
        machine.map_or(Ok(()), |mut machine| machine.take_down())
    }
}

async fn client(tools: &[(String, String)]) -> anyhow::Result<Client> {
    let named = tools.iter().find(|(key, _)| key == "KUBECONFIG").map(|(_, path)| path.clone());
    let mut config = match named {
        Some(path) => {
            let file = Kubeconfig::read_from(&path).with_context(|| path.clone())?;
            Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?
        }
        None => Config::infer().await?,
    };
    // A loaded machine answers late; a story waits, and says so itself when it has waited too long.
    config.read_timeout = None;
    config.proxy_url = None;
    Ok(Client::try_from(config)?)
}
