//! One container of a pod, as the kubelet reports it → what keeps it from being ready.
//!
//! A container that keeps ending is reported as running for some seconds in every round, and an image that cannot
//! be pulled as failing and as waiting in turns: both give one and the same trouble here, so that the status does
//! not follow every turn.

use k8s_openapi::api::core::v1::{Container, ContainerStateTerminated, ContainerStatus, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::probed::{KILLED, StartedTooSlowly, started_too_slowly};
use super::reason;
use super::text::piece;
use super::trouble::Trouble;
use crate::component::ComponentKind;
use crate::names;

/// A readiness probe gets this long after a program has started before it counts as failing, seconds.
pub(super) const PATIENCE_SECONDS: i64 = 10;

/// Exit codes of programs that Kubernetes asked to stop: ended well, or by SIGTERM.
const STOPPED: [i32; 2] = [0, 143];

/// A container and where it stands.
#[derive(Clone, Copy)]
pub(super) struct Seat<'a> {
    pub(super) kind: ComponentKind,
    pub(super) pod: &'a Pod,
    pub(super) status: &'a ContainerStatus,
}

/// What keeps a container from being ready; `None` when it is, or when it waits for another of its pod.
pub(super) fn trouble(seat: Seat<'_>, now: &Time) -> Option<Trouble> {
    let status = seat.status;
    if status.ready {
        return None;
    }
    let state = status.state.as_ref();
    if let Some(waiting) = state.and_then(|state| state.waiting.as_ref()) {
        let message = waiting.message.as_deref().unwrap_or_default();
        return seat.waiting(waiting.reason.as_deref().unwrap_or_default(), message);
    }
    if let Some(ended) = ended(status) {
        return Some(seat.ended(ended));
    }
    let running = state.and_then(|state| state.running.as_ref());
    let probed = running.is_some() && status.started == Some(true);
    if probed && age_seconds(status, now).is_none_or(|age| age >= PATIENCE_SECONDS) {
        return Some(Trouble::failing(
            reason::PROBE_FAILING,
            format!("{seat} runs, but its readiness probe fails; {}", seat.logs()),
        ));
    }
    Some(Trouble::waiting(reason::POD_STARTING, format!("{seat} is starting")))
}

/// Seconds since the container's program started.
pub(super) fn age_seconds(status: &ContainerStatus, now: &Time) -> Option<i64> {
    let started = status.state.as_ref()?.running.as_ref()?.started_at.as_ref()?;
    Some(now.0.duration_since(started.0).as_secs())
}

/// How a container that is not ready has last ended.
fn ended(status: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    let now = status.state.as_ref().and_then(|state| state.terminated.as_ref());
    let before = status.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    // A node that came back knows no more than that the container is gone.
    now.or(before).filter(|ended| ended.reason.as_deref() != Some("ContainerStatusUnknown"))
}

impl std::fmt::Display for Seat<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "container {} of pod {}", self.status.name, name(self.pod))
    }
}

