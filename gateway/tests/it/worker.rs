//! A worker that hears levels: 100 ms blocks of a tone become words, pauses end segments. Its text depends
//! only on the audio after the last commit, as the contract asks of real ones.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use queue::ids::{GatewayId, SessionId, WorkerId};
use queue::job::{BatchReply, Timing, Transcript, Word, WorkError, WorkErrorKind};
use queue::port::{
    ClaimedJob, ClaimedSession, GatewayPort, Held, Served, SessionEnd, WorkerPort, WorkerRecord,
};
use queue::session::{FinalReason, Partial, Segment, SessionEvent, ToGateway, ToWorker};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};

/// Samples of one block.
const BLOCK: usize = 1_600;
/// Silent blocks that end a segment.
const PAUSE_BLOCKS: usize = 4;
const BLOCK_MS: u64 = 100;

pub(crate) const MODEL: &str = "test-asr";

/// How it behaves.
#[derive(Debug, Default)]
pub(crate) struct Knobs {
    /// Claims batch jobs, but does not answer them.
    pub(crate) hold_batches: AtomicBool,
    /// Sends every update so many times more, with long text.
    pub(crate) chatter: AtomicUsize,
    /// Never ends a segment by itself.
    pub(crate) no_endpoints: AtomicBool,
    /// Gives all its sessions back once and claims no more, as when it drains.
    pub(crate) drain: AtomicBool,
    /// It has done so.
    pub(crate) drained: AtomicBool,
    /// Sessions it was told to drop.
    pub(crate) cancelled: AtomicUsize,
    /// Jobs it holds.
    pub(crate) held_jobs: AtomicUsize,
    /// Longest message of audio it got, samples.
    pub(crate) longest: AtomicUsize,
}

/// A running worker; killed when dropped.
pub(crate) struct Worker {
    pub(crate) knobs: Arc<Knobs>,
    task: JoinHandle<()>,
}

