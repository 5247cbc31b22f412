//! The external metrics that autoscalers go by, read as they read them: through the apiserver.

use super::Space;
use crate::eventually;
use anyhow::Context;
use serde_json::Value;
use std::sync::Mutex;

/// A metric of one component of one deployment.
#[derive(Debug, Clone, Copy)]
pub struct Metric<'a> {
    /// Name of the deployment.
    pub deployment: &'a str,
    /// `gateway`, `asr` or `tts`.
    pub component: &'a str,
    /// Such as `smallest_load`.
    pub name: &'a str,
}

impl Metric<'_> {
    /// Its value now, as a quantity: `3`, `1500m`.
    pub async fn read(&self, space: &Space<'_>) -> anyhow::Result<String> {
        let Self { deployment, component, name } = self;
        let path = format!(
            "/apis/external.metrics.k8s.io/v1beta1/namespaces/{}/{name}?labelSelector=deployment%3D{deployment}%2Ccomponent%3D{component}",
            space.name,
        );
        let request = http::Request::get(path).body(Vec::new())?;
        let list: Value = space.cluster.client.request(request).await?;
        let value = list["items"].as_array().filter(|items| items.len() == 1).map(|items| &items[0]["value"]);
        Ok(value.and_then(Value::as_str).with_context(|| format!("one value, not {list}"))?.to_owned())
    }

    /// Waits until it has this value.
    pub async fn reaches(&self, space: &Space<'_>, value: &str) -> anyhow::Result<()> {
        let last = Mutex::new(None);
        let reached = eventually("an autoscaler's metric", || async {
            let found = self.read(space).await;
            let reached = found.as_ref().is_ok_and(|found| found == value);
            if let Ok(mut last) = last.lock() {
                *last = Some(found);
            }
            reached.then_some(())
        });
        reached.await.with_context(|| {
            format!("{self:?} of {} was to be {value}, and was at last {last:?}", space.name)
        })
    }
}