impl Seat<'_> {
    /// The kubelet has not started it. Reasons are those of kubelet's `kuberuntime` and `images`.
    fn waiting(self, reason: &str, message: &str) -> Option<Trouble> {
        match reason {
            // Its turn comes after the init containers, which speak for themselves.
            "PodInitializing" => None,
            "InvalidImageName" => Some(Trouble::failing(
                reason::IMAGE_NAME_INVALID,
                format!("{self} has the image name {:?}, which is none; correct spec.images", self.image()),
            )),
            "ErrImagePull"
            | "ImagePullBackOff"
            | "ErrImageNeverPull"
            | "ImageInspectError"
            | "RegistryUnavailable"
            | "SignatureValidationFailed" => Some(self.image_pull(reason, message)),
            "CreateContainerConfigError" => Some(self.config(message)),
            "CreateContainerError"
            | "RunContainerError"
            | "PostStartHookError"
            | "PreCreateHookError"
            | "PreStartHookError" => Some(self.start(message)),
            _ => Some(match ended(self.status) {
                Some(ended) => self.ended(ended),
                None => Trouble::waiting(
                    reason::POD_STARTING,
                    format!(
                        "{self} is being created: its image is pulled, its volumes are mounted; {}",
                        self.describe()
                    ),
                ),
            }),
        }
    }

    fn image_pull(self, reason: &str, message: &str) -> Trouble {
        let image = self.image();
        if reason == "ErrImageNeverPull" {
            let text =
                format!("{self} needs the image {image:?}, which its node lacks and may not pull; load it");
            return Trouble::failing(reason::IMAGE_PULL_FAILED, text);
        }
        // The words of the container runtime stand at the end of the chain.
        let cause = message.rsplit_once(" desc = ").map_or(message, |(_, cause)| cause);
        let cause = if cause.starts_with("Back-off pulling image") { "" } else { cause };
        let text = match piece(cause) {
            cause if cause.is_empty() => format!("{self} cannot pull the image {image:?}"),
            cause => format!("{self} cannot pull the image {image:?}; {}: {cause}", pull_advice(&cause)),
        };
        Trouble::failing(reason::IMAGE_PULL_FAILED, text)
    }

    fn config(self, message: &str) -> Trouble {
        let said = piece(message);
        let (reason, advice) = if said.contains("find key") {
            (reason::SECRET_KEY_MISSING, "add the key")
        } else if said.starts_with("secret ") && said.ends_with("not found") {
            (reason::SECRET_MISSING, "create the Secret")
        } else {
            (reason::CONTAINER_CONFIG_INVALID, "the pod cannot be made like this")
        };
        Trouble::failing(reason, format!("{self} cannot be made: {said}; {advice}"))
    }

    fn start(self, message: &str) -> Trouble {
        let said = piece(message);
        // The limit is too low even for the container runtime's own first process.
        if said.contains("OOM-killed") {
            return self.out_of_memory();
        }
        Trouble::failing(reason::CONTAINER_START_FAILED, format!("{self} cannot start: {said}"))
    }

    /// It has run and ended, and is not ready again.
    fn ended(self, ended: &ContainerStateTerminated) -> Trouble {
        let word = ended.reason.as_deref().unwrap_or_default();
        let said = last_words(ended.message.as_deref().unwrap_or_default());
        let code = ended.exit_code;
        if word == "OOMKilled" {
            return self.out_of_memory();
        }
        if matches!(word, "StartError" | "ContainerCannotRun") {
            return self.start(&said);
        }
        // A program that is killed still has last words: the kubelet takes them from its log.
        let by_kubernetes = STOPPED.contains(&code) || code == KILLED;
        if let Some(slow) = self.started_too_slowly(ended).filter(|_| by_kubernetes) {
            return self.slow_start(slow, (code, &said));
        }
        if STOPPED.contains(&code) {
            let text = format!(
                "{self} was stopped and started again (exit code {code}), as happens when its startup or liveness \
                 probe fails; {}",
                self.describe()
            );
            return Trouble::failing(reason::PROBE_FAILING, text);
        }
        let text = match (said.is_empty(), code) {
            (false, _) => format!("{self} keeps ending with exit code {code}: {said}"),
            (true, KILLED) => format!("{self} was killed (exit code 137); {}", self.describe()),
            (true, _) => format!("{self} keeps ending with exit code {code}; {} --previous", self.logs()),
        };
        Trouble::failing(reason::CRASH_LOOP, text)
    }

    fn started_too_slowly(&self, ended: &ContainerStateTerminated) -> Option<StartedTooSlowly> {
        started_too_slowly(self.pod.spec.as_ref()?, self.container()?, ended)
    }

    /// The kubelet waited as long as the startup probe lets it.
    fn slow_start(
        self,
        StartedTooSlowly { budget, grace }: StartedTooSlowly,
        (code, said): (i32, &str),
    ) -> Trouble {
        let end = if code == KILLED {
            format!("was killed (exit code {code}), for it did not end within {grace} s either")
        } else {
            format!("was stopped and started again (exit code {code})")
        };
        let advice = match self.kind {
            _ if self.status.name != names::component(self.kind) => "",
            ComponentKind::Gateway => "or give it more time in spec.gateway.lifecycle.startupSeconds",
            ComponentKind::Asr => "or give it more time in spec.asr.lifecycle.startupSeconds",
            ComponentKind::Tts => "or give it more time in spec.tts.lifecycle.startupSeconds",
            ComponentKind::Redis | ComponentKind::LicenseProxy => "",
        };
        let said = if said.is_empty() { String::new() } else { format!(" (its last words: {said})") };
        let separator = if advice.is_empty() { "" } else { ", " };
        let text = format!(
            "{self} was not ready {budget} s after its start, when its startup probe gave up: it {end}{said}; \
             {} --previous for what it waited for{separator}{advice}",
            self.logs()
        );
        Trouble::failing(reason::PROBE_FAILING, text)
    }

    fn out_of_memory(self) -> Trouble {
        let limit = self
            .container()
            .and_then(|container| container.resources.as_ref()?.limits.as_ref()?.get("memory"));
        let over = limit.map_or_else(
            || "its node had no memory left for it".to_owned(),
            |limit| format!("it went over its memory limit of {}", limit.0),
        );
        let advice = match self.kind {
            _ if self.status.name != names::component(self.kind) => "raise the limit",
            ComponentKind::Gateway => "raise spec.gateway.pod.resources.limits.memory",
            ComponentKind::Asr => "raise spec.asr.pod.resources.limits.memory, or lower spec.asr.slots",
            ComponentKind::Tts => "raise spec.tts.pod.resources.limits.memory, or lower spec.tts.slots",
            ComponentKind::Redis => "raise spec.redis.embedded.resources.limits.memory",
            ComponentKind::LicenseProxy => "raise the limit",
        };
        Trouble::failing(reason::OOM_KILLED, format!("{self} was killed: {over}; {advice}"))
    }

    /// The container as the pod asks for it.
    fn container(&self) -> Option<&Container> {
        let spec = self.pod.spec.as_ref()?;
        let all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
        all.into_iter().find(|container| container.name == self.status.name)
    }

    /// The image that the pod asks for; the kubelet's status has another form of it.
    fn image(&self) -> &str {
        let asked = self.container().and_then(|container| container.image.as_deref());
        asked.unwrap_or(&self.status.image)
    }

    fn describe(&self) -> String {
        let namespace = self.pod.metadata.namespace.as_deref().unwrap_or("default");
        format!("see kubectl describe pod -n {namespace} {}", name(self.pod))
    }

    fn logs(&self) -> String {
        let namespace = self.pod.metadata.namespace.as_deref().unwrap_or("default");
        format!("see kubectl logs -n {namespace} {} -c {}", name(self.pod), self.status.name)
    }
}

