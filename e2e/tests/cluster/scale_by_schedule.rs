//! A schedule wakes what sleeps at its minute, keeps it awake without work, and lets it sleep again.

use std::time::Duration;

use anyhow::Context as _;
use crds::SmallestDeployment;
use e2e::cluster::resource::fake;
use e2e::cluster::{Cluster, PATIENCE, Space, in_namespace};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::jiff::Timestamp;
use k8s_openapi::jiff::tz::TimeZone;
use serde_json::json;

/// The component must sleep before its window opens: it is made, idle for the shortest time there is, and taken away.
const BEFORE: Duration = Duration::from_secs(75);
/// Of the wake-up after the minute: half of the window. On a machine that has other stories to tell the apiserver alone
/// once took 4 s for the patch, 9 s after the minute; who looked only now and then would be later than this.
const LATE: Duration = Duration::from_secs(30);

pub(crate) async fn a_window_wakes_keeps_awake_and_closes(cluster: &Cluster) -> anyhow::Result<()> {
    in_namespace(cluster, "schedule", async |space| {
        let opens = next_minute(Timestamp::now() + BEFORE)?;
        let closes = next_minute(opens)?;
        let schedule = json!({
            "name": "mornings", "timeZone": "Asia/Kolkata", "start": cron(opens)?, "end": cron(closes)?,
            "minReplicas": 2, "maxReplicas": 3,
        });
        let scaling =
            json!({ "minReplicas": 0, "maxReplicas": 1, "idleSeconds": 10, "schedules": [schedule] });
        space.deploy(&fake("demo", &json!({"asr": {"scaling": scaling}}))?).await?;
        wants(space, 0).await?;
        anyhow::ensure!(Timestamp::now() < opens, "it sleeps only now: the window was to open at {opens}");

        // Woken by the clock alone: nobody has called.
        wants(space, 2).await?;
        let late = Duration::try_from(Timestamp::now().duration_since(opens))
            .with_context(|| format!("it was woken before {opens}"))?;
        anyhow::ensure!(late < LATE, "it was woken {late:?} after {opens}");
        let bounds = |found: &HorizontalPodAutoscaler| {
            found.spec.as_ref().is_some_and(|spec| (spec.min_replicas, spec.max_replicas) == (Some(2), 3))
        };
        space.until("demo-asr", "the autoscaler has the window's bounds", bounds).await?;
        let told = |found: &SmallestDeployment| {
            let decisions = found.status.iter().flat_map(|status| &status.scale_decisions);
            decisions
                .into_iter()
                .any(|one| (one.from, one.to) == (0, 2) && one.inputs.contains("schedule=mornings"))
        };
        space.until("demo", "the decision names the schedule", told).await?;
        space.pods_ready("demo", "asr", 2).await?;
        space
            .told("demo", "ScalingActive")
            .until("names the schedule", PATIENCE, |condition| {
                condition.message.contains("by schedule mornings until")
            })
            .await?;

        // Idle for longer than `idleSeconds` by now; it sleeps when the window is over, and not before.
        wants(space, 0).await?;
        anyhow::ensure!(Timestamp::now() >= closes, "it went to sleep before {closes}");
        Ok(())
    })
    .await
}

async fn wants(space: &Space<'_>, replicas: i32) -> anyhow::Result<()> {
    let asked = |found: &Deployment| found.spec.as_ref().and_then(|spec| spec.replicas) == Some(replicas);
    space.until("demo-asr", &format!("{replicas} workers are asked for"), asked).await?;
    Ok(())
}

/// The first full minute after an instant.
fn next_minute(after: Timestamp) -> anyhow::Result<Timestamp> {
    Ok(Timestamp::from_second((after.as_second() / 60 + 1) * 60)?)
}

/// Minute and hour of an instant in Kolkata, half an hour off the hours of elsewhere, on every day.
fn cron(at: Timestamp) -> anyhow::Result<String> {
    let local = at.to_zoned(TimeZone::fixed(k8s_openapi::jiff::tz::Offset::from_seconds(5 * 3_600 + 1_800)?));
    Ok(format!("{} {} * * *", local.minute(), local.hour()))
}
