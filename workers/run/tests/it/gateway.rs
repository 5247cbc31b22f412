//! A gateway's side of the contract as small as it can be: one live session, or batch jobs.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use queue::ids::{GatewayId, JobId, SessionId, WorkerId};
use queue::job::{BatchJob, BatchReply, CONTRACT_VERSION, RecognizeOptions};
use queue::port::{GatewayPort, GatewayRecord};
use queue::session::{Epoch, Segment, Session, SessionEvent, ToGateway, ToWorker};

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn options() -> RecognizeOptions {
    RecognizeOptions {
        model: None,
        language: "en".into(),
        lookahead: None,
        word_timestamps: true,
        endpointing_ms: 600,
    }
}

pub(crate) fn pcm(samples: &[i16]) -> Bytes {
    samples.iter().flat_map(|s| s.to_le_bytes()).collect::<Vec<_>>().into()
}

pub(crate) fn unix_ms() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64
}

/// A job of this audio.
pub(crate) fn job(gateway: &GatewayId, samples: usize) -> BatchJob {
    BatchJob {
        version: CONTRACT_VERSION,
        id: JobId::generate(),
        gateway: gateway.clone(),
        options: options(),
        samples: samples as u64,
        accepted_at_ms: unix_ms(),
        deadline_ms: unix_ms() + 60_000,
        traceparent: None,
    }
}

/// Submits and waits for the answer.
pub(crate) async fn recognize(
    port: &dyn GatewayPort,
    samples: &[i16],
    options: RecognizeOptions,
) -> BatchReply {
    let gateway = GatewayId::generate();
    let job = BatchJob { options, ..job(&gateway, samples.len()) };
    port.submit(&job, pcm(samples)).await.unwrap();
    let reply = answers(port, &gateway, 1).await.remove(0);
    assert_eq!(reply.job, job.id);
    reply
}

/// Waits for so many answers.
pub(crate) async fn answers(port: &dyn GatewayPort, gateway: &GatewayId, count: usize) -> Vec<BatchReply> {
    answers_within(port, gateway, count, PATIENCE).await
}

/// Waits for so many answers, for work that takes long.
pub(crate) async fn answers_within(
    port: &dyn GatewayPort,
    gateway: &GatewayId,
    count: usize,
    patience: Duration,
) -> Vec<BatchReply> {
    let mut replies = Vec::new();
    let all = async {
        while replies.len() < count {
            port.heartbeat_gateway(&GatewayRecord::idle(gateway.clone())).await.unwrap();
            for message in port.receive(gateway, Duration::from_millis(500)).await.unwrap() {
                if let ToGateway::Batch(reply) = message {
                    replies.push(reply);
                }
            }
        }
    };
    tokio::time::timeout(patience, all).await.expect("the answers come in time");
    replies
}

/// One live session as its gateway sees it.
pub(crate) struct Live {
    port: Arc<dyn GatewayPort>,
    pub(crate) gateway: GatewayId,
    pub(crate) id: SessionId,
    audio: Vec<i16>,
    marks: Vec<(u64, Mark)>,
    pub(crate) worker: Option<(WorkerId, Epoch)>,
    pub(crate) events: Vec<SessionEvent>,
    pub(crate) segments: Vec<Segment>,
    /// The largest piece sent at once, in samples.
    pub(crate) piece: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum Mark {
    Flush,
    End,
}

impl Live {
    pub(crate) async fn open(port: Arc<dyn GatewayPort>, options: RecognizeOptions) -> Self {
        Self::open_traced(port, options, None).await
    }

    pub(crate) async fn open_traced(
        port: Arc<dyn GatewayPort>,
        options: RecognizeOptions,
        traceparent: Option<String>,
    ) -> Self {
        let gateway = GatewayId::generate();
        let session = Session {
            version: CONTRACT_VERSION,
            id: SessionId::generate(),
            gateway: gateway.clone(),
            options,
            accepted_at_ms: unix_ms(),
            traceparent,
        };
        port.open_session(&session).await.unwrap();
        Self {
            port,
            gateway,
            id: session.id,
            audio: Vec::new(),
            marks: Vec::new(),
            worker: None,
            events: Vec::new(),
            segments: Vec::new(),
            piece: 1_600,
        }
    }

