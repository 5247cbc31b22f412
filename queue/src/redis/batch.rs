//! Batch jobs in Redis: submit, claim, answer, release, cancel.
//!
//! In comes a job with its audio, out goes exactly one reply into its gateway's inbox. Audio lies beside the job
//! as a list of parts with a TTL, so no single command carries a whole recording.

use bytes::Bytes;
use tokio::time::Instant;

use super::claims::{Claim, Line, millis};
use super::{RedisQueue, scripts};
use crate::codec;
use crate::ids::{JobId, WorkerId};
use crate::job::{BatchJob, BatchReply, WorkErrorKind};
use crate::port::{ClaimedJob, QueueError};
use crate::session::ToGateway;
use crate::verdict::{self, DEAD_LETTER_TTL, DONE_TTL, DeadLetter, GATEWAY_LEASES};

/// Bytes of one part of audio.
const PART_BYTES: usize = 1 << 20;
/// Parts that travel in one round trip, and so at most are in memory twice.
const PARTS_A_TRIP: usize = 8;

impl RedisQueue {
    pub(super) async fn submit_job(&self, job: &BatchJob, audio: Bytes) -> Result<(), QueueError> {
        if audio.len() > PART_BYTES {
            // Only to spare the upload; the script below decides.
            let waiting = self.read_depth().await?.batch;
            self.refuse_when_full(waiting)?;
        }
        self.upload(&job.id, &audio).await?;
        let (keys, limits) = (&self.inner.keys, &self.inner.limits);
        let mut call = scripts::SUBMIT.prepare_invoke();
        call.key(keys.jobs()).key(keys.job(&job.id)).key(keys.gateway(&job.gateway)).key(keys.audio(&job.id));
        call.arg(codec::encode(job)).arg(limits.max_batch_depth).arg(millis(limits.lease));
        call.arg(millis(limits.batch_ttl)).arg(millis(limits.lease * GATEWAY_LEASES));
        let (accepted, waiting): (bool, u64) = self.inner.link.script("submit a job", &call).await?;
        if accepted { Ok(()) } else { Err(QueueError::Full { waiting, limit: limits.max_batch_depth }) }
    }

    pub(super) async fn cancel_job(&self, job: &JobId) -> Result<Option<WorkerId>, QueueError> {
        let keys = &self.inner.keys;
        let mut call = scripts::CANCEL_JOB.prepare_invoke();
        call.key(keys.jobs()).key(keys.job(job)).key(keys.audio(job)).arg(millis(DONE_TTL));
        let worker: String = self.inner.link.script("cancel a job", &call).await?;
        Ok(worker.parse().ok())
    }

    pub(super) async fn claim_batch(
        &self,
        worker: &WorkerId,
        max: usize,
        deadline: Instant,
    ) -> Result<Vec<ClaimedJob>, QueueError> {
        loop {
            let mut claimed = Vec::new();
            for claim in self.claim(Line::Jobs, worker, max, deadline).await? {
                claimed.extend(self.judged(worker, claim).await?);
            }
            if !claimed.is_empty() || Instant::now() >= deadline {
                return Ok(claimed);
            }
        }
    }

    pub(super) async fn fetch_audio(&self, job: &JobId) -> Result<Option<Bytes>, QueueError> {
        let key = self.inner.keys.audio(job);
        let mut audio = Vec::new();
        for first in (0_usize..).step_by(PARTS_A_TRIP) {
            let mut range = ::redis::cmd("LRANGE");
            range.arg(&key).arg(first).arg(first + PARTS_A_TRIP - 1);
            let parts: Vec<Vec<u8>> = self.inner.link.command("fetch the audio of a job", &range).await?;
            let last = parts.len() < PARTS_A_TRIP;
            for part in parts {
                audio.extend(part);
            }
            if last {
                break;
            }
        }
        // Even an empty recording has one (empty) part.
        let exists = !audio.is_empty() || self.exists("fetch the audio of a job", &key).await?;
        Ok(exists.then(|| Bytes::from(audio)))
    }

