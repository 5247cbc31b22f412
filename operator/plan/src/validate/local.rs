//! What only one machine has to be asked: where relative addresses start, and whether every program gets a port.

use std::collections::BTreeMap;
use std::path::{Component as Step, Path, PathBuf};

use crate::component::ComponentKind;
use crate::names;
use crate::place::Place;
use crate::valid::{Valid, ValidRedis};
use crate::validate::Invalid;

/// Makes a relative `file:` address absolute. `file:///…` and `https://…` stay as they are.
pub(super) fn locate(url: &str, place: &Place) -> Result<String, Invalid> {
    let Some(path) = url.strip_prefix("file:").filter(|path| !path.starts_with("//")) else {
        return Ok(url.to_owned());
    };
    match place {
        Place::Cluster(_) => Err(Invalid::LocateModel { url: url.to_owned() }),
        Place::Local(local) => Ok(format!("file://{}", normal(&local.base_dir.join(path)).display())),
    }
}

/// Resolves `.` and `..` by the text alone: this crate reads no file system.
fn normal(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut normal, step| {
        match step {
            Step::CurDir => {}
            Step::ParentDir => {
                normal.pop();
            }
            step => normal.push(step),
        }
        normal
    })
}

/// On one machine every program needs ports of its own.
pub(super) fn check_ports(valid: &Valid) -> Result<(), Invalid> {
    let mut taken: BTreeMap<u16, String> = BTreeMap::new();
    let mut claim = |port: u16, owner: String| match taken.insert(port, owner.clone()) {
        Some(first) => Err(Invalid::SharePort { port, first, second: owner }),
        None => Ok(()),
    };
    if let ValidRedis::Embedded(embedded) = &valid.redis {
        claim(embedded.port, "redis".to_owned())?;
    }
    claim(valid.license.port, "license-proxy".to_owned())?;
    claim(valid.gateway.port, "gateway".to_owned())?;
    if let Some(worker) = &valid.asr {
        for (what, first) in [("health", worker.port), ("metrics", worker.metrics_port)] {
            for replica in 0..worker.replicas {
                let port = first.checked_add(replica).ok_or(Invalid::NumberPorts {
                    component: "asr",
                    port: first,
                    replicas: worker.replicas,
                })?;
                claim(port, format!("{} ({what})", names::program(ComponentKind::Asr, replica)))?;
            }
        }
    }
    Ok(())
}
