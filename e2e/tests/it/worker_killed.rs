//! `kill -9` of a worker: another one, or the restarted one, finishes with the same text.

use cli::client::session::Chunk;
use e2e::clients::{chunks_of, get_text, stream, stream_chunks};
use e2e::{Resource, Service, eventually, quickstart};
use nix::sys::signal::Signal;
use std::time::Duration;
use tokio::sync::mpsc;

/// Speaks in real time and gives a sign when half of it is said.
async fn speak(chunks: Vec<Chunk>, out: mpsc::Sender<Chunk>, half: tokio::sync::oneshot::Sender<()>) {
    let began = tokio::time::Instant::now();
    let middle = chunks.len() / 2;
    let mut half = Some(half);
    for (index, chunk) in chunks.into_iter().enumerate() {
        tokio::time::sleep_until(began + Duration::from_millis(chunk.until_ms)).await;
        if index == middle
            && let Some(half) = half.take()
        {
            let _ = half.send(());
        }
        if out.send(chunk).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn a_stream_survives_its_worker() -> anyhow::Result<()> {
    // One worker: whoever goes on is the restarted one. Two: it is the other one.
    for replicas in [1, 2] {
        let service = Service::start(&Resource { replicas, ..Resource::default() }).await?;
        let sample = quickstart()?;
        let undisturbed = stream(&service.args(), &sample).await?;
        let (out, chunks) = mpsc::channel(4);
        let (half, is_half) = tokio::sync::oneshot::channel();
        tokio::spawn(speak(chunks_of(&sample), out, half));
        let args = service.args();
        let streaming = stream_chunks(&args, &sample, chunks);
        let killing = async {
            is_half.await?;
            let worker = busy_worker(&service, replicas).await?;
            service.signal(&worker, Signal::SIGKILL).await
        };
        let (survived, killed) = tokio::join!(streaming, killing);
        killed?;
        assert_eq!(survived?.text, undisturbed.text, "with {replicas} workers\n{}", service.log_text());
    }
    Ok(())
}

/// The worker that has the live stream.
async fn busy_worker(service: &Service, replicas: u32) -> anyhow::Result<String> {
    eventually("a worker has the stream", || async {
        for index in 0..replicas {
            let name = format!("asr-{index}");
            if service.metric(&name, "asr_active_streams").await? > 0.0 {
                return Some(name);
            }
        }
        None
    })
    .await
}

#[tokio::test]
async fn a_recording_survives_its_worker() -> anyhow::Result<()> {
    let service = Service::start(&Resource::default()).await?;
    let sample = quickstart()?;
    // Several minutes, so that the worker dies in the middle of it.
    let wav = sample.repeated(60);
    let undisturbed = get_text(&service.url, wav.clone()).await?;
    assert_eq!(undisturbed.status, 200, "{undisturbed:?}");
    let killing = async {
        eventually("the worker has the recording", || async {
            (service.metric("asr-0", "asr_active_requests").await? > 0.0).then_some(())
        })
        .await?;
        service.signal("asr-0", Signal::SIGKILL).await
    };
    let (survived, killed) = tokio::join!(get_text(&service.url, wav), killing);
    killed?;
    let survived = survived?;
    assert_eq!((survived.status, survived.text()), (200, undisturbed.text()), "{}", service.log_text());
    // Else it was over before its worker died, and nobody took anything over.
    let answered = service.metric("asr-0", "asr_total_requests").await;
    assert_eq!(answered, Some(1.0), "the restarted worker answered it\n{}", service.log_text());
    Ok(())
}
