//! Warm-up: runs an engine on silence until its kernels are made, and measures what steps cost.
//!
//! Journey: `load → [warm] → ready`. In: a loaded engine. Out: how many live streams this machine does in time, and how
//! many chunks a batch job may take in one step. Must not know: which engine it is, queues.

use std::time::{Duration, Instant};

use workers_engine::{Engine, EngineError, SAMPLE_RATE_HZ, SlotOptions, SlotWork};

/// Streams in the larger of the two measured steps.
const MANY: usize = 32;
/// Part of a chunk's duration that a step with all streams may take.
const LIVE_SHARE: f64 = 0.5;
/// Part of a live chunk that a batch job's step may take alone.
const JOB_SHARE: f64 = 0.25;
/// What the larger step may cost if streams did not share anything: a slow engine is measured with fewer streams, so
/// that it is ready in time.
const MANY_BUDGET: Duration = Duration::from_millis(300);
/// Steps of each kind; the fastest counts.
const REPEATS: usize = 5;

/// What was measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// Duration of a later live chunk at the default look-ahead.
    pub chunk: Duration,
    /// A live step of one stream.
    pub one: Duration,
    /// A live step of many streams.
    pub many: Duration,
    /// Streams in it.
    pub streams: usize,
    /// A batch job's chunk at the largest look-ahead.
    pub job_chunk: Duration,
}

impl Measured {
    /// Live streams whose common step stays within its share of a chunk, from what one and many cost.
    pub fn capacity(&self) -> usize {
        let budget = self.chunk.as_secs_f64() * LIVE_SHARE;
        let (one, many) = (self.one.as_secs_f64(), self.many.as_secs_f64());
        let each = ((many - one) / (self.streams.saturating_sub(1)).max(1) as f64).max(1e-9);
        (1.0 + (budget - one).max(0.0) / each) as usize
    }

    /// Chunks of a batch job in one step, so that one job's step stays within its share of a live chunk.
    pub fn job_chunks(&self) -> usize {
        let budget = self.chunk.mul_f64(JOB_SHARE).as_secs_f64();
        let fit = (budget / self.job_chunk.as_secs_f64().max(1e-9)) as usize;
        [8, 4, 2].into_iter().find(|n| *n <= fit).unwrap_or(1)
    }
}

/// Warms an engine up.
pub fn warm(engine: &mut dyn Engine) -> Result<Measured, EngineError> {
    let info = engine.info().clone();
    let live = SlotOptions { lookahead: info.default_lookahead, chunks_per_step: 1 };
    for &lookahead in &info.lookaheads {
        run(engine, SlotOptions { lookahead, chunks_per_step: 1 }, 1, 1)?;
    }
    let largest = info.lookaheads.iter().copied().max().unwrap_or(live.lookahead);
    let job = SlotOptions { lookahead: largest, chunks_per_step: 2 };
    let chunk_samples = info.step_samples(live, false);
    let one = run(engine, live, 1, REPEATS)?;
    let streams = streams_to_measure(one).min(info.max_slots);
    let measured = Measured {
        chunk: Duration::from_secs_f64(chunk_samples as f64 / f64::from(SAMPLE_RATE_HZ)),
        one,
        many: run(engine, live, streams, REPEATS)?,
        streams,
        job_chunk: run(engine, job, 1, REPEATS)? / 2,
    };
    Ok(measured)
}

/// Streams in the larger step, from what a step of one takes: two at least, to see what another one costs.
fn streams_to_measure(one: Duration) -> usize {
    let fit = MANY_BUDGET.as_secs_f64() / one.as_secs_f64().max(1e-9);
    (fit as usize).clamp(2, MANY)
}

/// One first and some later steps over so many slots, then the end; the fastest of the later ones.
fn run(
    engine: &mut dyn Engine,
    options: SlotOptions,
    slots: usize,
    later: usize,
) -> Result<Duration, EngineError> {
    let first = vec![0; engine.info().step_samples(options, true)];
    let next = vec![0; engine.info().step_samples(options, false)];
    for slot in 0..slots {
        engine.open(slot, options)?;
    }
    let all = |samples, end| (0..slots).map(|slot| SlotWork { slot, samples, end }).collect::<Vec<_>>();
    engine.step(&all(&first, false))?;
    let mut fastest = Duration::MAX;
    for _ in 0..later {
        let begun = Instant::now();
        engine.step(&all(&next, false))?;
        fastest = fastest.min(begun.elapsed());
    }
    engine.step(&all(&[], true))?;
    Ok(fastest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use workers_engine::fake::{FakeConfig, FakeEngine};

    #[test]
    fn capacity_follows_the_measured_costs() {
        let ms = Duration::from_millis;
        let measured = Measured { chunk: ms(160), one: ms(4), many: ms(11), streams: 8, job_chunk: ms(9) };
        assert_eq!(measured.capacity(), 77);
        assert_eq!(measured.job_chunks(), 4);
        let slow = Measured { chunk: ms(160), one: ms(300), many: ms(600), streams: 8, job_chunk: ms(900) };
        assert_eq!((slow.capacity(), slow.job_chunks()), (1, 1));
    }

    #[test]
    fn a_slow_engine_is_measured_with_fewer_streams() {
        let ms = Duration::from_millis;
        assert_eq!([1, 9, 30, 200, 5_000].map(|one| streams_to_measure(ms(one))), [32, 32, 10, 2, 2]);
    }

    #[test]
    fn a_warm_engine_is_as_good_as_new() {
        let mut engine = FakeEngine::new(FakeConfig { max_slots: 3, ..FakeConfig::default() });
        let measured = warm(&mut engine).unwrap();
        assert_eq!(measured.streams, 3);
        let options = SlotOptions { lookahead: 3, chunks_per_step: 1 };
        engine.open(0, options).unwrap();
    }
}