impl Worker {
    pub(crate) fn start<Q: WorkerPort + GatewayPort + Clone + 'static>(queue: &Q) -> Self {
        Self::start_with(queue, Knobs::default())
    }

    pub(crate) fn start_with<Q: WorkerPort + GatewayPort + Clone + 'static>(queue: &Q, knobs: Knobs) -> Self {
        let knobs = Arc::new(knobs);
        let body = Body { id: WorkerId::generate(), queue: queue.clone(), knobs: knobs.clone() };
        Self { knobs, task: tokio::spawn(body.run()) }
    }

    /// Dies at once, as with `kill -9`: nothing is said to anybody.
    pub(crate) fn kill(self) {
        self.task.abort();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Body<Q> {
    id: WorkerId,
    queue: Q,
    knobs: Arc<Knobs>,
}

/// What comes to a worker.
enum Work {
    Session(ClaimedSession),
    Job(ClaimedJob),
    Message(ToWorker),
}

impl<Q: WorkerPort + Clone + 'static> Body<Q> {
    async fn run(self) {
        let mut sessions: HashMap<SessionId, Heard> = HashMap::new();
        let mut jobs = Vec::new();
        let mut beat = tokio::time::interval(Duration::from_millis(50));
        let (work, mut come) = mpsc::channel(64);
        // Each read runs to its end: one that is broken off may take something along.
        let mut readers = JoinSet::new();
        let claims = readers.spawn(claim_sessions(self.queue.clone(), self.id.clone(), work.clone()));
        readers.spawn(claim_jobs(self.queue.clone(), self.id.clone(), work.clone()));
        readers.spawn(receive(self.queue.clone(), self.id.clone(), work));
        loop {
            tokio::select! {
                _ = beat.tick() => {
                    let held = Held {
                        jobs: jobs.clone(),
                        sessions: sessions.values().map(|h| h.claim.claim.clone()).collect(),
                    };
                    drop(self.queue.heartbeat(&self.record(), &held).await);
                    if self.knobs.drain.load(Ordering::Relaxed) && !claims.is_finished() {
                        claims.abort();
                        for (_, heard) in sessions.drain() {
                            drop(self.queue.release_session(&self.id, &heard.claim).await);
                        }
                        self.knobs.drained.store(true, Ordering::Relaxed);
                    }
                }
                Some(work) = come.recv() => match work {
                    Work::Session(claim) => {
                        sessions.insert(claim.state.session.id.clone(), Heard::new(claim));
                    }
                    Work::Job(job) if self.knobs.hold_batches.load(Ordering::Relaxed) => {
                        self.knobs.held_jobs.fetch_add(1, Ordering::Relaxed);
                        jobs.push(job.claim.clone());
                    }
                    Work::Job(job) => self.answer(job).await,
                    Work::Message(message) => self.take(&mut sessions, message).await,
                },
            }
        }
    }

    fn record(&self) -> WorkerRecord {
        WorkerRecord {
            model: MODEL.to_owned(),
            languages: vec!["en".to_owned()],
            slots: 8,
            ..WorkerRecord::ready(self.id.clone(), "asr")
        }
    }

    async fn answer(&self, job: ClaimedJob) {
        let served =
            Served { model: MODEL.to_owned(), languages: vec!["en".to_owned()], lookaheads: vec![0, 6] };
        let outcome = match (served.check(&job.job.options), self.queue.audio(&job.job.id).await) {
            (Err(e), _) => Err(e),
            (Ok(()), Ok(Some(pcm))) => Ok(transcript(&samples(&pcm), &job.job.options.language)),
            _ => Err(WorkError { kind: WorkErrorKind::AudioLost, message: "the audio is gone".to_owned() }),
        };
        let reply =
            BatchReply { job: job.job.id.clone(), outcome, timing: Timing { queue_ms: 1.0, infer_ms: 2.0 } };
        drop(self.queue.complete(&self.id, &job, reply).await);
    }

    async fn take(&self, sessions: &mut HashMap<SessionId, Heard>, message: ToWorker) {
        match message {
            ToWorker::Audio { session, epoch, at_samples, pcm } => {
                let Some(heard) = sessions.get_mut(&session).filter(|h| h.claim.epoch() == epoch) else {
                    return;
                };
                self.knobs.longest.fetch_max(pcm.len() / 2, Ordering::Relaxed);
                if at_samples > heard.end() {
                    let from_samples = heard.end();
                    return self.tell(heard, SessionEvent::Replay { from_samples }).await;
                }
                let skip = (heard.end() - at_samples) as usize;
                heard.audio.extend(samples(&pcm).into_iter().skip(skip));
                self.step(heard).await;
            }
            ToWorker::Flush { session, epoch, at_samples } => {
                let Some(heard) = sessions.get_mut(&session).filter(|h| h.claim.epoch() == epoch) else {
                    return;
                };
                self.commit(heard, at_samples.max(heard.start), FinalReason::Flush).await;
                self.tell(heard, SessionEvent::Flushed { at_samples }).await;
            }
            ToWorker::End { session, epoch, at_samples } => {
                if sessions.get(&session).is_none_or(|h| h.claim.epoch() != epoch) {
                    return;
                }
                let Some(mut heard) = sessions.remove(&session) else { return };
                self.commit(&mut heard, at_samples, FinalReason::End).await;
                let end = SessionEnd::Closed { audio_ms: at_samples / 16 };
                drop(self.queue.end_session(&self.id, &heard.claim, end).await);
            }
            ToWorker::Cancel { session, .. } => {
                self.knobs.cancelled.fetch_add(1, Ordering::Relaxed);
                sessions.remove(&session);
            }
            ToWorker::CancelBatch { .. } => {}
        }
    }

    /// Hears block by block, tells what is new, and ends a segment at a pause.
    async fn step(&self, heard: &mut Heard) {
        while let Some(block) = heard.audio.get(heard.levels.len() * BLOCK..(heard.levels.len() + 1) * BLOCK)
        {
            heard.levels.push(level(block));
            self.tell_speech(heard).await;
            self.tell_update(heard).await;
            let quiet = heard.levels.iter().rev().take_while(|l| **l == 0).count();
            let never = heard.claim.state.session.options.endpointing_ms == 0
                || self.knobs.no_endpoints.load(Ordering::Relaxed);
            if !never && !heard.text.is_empty() && quiet >= PAUSE_BLOCKS {
                self.commit(heard, heard.decoded(), FinalReason::Endpoint).await;
            }
        }
    }

    /// Sound begins speech, a pause ends it where the sound did.
    async fn tell_speech(&self, heard: &mut Heard) {
        let quiet = heard.levels.iter().rev().take_while(|l| **l == 0).count();
        let (started, blocks_ago) = match (heard.speaking, quiet) {
            (false, 0) => (true, 1),
            (true, PAUSE_BLOCKS) => (false, PAUSE_BLOCKS),
            _ => return,
        };
        heard.speaking = started;
        let at_ms = heard.decoded() / 16 - blocks_ago as u64 * BLOCK_MS;
        self.tell(heard, SessionEvent::Speech { started, at_ms }).await;
    }

    async fn tell_update(&self, heard: &mut Heard) {
        let words = words(&heard.levels, heard.start / 16);
        let text = join(&words);
        let partial = (text != heard.text).then(|| Partial { text: text.clone(), words });
        heard.text = text;
        let (processed_samples, timing) = (heard.decoded(), Timing { queue_ms: 0.1, infer_ms: 0.2 });
        self.tell(heard, SessionEvent::Update { processed_samples, partial, timing }).await;
        for _ in 0..self.knobs.chatter.load(Ordering::Relaxed) {
            let partial = Some(Partial { text: "word ".repeat(4_000), words: Vec::new() });
            self.tell(heard, SessionEvent::Update { processed_samples, partial, timing }).await;
        }
    }

    async fn commit(&self, heard: &mut Heard, at: u64, reason: FinalReason) {
        let n = ((at - heard.start) as usize).min(heard.audio.len());
        let words = hear(&heard.audio[..n], heard.start / 16);
        let segment = Segment {
            index: heard.segments,
            text: join(&words),
            start_ms: heard.start / 16,
            end_ms: at / 16,
            words,
            committed_samples: at,
            reason,
            language: "en".to_owned(),
        };
        heard.segments += 1;
        heard.audio.drain(..n);
        heard.start = at;
        heard.levels.clear();
        heard.text = String::new();
        drop(self.queue.commit(&self.id, &heard.claim, &segment).await);
    }

    async fn tell(&self, heard: &Heard, event: SessionEvent) {
        let session = heard.claim.state.session.id.clone();
        let gateway: GatewayId = heard.claim.state.session.gateway.clone();
        let message = ToGateway::Session { session, epoch: heard.claim.epoch(), event };
        drop(self.queue.publish(&[(gateway, message)]).await);
    }
}

