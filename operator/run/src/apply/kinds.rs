//! `ServiceMonitor`: a kind that is not part of Kubernetes, made as its fields and nothing more.

use std::borrow::Cow;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::PartialObjectMeta;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::index::{Kind, Object};

/// `ServiceMonitor` of monitoring.coreos.com/v1.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ServiceMonitor {
    metadata: ObjectMeta,
    /// apiVersion, kind and spec, as the plan wrote them.
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl ServiceMonitor {
    /// Takes one from the plan.
    pub(crate) fn read(value: Value) -> Option<Self> {
        let read = serde_json::from_value(value);
        read.inspect_err(|error| tracing::error!(%error, "the plan has a ServiceMonitor without metadata"))
            .ok()
    }
}

impl Resource for ServiceMonitor {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        "ServiceMonitor".into()
    }

    fn group((): &()) -> Cow<'_, str> {
        "monitoring.coreos.com".into()
    }

    fn version((): &()) -> Cow<'_, str> {
        "v1".into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        "servicemonitors".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl Object for ServiceMonitor {
    const KIND: Option<Kind> = Some(Kind::ServiceMonitor);
}

impl Object for PartialObjectMeta<ServiceMonitor> {
    const KIND: Option<Kind> = Some(Kind::ServiceMonitor);
}
