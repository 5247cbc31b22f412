//! `spec.license`: which license, and who vouches for it.

use k8s_openapi::api::core::v1::ResourceRequirements;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::pod::SecretKeyRef;

/// The license of the deployment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.secretRef) != has(self.offline)").message(
    "name exactly one license: secretRef (a key that the license server checks) or offline (a signed license)"
))]
pub struct License {
    /// License key, checked with `server`; the Secret's entry is `license-key` unless `key` says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretKeyRef>,
    /// Signed license that needs no server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offline: Option<OfflineLicense>,
    /// License server, used with `secretRef`.
    #[serde(default = "License::default_server")]
    #[schemars(length(max = 2048), regex(pattern = r"^https?://[^\s]+$"))]
    pub server: String,
    /// How long a validated license keeps working while the server cannot be reached, seconds.
    #[serde(default = "License::default_grace")]
    #[schemars(range(min = 0, max = 2_592_000))]
    pub grace_period_seconds: u32,
    /// Port of the license proxies.
    #[serde(default = "License::default_port")]
    #[schemars(range(min = 1024, max = 65_535))]
    pub port: u16,
    /// CPU and memory of the license proxies, which stand beside every gateway and worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
}

/// A signed license, as a vendor issues it for sites without a way out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OfflineLicense {
    /// Where it is; the Secret's entry is `license.jwt` unless `key` says otherwise.
    pub secret_ref: SecretKeyRef,
}

impl License {
    fn default_server() -> String {
        "https://api.smallest.ai".to_owned()
    }

    fn default_grace() -> u32 {
        86_400
    }

    fn default_port() -> u16 {
        6699
    }
}
