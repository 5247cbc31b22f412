//! CPU and memory that pods ask for when the resource does not say: what others publish of the product, made safe.
//!
//! There is no CPU limit: being held back for tenths of a second is what streams notice first.

use std::collections::BTreeMap;

use crds::Gpu;
use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::component::ComponentKind;
use crate::quantity;
use crate::valid::{Valid, ValidRedis};

/// Resources of a component's main container, GPUs included.
pub(crate) fn main(valid: &Valid, kind: ComponentKind) -> ResourceRequirements {
    match kind {
        ComponentKind::Redis => match &valid.redis {
            ValidRedis::Embedded(embedded) => embedded.resources.clone(),
            ValidRedis::External { .. } => None,
        }
        .unwrap_or_else(|| ask("100m", "256Mi", "2Gi")),
        ComponentKind::LicenseProxy => {
            valid.license.resources.clone().unwrap_or_else(|| ask("10m", "32Mi", "256Mi"))
        }
        ComponentKind::Gateway => {
            valid.gateway.pod.resources.clone().unwrap_or_else(|| ask("100m", "256Mi", "2Gi"))
        }
        ComponentKind::Asr | ComponentKind::Tts => worker(valid, kind),
    }
}

/// Memory limit of a component's main container, bytes.
pub(crate) fn memory_limit(valid: &Valid, kind: ComponentKind) -> Option<u64> {
    quantity::bytes(main(valid, kind).limits?.get("memory")?)
}

fn worker(valid: &Valid, kind: ComponentKind) -> ResourceRequirements {
    let worker = valid.worker(kind);
    let gpu = worker.and_then(|worker| worker.gpu.as_ref());
    let given = worker.and_then(|worker| worker.pod.resources.clone());
    let mut resources = given.unwrap_or_else(|| match gpu {
        Some(_) => ask("2", "10Gi", "12Gi"),
        None => ask("500m", "1Gi", "4Gi"),
    });
    if let Some(Gpu { count, resource_name }) = gpu {
        // The scheduler wants both to be the same.
        for map in [&mut resources.limits, &mut resources.requests] {
            map.get_or_insert_default().insert(resource_name.clone(), Quantity(count.to_string()));
        }
    }
    resources
}

fn ask(cpu: &str, memory: &str, most_memory: &str) -> ResourceRequirements {
    let map = |entries: &[(&str, &str)]| -> BTreeMap<String, Quantity> {
        entries.iter().map(|(name, value)| ((*name).to_owned(), Quantity((*value).to_owned()))).collect()
    };
    ResourceRequirements {
        requests: Some(map(&[("cpu", cpu), ("memory", memory)])),
        limits: Some(map(&[("memory", most_memory)])),
        ..ResourceRequirements::default()
    }
}