    pub(crate) async fn say(&mut self, samples: &[i16]) {
        let at = self.audio.len();
        self.audio.extend_from_slice(samples);
        self.send_from(at as u64, false).await;
    }

    pub(crate) async fn flush(&mut self) {
        self.mark(Mark::Flush).await;
    }

    pub(crate) async fn end(&mut self) {
        self.mark(Mark::End).await;
    }

    async fn mark(&mut self, mark: Mark) {
        self.marks.push((self.audio.len() as u64, mark));
        let message =
            self.worker.as_ref().map(|(_, epoch)| self.mark_message(self.audio.len() as u64, mark, *epoch));
        if let (Some(message), Some((worker, _))) = (message, &self.worker) {
            self.port.send(worker, &[message]).await.unwrap();
        }
    }

    pub(crate) async fn cancel(&mut self) {
        self.port.cancel_session(&self.id).await.unwrap();
    }

    /// Sends only what lies at and after a position, as if the rest had been lost on the way.
    pub(crate) async fn send_from(&self, at: u64, marks: bool) {
        let Some((worker, epoch)) = &self.worker else { return };
        let mut messages = Vec::new();
        let mut at = at;
        let total = self.audio.len() as u64;
        let mut stops: Vec<(u64, Option<Mark>)> = if marks {
            self.marks.iter().filter(|(m, _)| *m >= at).map(|(m, mark)| (*m, Some(*mark))).collect()
        } else {
            Vec::new()
        };
        stops.push((total, None));
        for (stop, mark) in stops {
            while at < stop {
                let end = stop.min(at + self.piece as u64);
                messages.push(ToWorker::Audio {
                    session: self.id.clone(),
                    epoch: *epoch,
                    at_samples: at,
                    pcm: pcm(&self.audio[at as usize..end as usize]),
                });
                at = end;
            }
            messages.extend(mark.map(|m| self.mark_message(stop, m, *epoch)));
        }
        self.port.send(worker, &messages).await.unwrap();
    }

    fn mark_message(&self, at_samples: u64, mark: Mark, epoch: Epoch) -> ToWorker {
        let session = self.id.clone();
        match mark {
            Mark::Flush => ToWorker::Flush { session, epoch, at_samples },
            Mark::End => ToWorker::End { session, epoch, at_samples },
        }
    }

    /// Reads and obeys events until a condition holds.
    pub(crate) async fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let all = async {
            while !done(self) {
                self.port.heartbeat_gateway(&GatewayRecord::idle(self.gateway.clone())).await.unwrap();
                for message in self.port.receive(&self.gateway, Duration::from_millis(300)).await.unwrap() {
                    self.obey(message).await;
                }
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, all).await.is_ok();
        assert!(in_time, "in vain waited for: {what}; events: {:#?}", self.events);
    }

    async fn obey(&mut self, message: ToGateway) {
        let ToGateway::Session { session, epoch, event } = message else { return };
        assert_eq!(session, self.id);
        if let SessionEvent::Claimed { worker, resume_at_samples, .. } = &event {
            self.worker = Some((worker.clone(), epoch));
            self.send_from(*resume_at_samples, true).await;
        } else if self.worker.as_ref().is_none_or(|(_, current)| *current != epoch) {
            return;
        }
        match &event {
            SessionEvent::Replay { from_samples } => self.send_from(*from_samples, true).await,
            SessionEvent::Released => self.worker = None,
            SessionEvent::Final(segment) if segment.index as usize == self.segments.len() => {
                self.segments.push(segment.clone());
            }
            _ => {}
        }
        self.events.push(event);
    }

    pub(crate) fn text(&self) -> String {
        let texts = self.segments.iter().map(|s| s.text.as_str()).filter(|t| !t.is_empty());
        texts.collect::<Vec<_>>().join(" ")
    }

    pub(crate) fn processed(&self) -> u64 {
        let last = self.events.iter().rev().find_map(|e| match e {
            SessionEvent::Update { processed_samples, .. } => Some(*processed_samples),
            _ => None,
        });
        last.unwrap_or(0)
    }

    pub(crate) fn closed(&self) -> bool {
        matches!(self.events.last(), Some(SessionEvent::Closed { .. }))
    }

    pub(crate) fn has(&self, wanted: impl Fn(&SessionEvent) -> bool) -> bool {
        self.events.iter().any(wanted)
    }
}
