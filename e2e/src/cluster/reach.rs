//! How a client of a story reaches a Service: by its own address where this machine can, else through a tunnel.

use super::Space;
use super::space::is_ready;
use anyhow::Context;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use std::collections::BTreeMap;
use std::sync::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

/// Tunnels of a story; they end with it.
#[derive(Debug, Default)]
pub struct Forwards(Mutex<Vec<AbortHandle>>);

impl Drop for Forwards {
    fn drop(&mut self) {
        if let Ok(handles) = self.0.lock() {
            handles.iter().for_each(AbortHandle::abort);
        }
    }
}

/// Address of a Service's first port, `http://…`.
pub async fn service(space: &Space<'_>, name: &str, forwards: &Forwards) -> anyhow::Result<String> {
    let service = space.api::<Service>().get(name).await.with_context(|| format!("Service {name}"))?;
    let spec = service.spec.context("a Service has a spec")?;
    let port = spec.ports.as_ref().and_then(|ports| ports.first()).context("it has a port")?;
    if space.cluster.own {
        let address = spec.cluster_ip.context("it has an address")?;
        return Ok(format!("http://{address}:{}", port.port));
    }
    let target = match port.target_port.clone() {
        Some(k8s_openapi::apimachinery::pkg::util::intstr::IntOrString::Int(number)) => number,
        _ => port.port,
    };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let tunnel = Tunnel {
        pods: space.api(),
        labels: labels(&spec.selector.unwrap_or_default()),
        port: u16::try_from(target)?,
    };
    let task = tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let tunnel = tunnel.clone();
            tokio::spawn(async move { tunnel.carry(client).await });
        }
    });
    if let Ok(mut handles) = forwards.0.lock() {
        handles.push(task.abort_handle());
    }
    Ok(url)
}

/// The way to whichever pod of a Service is ready when a connection comes.
#[derive(Debug, Clone)]
struct Tunnel {
    pods: Api<Pod>,
    labels: String,
    port: u16,
}

impl Tunnel {
    async fn carry(&self, mut client: TcpStream) -> anyhow::Result<()> {
        let pods = self.pods.list(&ListParams::default().labels(&self.labels)).await?;
        let pod = pods.items.iter().find(|pod| is_ready(pod)).context("a pod of the Service is ready")?;
        let mut forward = self.pods.portforward(&pod.name_any(), &[self.port]).await?;
        let mut server = forward.take_stream(self.port).context("a stream to the pod")?;
        tokio::io::copy_bidirectional(&mut client, &mut server).await?;
        Ok(())
    }
}

/// What a program of a pod answers to `GET /metrics`. Through the pod itself, where no `NetworkPolicy` is asked.
pub async fn metrics(space: &Space<'_>, pod: &str, port: u16) -> anyhow::Result<String> {
    let mut forward = space.api::<Pod>().portforward(pod, &[port]).await?;
    let mut stream = forward.take_stream(port).context("a stream to the pod")?;
    // Version 1.0: the connection ends with the answer.
    stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

fn labels(selector: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
    pairs.join(",")
}
