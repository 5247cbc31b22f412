//! `input.yaml` of a case → the resource, its children, and what was given beside them.

use crds::{ScaleDecision, SmallestDeployment};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use operator_plan::{
    ApplyFailure, Children, ClusterPlace, ComponentReading, Fetched, GatewayReading, Invalid, LicenseReading,
    Observed, Place, Plan, QueueView, Reading, SecretRef, SecretText, Secrets, WorkerPhase, WorkerReading,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Everything of a case.
pub(super) struct Objects {
    pub(super) deployment: SmallestDeployment,
    pub(super) children: Children,
    pub(super) given: GivenText,
    secrets: Secrets,
}

/// What is given beside objects.
pub(super) struct Given {
    pub(super) now: Time,
    pub(super) queue: QueueView,
    pub(super) applied: Option<ApplyFailure>,
    pub(super) decisions: Vec<ScaleDecision>,
}

/// `kind: Given`, as it is written.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct GivenText {
    #[serde(rename = "kind")]
    _kind: String,
    /// The case whose documents are taken where this one has none of the same kind and name.
    #[serde(default, rename = "like")]
    _like: Option<String>,
    /// Documents that are not taken, `Kind/name`.
    #[serde(default, rename = "without")]
    _without: Vec<String>,
    now: String,
    #[serde(default)]
    queue: QueueText,
    #[serde(default)]
    apply_failure: Option<FailureText>,
    /// The Secret that could not be read, and what was said of it.
    #[serde(default)]
    fetch_failure: Option<FetchText>,
    #[serde(default)]
    decisions: Vec<ScaleDecision>,
    /// The operator's switch for a TTS engine.
    #[serde(default)]
    tts_engine: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct QueueText {
    unavailable: Option<String>,
    asr: Option<ComponentText>,
    tts: Option<ComponentText>,
    #[serde(default)]
    gateways: Vec<GatewayText>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct ComponentText {
    batch: u64,
    streams: u64,
    oldest_ms: u64,
    workers: Vec<WorkerText>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WorkerText {
    pod: String,
    phase: String,
    message: Option<String>,
    sha256: Option<String>,
    #[serde(default)]
    slots: u32,
    #[serde(default)]
    active_streams: u32,
    license: Option<LicenseText>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct GatewayText {
    pod: String,
    license: Option<LicenseText>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct LicenseText {
    state: String,
    message: Option<String>,
    expires_at: Option<Time>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FetchText {
    secret: String,
    code: u16,
    message: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FailureText {
    object: String,
    code: Option<u16>,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    message: String,
    /// An object of the name was there before.
    #[serde(default)]
    foreign: bool,
}

/// Reads a case.
pub(super) fn read(text: &str) -> Result<Objects, String> {
    from_documents(&documents(text)?)
}

/// All documents of a case, with those of the case that it is like.
pub(super) fn documents(text: &str) -> Result<Vec<Value>, String> {
    let documents = serde_yaml::Deserializer::from_str(text).map(Value::deserialize);
    let mut documents: Vec<Value> = documents.collect::<Result<_, _>>().map_err(|error| error.to_string())?;
    let Some(given) = documents.iter_mut().find(|document| document["kind"] == "Given") else {
        return Err("no Given".to_owned());
    };
    let Some(like) = given["like"].as_str() else { return Ok(documents) };
    let base = std::fs::read_to_string(super::folder().join(like).join("input.yaml"));
    let mut base = self::documents(&base.map_err(|error| error.to_string())?)?;
    if let (Some(own), Some(of_base)) =
        (given.as_object_mut(), base.iter().find(|document| document["kind"] == "Given"))
    {
        for (name, value) in of_base.as_object().into_iter().flatten() {
            own.entry(name).or_insert_with(|| value.clone());
        }
    }
    let without: Vec<String> = given["without"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|key| key.as_str().map(str::to_owned))
        .collect();
    let taken: Vec<String> = documents.iter().map(key).collect();
    base.retain(|document| !taken.contains(&key(document)) && !without.contains(&key(document)));
    documents.extend(base);
    Ok(documents)
}

fn key(document: &Value) -> String {
    let name = document["metadata"]["name"].as_str().unwrap_or_default();
    format!("{}/{name}", document["kind"].as_str().unwrap_or_default())
}

/// Sorts documents by their kind.
pub(super) fn from_documents(documents: &[Value]) -> Result<Objects, String> {
    let mut children = Children::default();
    let (mut deployment, mut given, mut secrets) = (None, None, Secrets::default());
    for document in documents {
        match document["kind"].as_str().unwrap_or_default() {
            "SmallestDeployment" => deployment = Some(parse(document)?),
            "Given" => given = Some(parse(document)?),
            "Secret" => keep(document, &mut secrets),
            "Deployment" => children.deployments.push(parse(document)?),
            "StatefulSet" => children.stateful_sets.push(parse(document)?),
            "Pod" => children.pods.push(parse(document)?),
            "HorizontalPodAutoscaler" => children.horizontal_pod_autoscalers.push(parse(document)?),
            "PersistentVolumeClaim" => children.persistent_volume_claims.push(parse(document)?),
            "Service" => children.service = Some(parse(document)?),
            other => return Err(format!("no kind of a case: {other:?}")),
        }
    }
    let deployment = deployment.ok_or("no SmallestDeployment")?;
    Ok(Objects { deployment, children, given: given.ok_or("no Given")?, secrets })
}

fn parse<T: DeserializeOwned>(document: &Value) -> Result<T, String> {
    serde_json::from_value(document.clone()).map_err(|error| format!("{}: {error}", document["kind"]))
}

fn keep(document: &Value, secrets: &mut Secrets) {
    for (key, value) in document["stringData"].as_object().into_iter().flatten() {
        let name = document["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let reference = SecretRef { name, key: key.clone() };
        secrets.insert(reference, SecretText::new(value.as_str().unwrap_or_default()));
    }
}

impl Objects {
    /// What the way up to the plan gives.
    pub(super) fn outcome(&self, now: &Time) -> Result<Plan, Invalid> {
        if let Some(FetchText { secret, code, message }) = self.given.fetch_failure.clone() {
            return Err(match code {
                403 => Invalid::MayNotReadSecret { name: secret, message },
                _ => Invalid::FetchSecret { name: secret, message },
            });
        }
        let cluster = ClusterPlace { tts_engine: self.given.tts_engine.clone(), ..ClusterPlace::default() };
        let fetched = Fetched { secrets: self.secrets.clone(), place: Place::Cluster(cluster) };
        let valid = operator_plan::validate(&self.deployment, &fetched)?;
        let observed = Observed { redis_password: SecretText::new("generated") };
        Ok(operator_plan::plan(&valid, &observed, now))
    }
}

impl GivenText {
    pub(super) fn read(&self) -> Given {
        let now = self.now.parse().map(Time).expect("an instant");
        let applied = self.apply_failure.clone().map(|failure| match failure.code {
            None if failure.foreign => ApplyFailure::foreign(failure.object),
            Some(code) => ApplyFailure::from_answer(failure.object, code, &failure.reason, &failure.message),
            None => ApplyFailure::unanswered(failure.object, failure.message),
        });
        Given { now, queue: self.queue.view(), applied, decisions: self.decisions.clone() }
    }

    /// Another word of the one ASR worker.
    pub(super) fn set_worker(&mut self, phase: &str, message: &str) {
        let worker = &mut self.queue.asr.as_mut().expect("a queue of ASR").workers[0];
        phase.clone_into(&mut worker.phase);
        worker.message = Some(message.to_owned());
    }

    pub(super) fn set_now(&mut self, now: &str) {
        now.clone_into(&mut self.now);
    }
}

impl QueueText {
    fn view(&self) -> QueueView {
        if let Some(message) = &self.unavailable {
            return QueueView::Unavailable { reason: "QueueUnavailable", message: message.clone() };
        }
        if self.asr.is_none() && self.tts.is_none() && self.gateways.is_empty() {
            return QueueView::NotRead;
        }
        let gateways = self.gateways.iter().map(|gateway| GatewayReading {
            id: format!("gw-{}", gateway.pod),
            pod: Some(gateway.pod.clone()),
            active_requests: 0,
            active_streams: 0,
            license: gateway.license.as_ref().map(LicenseText::reading),
        });
        QueueView::Read(Reading {
            asr: self.asr.as_ref().map(ComponentText::reading).unwrap_or_default(),
            tts: self.tts.as_ref().map(ComponentText::reading).unwrap_or_default(),
            gateways: gateways.collect(),
        })
    }
}

impl ComponentText {
    fn reading(&self) -> ComponentReading {
        ComponentReading {
            batch_queue_depth: self.batch,
            stream_queue_depth: self.streams,
            batch_oldest_wait_ms: self.oldest_ms,
            workers: self.workers.iter().map(WorkerText::reading).collect(),
            ..ComponentReading::default()
        }
    }
}

impl WorkerText {
    fn reading(&self) -> WorkerReading {
        WorkerReading {
            id: format!("wk-{}", self.pod),
            pod: Some(self.pod.clone()),
            phase: match self.phase.as_str() {
                "Starting" => WorkerPhase::Starting,
                "Downloading" => WorkerPhase::Downloading,
                "Loading" => WorkerPhase::Loading,
                "WarmingUp" => WorkerPhase::WarmingUp,
                "Ready" => WorkerPhase::Ready,
                "Draining" => WorkerPhase::Draining,
                "Failed" => WorkerPhase::Failed,
                other => unreachable!("a case names a phase that is none: {other:?}"),
            },
            message: self.message.clone(),
            model: "demo-asr".to_owned(),
            model_sha256: self.sha256.clone(),
            slots: self.slots,
            batch_slots: 0,
            active_streams: self.active_streams,
            active_requests: 0,
            license: self.license.as_ref().map(LicenseText::reading),
        }
    }
}

impl LicenseText {
    fn reading(&self) -> LicenseReading {
        LicenseReading {
            state: self.state.clone(),
            message: self.message.clone(),
            expires_at: self.expires_at.clone(),
        }
    }
}