/// Longest blocking read, and the pause after a failed one.
const WAIT: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(50);

async fn claim_sessions<Q: WorkerPort>(queue: Q, id: WorkerId, work: mpsc::Sender<Work>) {
    loop {
        match queue.claim_sessions(&id, 8, WAIT).await {
            Ok(claims) => {
                for claim in claims {
                    drop(work.send(Work::Session(claim)).await);
                }
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

async fn claim_jobs<Q: WorkerPort>(queue: Q, id: WorkerId, work: mpsc::Sender<Work>) {
    loop {
        match queue.claim_jobs(&id, 8, WAIT).await {
            Ok(jobs) => {
                for job in jobs {
                    drop(work.send(Work::Job(job)).await);
                }
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

async fn receive<Q: WorkerPort>(queue: Q, id: WorkerId, work: mpsc::Sender<Work>) {
    loop {
        match queue.receive(&id, WAIT).await {
            Ok(messages) => {
                for message in messages {
                    drop(work.send(Work::Message(message)).await);
                }
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// Audio of a session since its last commit.
struct Heard {
    claim: ClaimedSession,
    start: u64,
    audio: Vec<i16>,
    /// Levels of its complete blocks.
    levels: Vec<u32>,
    text: String,
    segments: u32,
    speaking: bool,
}

impl Heard {
    fn new(claim: ClaimedSession) -> Self {
        let (start, segments) = (claim.state.committed_samples, claim.state.segments);
        let (audio, levels, text) = (Vec::new(), Vec::new(), String::new());
        Self { claim, start, audio, levels, text, segments, speaking: false }
    }

    fn end(&self) -> u64 {
        self.start + self.audio.len() as u64
    }

    fn decoded(&self) -> u64 {
        self.start + (self.levels.len() * BLOCK) as u64
    }
}

fn samples(pcm: &[u8]) -> Vec<i16> {
    pcm.chunks_exact(2).map(|b| i16::from_le_bytes([b[0], b[1]])).collect()
}

fn level(block: &[i16]) -> u32 {
    let sum: f64 = block.iter().map(|s| f64::from(*s).abs()).sum();
    (sum / block.len().max(1) as f64 / 2_000.0).round() as u32
}

/// Runs of at least two blocks of one level are words.
fn words(levels: &[u32], from_ms: u64) -> Vec<Word> {
    let mut at = 0_u64;
    let mut words = Vec::new();
    for run in levels.chunk_by(|a, b| a == b) {
        let n = run.len() as u64;
        if run[0] > 0 && n >= 2 {
            let (start_ms, end_ms) = (from_ms + at * BLOCK_MS, from_ms + (at + n) * BLOCK_MS);
            words.push(Word { word: format!("w{}", run[0]), start_ms, end_ms, confidence: 0.5 });
        }
        at += n;
    }
    words
}

fn hear(audio: &[i16], from_ms: u64) -> Vec<Word> {
    words(&audio.chunks(BLOCK).map(level).collect::<Vec<_>>(), from_ms)
}

fn join(words: &[Word]) -> String {
    words.iter().map(|w| w.word.as_str()).collect::<Vec<_>>().join(" ")
}

fn transcript(samples: &[i16], language: &str) -> Transcript {
    let words = hear(samples, 0);
    Transcript {
        text: join(&words),
        words,
        model: MODEL.to_owned(),
        language: language.to_owned(),
        audio_ms: samples.len() as u64 / 16,
    }
}
