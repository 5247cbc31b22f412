//! A spec that the schema accepts and that cannot work leaves the last good pods running, and says why.

use e2e::clients;
use e2e::cluster::load::{plain, spoken};
use e2e::cluster::resource::{LICENSE, fake, model};
use e2e::cluster::{Cluster, PATIENCE, Space, TOLD_WITHIN, in_namespace};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::DeleteParams;
use serde_json::json;

pub(crate) async fn the_last_good_pods_stay(cluster: &Cluster) -> anyhow::Result<()> {
    in_namespace(cluster, "bad-spec", async |space| {
        space.deploy(&fake("demo", &json!({}))?).await?;
        space.ready("demo").await?;
        let good = uids(space).await?;

        // A Secret that is not there.
        let auth = json!({"gateway": {"auth": {"allowAnonymous": null, "secretRef": {"name": "no-keys"}}}});
        space.change("demo", &auth).await?;
        let told = space
            .told("demo", "Degraded")
            .until("names the Secret", TOLD_WITHIN, |condition| condition.message.contains("no-keys"))
            .await?;
        assert_eq!(told.reason, "SecretMissing");
        assert_eq!(uids(space).await?, good);
        answers(space).await?;
        space
            .change("demo", &json!({"gateway": {"auth": {"allowAnonymous": true, "secretRef": null}}}))
            .await?;
        space.ready("demo").await?;
        assert_eq!(uids(space).await?, good);

        // The license Secret goes away under a running service.
        space.api::<Secret>().delete(LICENSE, &DeleteParams::default()).await?;
        space
            .told("demo", "Degraded")
            .until("names the Secret", TOLD_WITHIN, |condition| {
                condition.status == "True" && condition.message.contains(LICENSE)
            })
            .await?;
        assert_eq!(uids(space).await?, good);
        space.license(LICENSE, &space.cluster.vendor.license(30.0)?).await?;
        space.ready("demo").await?;

        // A digest that the model does not have: the new worker never gets ready, the old one stays.
        let mut wrong = model()?;
        wrong["sha256"] = json!("0".repeat(64));
        space.change("demo", &json!({"asr": {"models": [wrong]}, "images": {"worker": null}})).await?;
        space
            .told("demo", "ModelsReady")
            .until("tells of the digest", PATIENCE, |condition| {
                condition.status == "False" && condition.message.contains("demo-asr")
            })
            .await?;
        let now = uids(space).await?;
        anyhow::ensure!(good.iter().all(|pod| now.contains(pod)), "a good pod is gone: {good:?}, {now:?}");
        answers(space).await
    })
    .await
}

async fn answers(space: &Space<'_>) -> anyhow::Result<()> {
    let service = space.service("demo").await?;
    let sample = spoken(&["still", "serving"]);
    let answer = clients::get_text(&service.url, sample.wav.clone()).await?;
    anyhow::ensure!(answer.status == 200 && plain(answer.text()) == sample.reference, "{answer:?}");
    Ok(())
}

async fn uids(space: &Space<'_>) -> anyhow::Result<Vec<Option<String>>> {
    let mut all = Vec::new();
    for component in ["gateway", "asr"] {
        all.extend(space.pods("demo", component).await?.iter().map(ResourceExt::uid));
    }
    Ok(all)
}
