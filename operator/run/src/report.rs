//! Status → the cluster, when it changed; and the Events that the change is worth.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crds::{SmallestDeployment, SmallestDeploymentStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta, Time};
use kube::api::{Api, Patch};
use kube::core::DynamicObject;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource as _, ResourceExt as _};
use operator_plan::Note;
use serde_json::json;
use tokio::time::Instant;

use crate::apply::{FIELD_MANAGER, as_ours};
use crate::error::{causes, reason};
use crate::index::{Answer, Index, Seen};
use crate::scale::Key;

/// Longest message of an Event, bytes (events.k8s.io/v1 allows no more).
const MAX_NOTE: usize = 1_024;
/// What the operator says it did, in every Event.
const ACTION: &str = "Reconcile";

/// Events after which those before are forgotten: the same one once more is then a new Event, not a count. A
/// recorder remembers each for six minutes, some kilobytes, and thousands come when many deployments are made at once.
const REMEMBERED: usize = 256;

/// Lost Events are warned of this often at most: where a right is missing, all of them are lost.
const WARN_EVERY: Duration = Duration::from_mins(1);

/// Writes statuses and Events.
pub(crate) struct Reporting {
    client: Client,
    index: Index,
    reporter: Reporter,
    /// With how many Events it was given.
    recorder: Mutex<(Recorder, usize)>,
    losses: Mutex<Losses>,
}

/// Events that could not be published.
#[derive(Debug, Default)]
struct Losses {
    /// Those that nobody was warned of yet.
    untold: u64,
    /// When somebody was last.
    told: Option<Instant>,
}

/// The status could not be written.
#[derive(Debug, thiserror::Error)]
#[error("failed to write the status")]
pub(crate) struct ReportError(#[source] pub(crate) kube::Error);

impl Reporting {
    /// Writes through this client, under the name of this pod.
    pub(crate) fn new(client: Client, index: Index, pod: &str) -> Self {
        let reporter = Reporter { controller: FIELD_MANAGER.to_owned(), instance: Some(pod.to_owned()) };
        let recorder = Recorder::new(client.clone(), reporter.clone());
        Self { client, index, reporter, recorder: Mutex::new((recorder, 0)), losses: Mutex::default() }
    }

    fn recorder(&self) -> Recorder {
        let mut recorder = self.recorder.lock().unwrap_or_else(PoisonError::into_inner);
        if recorder.1 == REMEMBERED {
            *recorder = (Recorder::new(self.client.clone(), self.reporter.clone()), 0);
        }
        recorder.1 += 1;
        recorder.0.clone()
    }

    /// Writes the status if it is another than before, and the Events of the change.
    pub(crate) async fn report(
        &self,
        deployment: &SmallestDeployment,
        status: SmallestDeploymentStatus,
    ) -> Result<Answer, ReportError> {
        if deployment.status.as_ref() == Some(&status) {
            return Ok(Answer::Newest);
        }
        let notes = operator_plan::notes(deployment.status.as_ref(), &status);
        let answer = self.patch(deployment, &status).await.map_err(ReportError)?;
        for note in notes {
            self.publish(deployment, note).await;
        }
        Ok(answer)
    }

    /// Says of a resource that cannot be read why that is so. What runs goes on running.
    pub(crate) async fn unreadable(&self, metadata: &ObjectMeta, error: &str) -> Result<(), ReportError> {
        let (Some(namespace), Some(name)) = (&metadata.namespace, &metadata.name) else { return Ok(()) };
        let key = Key::new(namespace, name);
        let resource = kube::api::ApiResource::erase::<SmallestDeployment>(&());
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, &resource);
        // What it said before cannot be taken from the watch, which could not read it either.
        let Some(former) = api.get_opt(name).await.map_err(ReportError)? else { return Ok(()) };
        let message = format!(
            "this version of the operator cannot read the resource: {error}; change the field, or upgrade the operator"
        );
        let condition = unreadable(metadata, &former, message);
        let Some(condition) = condition else { return Ok(()) };
        let body = json!({
            "apiVersion": SmallestDeployment::api_version(&()), "kind": SmallestDeployment::kind(&()),
            "status": { "observedGeneration": metadata.generation, "conditions": [condition] },
        });
        let params = as_ours();
        api.patch_status(name, &params, &Patch::Apply(&body)).await.map_err(ReportError)?;
        tracing::warn!(deployment = %key, error, "failed to read the resource");
        Ok(())
    }

    async fn patch(
        &self,
        deployment: &SmallestDeployment,
        status: &SmallestDeploymentStatus,
    ) -> kube::Result<Answer> {
        let namespace = deployment.namespace().unwrap_or_default();
        let api: Api<SmallestDeployment> = Api::namespaced(self.client.clone(), &namespace);
        let body = json!({
            "apiVersion": SmallestDeployment::api_version(&()), "kind": SmallestDeployment::kind(&()),
            // Another resource of the same name, made meanwhile, gets no status of this one.
            "metadata": { "uid": deployment.metadata.uid },
            "status": status,
        });
        let key = Key::new(namespace, deployment.name_any());
        let flight = self.index.reporting(&key);
        let mut answer = api.patch_status(&key.name, &as_ours(), &Patch::Apply(&body)).await?;
        answer.metadata.managed_fields = None;
        Ok(flight.answered(Seen::Valid(Arc::new(answer))))
    }

    /// An Event that is lost is no reason to do anything again.
    async fn publish(&self, deployment: &SmallestDeployment, note: Note) {
        let event = Event {
            type_: if note.type_ == "Warning" { EventType::Warning } else { EventType::Normal },
            reason: note.reason,
            note: Some(cut(note.message)),
            action: ACTION.to_owned(),
            secondary: None,
        };
        if let Err(error) = self.recorder().publish(&event, &deployment.object_ref(&())).await {
            self.lost(&error);
        }
    }

    /// Counts a lost Event, and warns of it when the last warning is old enough.
    fn lost(&self, error: &kube::Error) {
        let reason = reason(error);
        // Another replica leads: it publishes what there is to tell.
        if reason == "NotLeader" {
            return;
        }
        metrics::counter!("operator_events_failed_total", "reason" => reason).increment(1);
        let mut losses = self.losses.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(events) = losses.count(Instant::now()) {
            drop(losses);
            tracing::warn!(events, reason, error = causes(error), "failed to publish Events");
        }
    }
}

