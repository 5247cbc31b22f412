//! The worker's metrics: every name in one place, as `docs/metrics.md` lists them.
//!
//! Journey: every step of it records here. Names with `asr_` are those of the published dashboards and alerts.
//! Must not know: who scrapes them.

use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use queue::port::Depth;
use workers_batch::Plan;
use workers_engine::EngineInfo;

/// Describes all metrics and sets the gauges to zero, so that a fresh worker shows them.
pub fn describe() {
    describe_gauge!("asr_active_requests", "batch jobs on the engine");
    describe_gauge!("asr_active_streams", "live sessions that hold a slot");
    describe_gauge!("asr_batch_queue_depth", "batch jobs of the deployment that no worker has claimed");
    describe_gauge!("asr_stream_queue_depth", "sessions of the deployment that no worker has claimed");
    describe_gauge!("asr_slots_total", "live sessions that the worker can hold");
    describe_gauge!("asr_model_info", "1, with the model and device that serve, once ready");
    describe_gauge!("asr_model_load_time_seconds", Unit::Seconds, "from start of the load to ready");
    describe_counter!("asr_total_requests", "batch jobs and sessions finished, whatever came of them");
    describe_counter!("total_requests_total", "the same, under the name of the published dashboard");
    describe_counter!("asr_errors_total", "batch jobs and sessions that failed, by reason");
    describe_counter!("asr_audio_ms_total", "audio recognized, by kind");
    describe_counter!("asr_claims_lost_total", "work that another worker took over from this one, by kind");
    describe_counter!("asr_replays_total", "times a gateway was asked to send audio again, by reason");
    describe_histogram!("asr_real_time_factor", "time on the engine by duration of the audio, per batch job");
    describe_histogram!(
        "asr_processing_duration_seconds",
        Unit::Seconds,
        "batch job from claimed to answered"
    );
    describe_histogram!("asr_e2e_latency_seconds", Unit::Seconds, "batch job from accepted to answered");
    describe_histogram!("asr_queue_wait_seconds", Unit::Seconds, "from accepted to claimed, by kind");
    describe_histogram!("asr_step_duration_seconds", Unit::Seconds, "one step of the engine, by kind");
    describe_histogram!("asr_chunk_wait_seconds", Unit::Seconds, "a live chunk from complete to its step");
    describe_histogram!("asr_batch_size", "slots in a step, by kind");
    for name in
        ["asr_active_requests", "asr_active_streams", "asr_batch_queue_depth", "asr_stream_queue_depth"]
    {
        gauge!(name).set(0.0);
    }
    counter!("asr_total_requests").absolute(0);
    counter!("total_requests_total").absolute(0);
}

/// Kinds of work, as labels.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// A recording.
    Batch,
    /// A session.
    Stream,
}

impl Kind {
    fn label(self) -> &'static str {
        match self {
            Self::Batch => "batch",
            Self::Stream => "stream",
        }
    }
}

/// A step of the engine.
pub(crate) fn step(plan: &Plan, took: Duration, worked: bool) {
    let kind = if plan.live { Kind::Stream } else { Kind::Batch }.label();
    histogram!("asr_step_duration_seconds", "kind" => kind).record(took);
    histogram!("asr_batch_size", "kind" => kind).record(plan.slots() as f64);
    if worked {
        let ms = plan.samples() as u64 * 1_000 / u64::from(workers_engine::SAMPLE_RATE_HZ);
        counter!("asr_audio_ms_total", "kind" => kind).increment(ms);
    }
}

/// A chunk that waited for its step.
pub(crate) fn chunk(waited: Duration) {
    histogram!("asr_chunk_wait_seconds").record(waited);
}

/// Work was claimed after it waited in the queue.
pub(crate) fn claimed(kind: Kind, queue_ms: f32) {
    histogram!("asr_queue_wait_seconds", "kind" => kind.label()).record(f64::from(queue_ms) / 1_000.0);
}

/// Work is finished; `error` is its reason when it failed.
pub(crate) fn finished(error: Option<&'static str>) {
    counter!("asr_total_requests").increment(1);
    counter!("total_requests_total").increment(1);
    if let Some(reason) = error {
        counter!("asr_errors_total", "reason" => reason).increment(1);
    }
}

/// Durations of an answered batch job.
#[expect(clippy::struct_field_names, reason = "units belong to names")]
#[derive(Debug, Clone, Copy)]
pub(crate) struct JobTimes {
    pub(crate) audio_ms: u64,
    pub(crate) infer_ms: f32,
    pub(crate) claimed_ms: u64,
    pub(crate) e2e_ms: u64,
}

/// A batch job was answered.
pub(crate) fn job(language: &str, times: JobTimes) {
    let language = language.to_owned();
    if times.audio_ms > 0 {
        let factor = f64::from(times.infer_ms) / times.audio_ms as f64;
        histogram!("asr_real_time_factor", "language" => language.clone()).record(factor);
    }
    histogram!("asr_processing_duration_seconds", "language" => language.clone())
        .record(times.claimed_ms as f64 / 1_000.0);
    histogram!("asr_e2e_latency_seconds", "language" => language).record(times.e2e_ms as f64 / 1_000.0);
}

/// Another worker took over work of this one.
pub(crate) fn lost(kind: Kind) {
    counter!("asr_claims_lost_total", "kind" => kind.label()).increment(1);
}

/// A gateway was asked to send audio again.
pub(crate) fn replay(reason: &'static str) {
    counter!("asr_replays_total", "reason" => reason).increment(1);
}

/// What the worker holds now.
pub(crate) fn active(streams: usize, jobs: usize) {
    gauge!("asr_active_streams").set(streams as f64);
    gauge!("asr_active_requests").set(jobs as f64);
}

/// What waits in the deployment's queue.
pub(crate) fn depth(depth: Depth) {
    gauge!("asr_batch_queue_depth").set(depth.batch as f64);
    gauge!("asr_stream_queue_depth").set(depth.sessions as f64);
}

/// The model is ready.
pub(crate) fn ready(info: &EngineInfo, slots: usize, load: Duration) {
    gauge!("asr_model_info", "model" => info.model.clone(), "device" => info.device.clone()).set(1.0);
    gauge!("asr_slots_total").set(slots as f64);
    gauge!("asr_model_load_time_seconds").set(load.as_secs_f64());
}
