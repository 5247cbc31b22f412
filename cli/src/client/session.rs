//! One live session: sends audio as it is spoken, hears the responses, keeps the timeline.
//!
//! Comes in: chunks of audio, each with where it ends, from a bounded channel. Goes out: every response to
//! an observer as it comes, and a [`Report`] at the end.

use super::timeline::{Report, Timeline};
use super::{ClientError, Stub};
use proto::speech::v1::streaming_recognize_request::Request;
use proto::speech::v1::streaming_recognize_response::Response;
use proto::speech::v1::{StreamingConfig, StreamingRecognizeRequest};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;

/// Messages between the speaker and the wire.
const QUEUED_MESSAGES: usize = 16;
/// A session that says nothing for this long after its last sample is broken.
const ANSWER_PATIENCE: Duration = Duration::from_mins(1);

/// A piece of audio on its way.
#[derive(Debug, Clone)]
pub struct Chunk {
    /// Where it ends in the session, milliseconds.
    pub until_ms: u64,
    /// Samples in the session's encoding.
    pub audio: Vec<u8>,
}

/// Runs one session until the service ends it. `chunks` are sent as they come; its end ends the audio.
/// `observe` sees every response together with the text as it then stands.
pub async fn run(
    mut stub: Stub,
    config: StreamingConfig,
    mut chunks: mpsc::Receiver<Chunk>,
    mut observe: impl FnMut(&Response, &Timeline),
    url: &str,
) -> Result<Report, ClientError> {
    let failed = |status| ClientError::of_status(status, url);
    let (wire, requests) = mpsc::channel(QUEUED_MESSAGES);
    // The channel is empty, so the first message always fits.
    let _ = wire.try_send(StreamingRecognizeRequest { request: Some(Request::Config(config)) });
    let call = stub.streaming_recognize(ReceiverStream::new(requests)).await.map_err(failed)?;
    let mut responses = call.into_inner();
    let origin = Instant::now();
    let mut timeline = Timeline::new(Duration::ZERO);
    let mut wire = Some(wire);
    let mut spoken = false;
    loop {
        tokio::select! {
            // Answers first: a chunk is measured when its answer is there, not when we get round to it.
            biased;
            response = responses.message() => {
                let Some(message) = response.map_err(failed)? else { break };
                let Some(response) = message.response else { continue };
                timeline.heard(origin.elapsed(), &response);
                observe(&response, &timeline);
            }
            chunk = chunks.recv(), if wire.is_some() => match chunk {
                None => wire = None,
                Some(chunk) => {
                    let now = origin.elapsed();
                    if !spoken {
                        // Sample 0 was spoken one chunk ago.
                        timeline.begin(now.saturating_sub(Duration::from_millis(chunk.until_ms)));
                        spoken = true;
                    }
                    timeline.sent(now, chunk.until_ms);
                    let request = StreamingRecognizeRequest { request: Some(Request::Audio(chunk.audio)) };
                    let sent = match &wire {
                        Some(wire) => wire.send(request).await.is_ok(),
                        None => false,
                    };
                    // The service hung up: its status is the next thing to be read.
                    if !sent { wire = None }
                }
            },
            () = tokio::time::sleep(ANSWER_PATIENCE), if wire.is_none() => {
                return Err(ClientError::Recognize {
                    code: tonic::Code::DeadlineExceeded,
                    reason: "NoAnswer".into(),
                    message: format!("the service said nothing for {} s after the audio ended", ANSWER_PATIENCE.as_secs()),
                });
            }
        }
    }
    Ok(timeline.finish())
}

/// Speaks prepared chunks in real time: each is sent at the moment its last sample would be recorded.
pub async fn speak_in_real_time(chunks: Vec<Chunk>, out: mpsc::Sender<Chunk>) {
    let began = Instant::now();
    for chunk in chunks {
        tokio::time::sleep_until(began + Duration::from_millis(chunk.until_ms)).await;
        if out.send(chunk).await.is_err() {
            return;
        }
    }
}