impl Losses {
    /// Counts one more; how many there were since the last warning, when another one is due.
    fn count(&mut self, now: Instant) -> Option<u64> {
        self.untold += 1;
        if self.told.is_some_and(|told| now - told < WARN_EVERY) {
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

/// The condition of a resource that cannot be read; `None` when it says so already.
fn unreadable(metadata: &ObjectMeta, former: &DynamicObject, message: String) -> Option<Condition> {
    let conditions = former.data["status"]["conditions"].as_array().into_iter().flatten();
    let mut ready = conditions.filter(|condition| condition["type"] == "Ready");
    if let Some(ready) = ready.next()
        && ready["message"] == message.as_str()
        && ready["status"] == "False"
        && ready["observedGeneration"].as_i64() == metadata.generation
    {
        return None;
    }
    Some(Condition {
        type_: "Ready".to_owned(),
        status: "False".to_owned(),
        reason: "Unreadable".to_owned(),
        message,
        observed_generation: metadata.generation,
        last_transition_time: Time(k8s_openapi::jiff::Timestamp::now()),
    })
}

fn cut(mut message: String) -> String {
    let end = (0..=MAX_NOTE.min(message.len())).rev().find(|end| message.is_char_boundary(*end));
    message.truncate(end.unwrap_or(0));
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_events_are_warned_of_once_in_a_while_and_none_is_forgotten() {
        let (mut losses, start) = (Losses::default(), Instant::now());
        for (seconds, expected) in
            [(0, Some(1)), (1, None), (59, None), (60, Some(3)), (119, None), (240, Some(2))]
        {
            assert_eq!(losses.count(start + Duration::from_secs(seconds)), expected, "after {seconds} s");
        }
    }
}
