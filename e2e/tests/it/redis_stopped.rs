//! Redis away: a pause or a named error, then recovery without any restart of the others.

use cli::client::session::{Chunk, speak_in_real_time};
use cli::up::run_state::RunState;
use e2e::clients::{chunks_of, get_text, stream, stream_chunks};
use e2e::{Resource, Sample, Service, eventually, quickstart};
use nix::sys::signal::Signal;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

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

/// Speaks one half in real time, tells so, and the other half once it is told to.
async fn speak_in_halves(
    sample: Sample,
    out: mpsc::Sender<Chunk>,
    half: oneshot::Sender<()>,
    go_on: oneshot::Receiver<()>,
) {
    let mut first = chunks_of(&sample);
    let rest = first.split_off(first.len() / 2);
    let said_ms = first.last().map_or(0, |chunk| chunk.until_ms);
    speak_in_real_time(first, out.clone()).await;
    if half.send(()).is_err() || go_on.await.is_err() {
        return;
    }
    let began = tokio::time::Instant::now();
    for chunk in rest {
        tokio::time::sleep_until(began + Duration::from_millis(chunk.until_ms - said_ms)).await;
        if out.send(chunk).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn what_runs_outlives_a_frozen_redis_with_the_same_text() -> anyhow::Result<()> {
    let service = Service::start(&Resource::default()).await?;
    let sample = quickstart()?;
    // Several minutes, so that the worker is in the middle of it.
    let long = sample.repeated(60);
    let undisturbed = (stream(&service.args(), &sample).await?, get_text(&service.url, long.clone()).await?);
    assert_eq!(undisturbed.1.status, 200, "{:?}", undisturbed.1);

    // One stream pauses while Redis is away, the other one speaks on.
    let (args, (out, chunks)) = (service.args(), mpsc::channel(4));
    let (half, is_half) = oneshot::channel();
    let (go_on, told) = oneshot::channel();
    tokio::spawn(speak_in_halves(sample.clone(), out, half, told));
    let pausing = stream_chunks(&args, &sample, chunks);
    let (begin, may_begin) = oneshot::channel();
    let speaking = async {
        may_begin.await?;
        anyhow::Ok(stream(&args, &sample).await?)
    };
    let (claim, claimed) = oneshot::channel();
    let recording = async {
        claimed.await?;
        get_text(&service.url, long).await
    };
    let freezing = async {
        is_half.await?;
        let _ = begin.send(());
        eventually("the worker has both streams", || async {
            (service.metric("asr-0", "asr_active_streams").await? > 1.5).then_some(())
        })
        .await?;
        let _ = claim.send(());
        eventually("the worker has the recording", || async {
            (service.metric("asr-0", "asr_active_requests").await? > 0.0).then_some(())
        })
        .await?;
        let frozen = service.signal("redis", Signal::SIGSTOP).await?;
        tokio::time::sleep(AWAY).await;
        let thawed = service.signal("redis", Signal::SIGCONT).await?;
        let _ = go_on.send(());
        anyhow::Ok((frozen, thawed))
    };
    let (paused, spoken, recording, frozen) = tokio::join!(pausing, speaking, recording, freezing);
    let printed = service.log_text();
    let (frozen, thawed) = frozen?;
    assert_eq!(frozen, thawed, "the same Redis");
    assert_eq!(paused?.text, undisturbed.0.text, "the stream that paused\n{printed}");
    assert_eq!(spoken?.text, undisturbed.0.text, "the stream that went on\n{printed}");
    let recording = recording?;
    assert_eq!((recording.status, recording.text()), (200, undisturbed.1.text()), "{printed}");
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
