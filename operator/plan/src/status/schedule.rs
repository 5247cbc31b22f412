//! Why the scheduler places a pod nowhere: from its message to what lacks, and what to do.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, PodCondition};

use super::container::name;
use super::reason;
use super::text::piece;
use super::trouble::Trouble;

/// A node gets this long to set a pod up before that counts as failing, seconds: volumes of clouds are attached first.
pub(super) const MOUNT_PATIENCE_SECONDS: i64 = 60;

/// A pod that has no node; `claims` are those of the deployment.
pub(super) fn trouble(pod: &Pod, placed: &PodCondition, claims: &[PersistentVolumeClaim]) -> Trouble {
    let pod_name = name(pod);
    let said = placed.message.as_deref().unwrap_or_default();
    if placed.reason.as_deref() == Some("SchedulingGated") {
        let text = format!("pod {pod_name} is held back by a scheduling gate of its own");
        return Trouble::waiting(reason::SCHEDULING_GATED, text);
    }
    // What preemption could not do either repeats the same.
    let said = said.split(" preemption:").next().unwrap_or_default();
    let said = said.split(" no new claims to deallocate").next().unwrap_or_default();
    if let Some(trouble) = volume(pod, said, claims) {
        return trouble;
    }
    let mut why = Vec::new();
    let lacking = lacking(said);
    if !lacking.is_empty() {
        let lacking = lacking.join(", ");
        why.push(format!("no node has enough free {lacking}; add nodes or ask for less"));
    }
    let taints = taints(said);
    if !taints.is_empty() {
        why.push(format!(
            "taints not tolerated: {}; add pod.tolerations, or use other nodes",
            taints.join(", ")
        ));
    }
    if said.contains("didn't match Pod's node affinity/selector") {
        why.push("no node has the labels asked for; correct pod.nodeSelector or pod.affinity".to_owned());
    }
    if why.is_empty() {
        why.push("no node takes it".to_owned());
    }
    let text = format!("pod {pod_name} cannot be placed: {} (scheduler: {})", why.join("; "), piece(said));
    Trouble::failing(reason::UNSCHEDULABLE, text)
}

/// The pod waits for a volume.
fn volume(pod: &Pod, said: &str, claims: &[PersistentVolumeClaim]) -> Option<Trouble> {
    let pod_name = name(pod);
    if said.contains("persistentvolumeclaim") && said.contains("not found") {
        let text = format!("pod {pod_name} cannot be placed: {}; create the claim", piece(said));
        return Some(Trouble::failing(reason::VOLUME_CLAIM_MISSING, text));
    }
    let waits = ["unbound immediate PersistentVolumeClaims", "available persistent volumes to bind"];
    if !waits.iter().any(|words| said.contains(words)) {
        return None;
    }
    let unbound: Vec<String> = claim_names(pod).filter_map(|claim| unbound(claim, claims)).collect();
    let which = if unbound.is_empty() { "a PersistentVolumeClaim".to_owned() } else { unbound.join(", ") };
    let text = format!(
        "pod {pod_name} cannot be placed: {which} has no volume; see kubectl describe pvc, and name a storage class \
         that the cluster has"
    );
    Some(Trouble::failing(reason::VOLUME_CLAIM_PENDING, text))
}

/// A pod that has a node, which has not set it up: the claims it waits for are named at once, anything else when it
/// lasts. `waits` seconds long.
pub(super) fn on_node(pod: &Pod, waits: i64, claims: &[PersistentVolumeClaim]) -> Option<Trouble> {
    let pod_name = name(pod);
    let unbound: Vec<String> = claim_names(pod).filter_map(|claim| unbound(claim, claims)).collect();
    if !unbound.is_empty() {
        let which = unbound.join(", ");
        let text = format!(
            "pod {pod_name} cannot start: {which} has no volume; see kubectl describe pvc, and give it one or name \
             another claim"
        );
        return Some(Trouble::failing(reason::VOLUME_CLAIM_PENDING, text));
    }
    if waits < MOUNT_PATIENCE_SECONDS {
        return None;
    }
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or("unknown");
    let claims: Vec<&str> = claim_names(pod).collect();
    let claims = if claims.is_empty() {
        String::new()
    } else {
        format!(" (it has PersistentVolumeClaim {})", claims.join(", "))
    };
    let text = format!(
        "pod {pod_name} is not set up on node {node}: a volume of it cannot be mounted{claims}, or its network is \
         missing; see the Events of kubectl describe pod {pod_name}"
    );
    Some(Trouble::failing(reason::VOLUME_NOT_MOUNTED, text))
}

fn claim_names(pod: &Pod) -> impl Iterator<Item = &str> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter_map(|volume| Some(volume.persistent_volume_claim.as_ref()?.claim_name.as_str()))
}

/// The claim and its storage class, when it is not bound.
fn unbound(claim: &str, claims: &[PersistentVolumeClaim]) -> Option<String> {
    let found = claims.iter().find(|found| found.metadata.name.as_deref() == Some(claim));
    let phase = found.and_then(|found| found.status.as_ref()?.phase.as_deref()).unwrap_or("Pending");
    let class = found.and_then(|found| found.spec.as_ref()?.storage_class_name.as_deref());
    let class = class
        .map_or_else(|| "the default storage class".to_owned(), |class| format!("storage class {class}"));
    (phase != "Bound").then(|| format!("PersistentVolumeClaim {claim} ({phase}, {class})"))
}

/// Resources that are short, such as `nvidia.com/gpu`, each once.
fn lacking(said: &str) -> Vec<&str> {
    let mut found: Vec<&str> = said
        .split("Insufficient ")
        .skip(1)
        .filter_map(|rest| rest.split([',', ' ']).next())
        .map(|resource| resource.trim_end_matches('.'))
        .filter(|resource| !resource.is_empty())
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// Taints that keep the pod away, as the scheduler writes them: `{key: value}`, each once.
fn taints(said: &str) -> Vec<&str> {
    let mut found: Vec<&str> = said
        .split("untolerated taint")
        .skip(1)
        .filter_map(|rest| {
            let from = rest.find('{')?;
            let to = rest.find('}')?;
            rest.get(from..=to)
        })
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedulers_words_are_read() {
        let said = "0/4 nodes are available: 1 Insufficient cpu, 1 Insufficient nvidia.com/gpu, 2 node(s) had \
            untolerated taint {nvidia.com/gpu: present}, 1 node(s) had untolerated taint \
            {node-role.kubernetes.io/control-plane: }.";
        assert_eq!(lacking(said), ["cpu", "nvidia.com/gpu"]);
        assert_eq!(taints(said), ["{node-role.kubernetes.io/control-plane: }", "{nvidia.com/gpu: present}"]);
        assert_eq!(lacking("1 Insufficient nvidia.com/mig-1g.10gb."), ["nvidia.com/mig-1g.10gb"]);
        assert!(lacking("Insufficient ").is_empty());
        assert!(taints("untolerated taint } {").is_empty());
    }
}