/// Name of a pod.
pub(super) fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or("without a name")
}

/// What a program said last. Kubernetes hands over the end of its log: an error as `main` prints it, with its
/// causes, or else the last line, without its time, which is another one at each attempt.
fn last_words(log: &str) -> String {
    if let Some(at) = log.rfind("Error: ").filter(|at| log[..*at].ends_with('\n') || *at == 0) {
        return piece(&log[at..]);
    }
    let line = log.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let entry: Option<serde_json::Value> = serde_json::from_str(line).ok();
    let message = entry.as_ref().and_then(|entry| {
        let message = entry.pointer("/fields/message").or_else(|| entry.get("message"))?.as_str()?;
        let error =
            entry.pointer("/fields/error").or_else(|| entry.get("error")).and_then(|error| error.as_str());
        Some(error.map_or_else(|| message.to_owned(), |error| format!("{message}: {error}")))
    });
    match (message, line.split_once(' ')) {
        (Some(message), _) => piece(&message),
        (None, Some((time, rest))) if time.parse::<k8s_openapi::jiff::Timestamp>().is_ok() => piece(rest),
        (None, _) => piece(line),
    }
}

/// What to do when an image cannot be pulled, by the words of registries and container runtimes.
fn pull_advice(cause: &str) -> &'static str {
    let cause = cause.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| cause.contains(word));
    if has(&["unauthorized", "authorization", "denied", "forbidden", "credentials"]) {
        "name a Secret with the registry's credentials in spec.imagePullSecrets"
    } else if has(&["not found", "manifest unknown", "name unknown"]) {
        "correct the name and tag in spec.images"
    } else if has(&["no such host", "dial tcp", "timeout", "connection refused", "deadline", "certificate"]) {
        "let the node reach the registry"
    } else if has(&["no space left"]) {
        "make room on the node's disk"
    } else {
        "the registry or the node says why"
    }
}

#[cfg(test)]
mod tests {
    use super::last_words;

    #[test]
    fn the_last_words_of_a_log_have_no_time() {
        for (log, words) in [
            (
                "2026-11-21T10:00:00.1Z  WARN a\n2026-11-21T10:00:01.2Z ERROR port 7100 is taken\n",
                "ERROR port 7100 is taken",
            ),
            (
                "starting\nError: failed to listen\n\nCaused by:\n    address in use\n",
                "Error: failed to listen Caused by: address in use",
            ),
            (
                r#"{"timestamp":"2026-11-21T10:00:00Z","level":"ERROR","fields":{"message":"no queue","error":"refused"}}"#,
                "no queue: refused",
            ),
            (r#"{"timestamp":1}"#, r#"{"timestamp":1}"#),
            ("", ""),
        ] {
            assert_eq!(last_words(log), words);
        }
    }
}