    pub(super) async fn release_batch(&self, worker: &WorkerId, job: &ClaimedJob) -> Result<(), QueueError> {
        let keys = &self.inner.keys;
        let mut call = scripts::RELEASE_JOB.prepare_invoke();
        call.key(keys.jobs()).key(keys.job(&job.job.id)).arg(worker.as_str()).arg(&job.claim);
        call.arg(job.attempt).arg(millis(self.inner.limits.batch_ttl));
        self.inner.link.script("release a job", &call).await
    }

    /// Sends the reply and forgets the job, if the claim holds still; buries it when there is a letter.
    pub(super) async fn answer(
        &self,
        (worker, claim): (&WorkerId, &str),
        job: &BatchJob,
        reply: BatchReply,
        letter: Option<&DeadLetter>,
    ) -> Result<(), QueueError> {
        let (keys, limits) = (&self.inner.keys, &self.inner.limits);
        let mut call = scripts::ANSWER.prepare_invoke();
        call.key(keys.jobs()).key(keys.job(&job.id)).key(keys.audio(&job.id));
        call.key(keys.to_gateway(&job.gateway)).key(keys.dead());
        call.arg(worker.as_str()).arg(claim).arg(codec::pack([&ToGateway::Batch(reply)]));
        call.arg(limits.inbox_entries).arg(self.inbox_ttl_ms()).arg(millis(DONE_TTL));
        call.arg(letter.map(codec::encode).unwrap_or_default());
        call.arg(limits.dead_letters).arg(millis(DEAD_LETTER_TTL));
        self.inner.link.script("answer a job", &call).await
    }

    /// Turns a claim into a job to run, or answers it here and now when it must not run.
    async fn judged(&self, worker: &WorkerId, mut claim: Claim) -> Result<Option<ClaimedJob>, QueueError> {
        let before =
            claim.entry.take("attempts").and_then(|n| String::from_utf8(n).ok()?.parse::<u32>().ok());
        let attempt = before.unwrap_or(0) + claim.deliveries;
        let job: BatchJob = match codec::decode(&claim.entry.take("job").unwrap_or_default()) {
            Ok(job) => job,
            Err(error) => {
                tracing::warn!(entry = claim.entry.id, %error, "unreadable job dropped");
                self.discard(Line::Jobs, worker, &claim.entry.id).await?;
                return Ok(None);
            }
        };
        let now_ms = super::unix_ms();
        let Some(error) = verdict::judge(&job, attempt, now_ms, &self.inner.limits) else {
            return Ok(Some(ClaimedJob { job, attempt, claim: claim.entry.id }));
        };
        let letter = (error.kind == WorkErrorKind::AttemptsExhausted).then(|| DeadLetter {
            work: job.id.to_string(),
            attempts: attempt - 1,
            last_worker: claim.former_holder,
            at_ms: now_ms,
        });
        let reply = verdict::refusal(&job, error, now_ms);
        self.answer((worker, &claim.entry.id), &job, reply, letter.as_ref()).await?;
        Ok(None)
    }

    /// Stores audio in parts. Starts over when repeated, so a broken connection leaves no part twice.
    async fn upload(&self, job: &JobId, audio: &Bytes) -> Result<(), QueueError> {
        let key = self.inner.keys.audio(job);
        let ttl = millis(self.inner.limits.batch_ttl);
        let parts: Vec<&[u8]> = if audio.is_empty() { vec![&[]] } else { audio.chunks(PART_BYTES).collect() };
        for (trip, parts) in parts.chunks(PARTS_A_TRIP).enumerate() {
            // The length says whether this trip was made already: then a repetition changes nothing.
            let mut store = scripts::STORE_PARTS.prepare_invoke();
            store.key(&key).arg(trip * PARTS_A_TRIP).arg(ttl);
            for part in parts {
                store.arg(*part);
            }
            self.inner.link.script::<()>("store the audio of a job", &store).await?;
        }
        Ok(())
    }

    fn refuse_when_full(&self, waiting: u64) -> Result<(), QueueError> {
        let limit = self.inner.limits.max_batch_depth;
        if waiting >= limit { Err(QueueError::Full { waiting, limit }) } else { Ok(()) }
    }
}
