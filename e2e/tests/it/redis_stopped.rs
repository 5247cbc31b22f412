//! Redis away: a pause or a named error, then recovery without any restart of the others.

use cli::up::run_state::RunState;
use e2e::clients::{get_text, stream};
use e2e::{Resource, Service, eventually, quickstart};
use nix::sys::signal::Signal;
use std::time::Duration;

/// How long Redis is away.
const AWAY: Duration = Duration::from_secs(10);

fn restarts(state: &RunState) -> Vec<(&str, u32)> {
    let others = state.programs.iter().filter(|program| program.name != "redis");
    others.map(|program| (program.name.as_str(), program.restarts)).collect()
}

/// Waits until a recording is heard again.
async fn recovers(service: &Service, wav: &[u8]) -> anyhow::Result<()> {
    eventually("the service recovers", || async {
        let answer = get_text(&service.url, wav.to_vec()).await.ok()?;
        // Until then every answer names what is wrong.
        assert!(answer.status == 200 || !answer.reason().is_empty(), "{answer:?}");
        (answer.status == 200).then_some(())
    })
    .await
}

#[tokio::test]
async fn a_frozen_redis_is_a_pause_or_a_named_error() -> anyhow::Result<()> {
    let service = Service::start(&Resource::default()).await?;
    let sample = quickstart()?;
    let frozen = service.signal("redis", Signal::SIGSTOP).await?;
    let thaw = async {
        tokio::time::sleep(AWAY).await;
        service.signal("redis", Signal::SIGCONT).await
    };
    let (during, thawed) = tokio::join!(get_text(&service.url, sample.wav.clone()), thaw);
    assert_eq!(thawed?, frozen, "the same Redis");
    let during = during?;
    assert!(during.status == 200 || (during.status == 503 && !during.reason().is_empty()), "{during:?}");
    recovers(&service, &sample.wav).await?;
    sample.check(&stream(&service.args(), &sample).await?.text)?;
    let state = service.state().expect("the service runs");
    assert!(restarts(&state).iter().all(|(_, restarts)| *restarts == 0), "{:?}", restarts(&state));
    Ok(())
}

#[tokio::test]
async fn a_redis_that_lost_everything_is_filled_again() -> anyhow::Result<()> {
    let service = Service::start(&Resource::default()).await?;
    let sample = quickstart()?;
    sample.check(get_text(&service.url, sample.wav.clone()).await?.text())?;
    let killed = service.signal("redis", Signal::SIGKILL).await?;
    eventually("Redis runs again", || async {
        let pid = service.pid("redis").await.ok()?;
        (pid != killed).then_some(())
    })
    .await?;
    recovers(&service, &sample.wav).await?;
    sample.check(&stream(&service.args(), &sample).await?.text)?;
    let state = service.state().expect("the service runs");
    assert!(restarts(&state).iter().all(|(_, restarts)| *restarts == 0), "{:?}", restarts(&state));
    Ok(())
}
