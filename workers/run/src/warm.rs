//! Warm-up: runs an engine on silence until its kernels are made, and measures what steps cost.
//!
//! Journey: `load → [warm] → ready`. In: a loaded engine. Out: how many live streams this machine does in time, and how
//! many chunks a batch job may take in one step. Must not know: which engine it is, queues.
//!
//! A machine is rarely at rest when a worker starts, and slots that were measured too few stay too few. So a step counts
//! without the time that it waited for a CPU (`stopwatch`), the cheapest of several steps counts, and
//! measuring goes on as long as it finds cheaper ones.

use std::time::Duration;

use workers_engine::{Engine, EngineError, SAMPLE_RATE_HZ, SlotOptions, SlotWork};

use crate::stopwatch::{Stopwatch, SystemStopwatch};

/// Streams in the larger of the two measured steps.
const MANY: usize = 32;
/// Part of a chunk's duration that a step with all streams may take.
const LIVE_SHARE: f64 = 0.5;
/// Part of a live chunk that a batch job's step may take alone.
const JOB_SHARE: f64 = 0.25;
/// What the larger step may cost if streams did not share anything: a slow engine is measured with fewer streams, so
/// that it is ready in time.
const MANY_BUDGET: Duration = Duration::from_millis(300);
/// Steps of each kind; the cheapest counts. When so many in a row were not much cheaper, none will be.
const REPEATS: usize = 5;
/// A step below this part of the cheapest so far is much cheaper.
const CHEAPER: f64 = 0.95;
/// Bounds of going on: what the steps of a kind may cost together, and how many they may be.
const MOST: (Duration, usize) = (Duration::from_secs(2), 40);

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
    warm_by(engine, &mut SystemStopwatch::default())
}

fn warm_by(engine: &mut dyn Engine, stopwatch: &mut dyn Stopwatch) -> Result<Measured, EngineError> {
    let info = engine.info().clone();
    let live = SlotOptions { lookahead: info.default_lookahead, chunks_per_step: 1 };
    for &lookahead in &info.lookaheads {
        run(engine, SlotOptions { lookahead, chunks_per_step: 1 }, 1, &mut Steps::count(1))?;
    }
    let largest = info.lookaheads.iter().copied().max().unwrap_or(live.lookahead);
    let job = SlotOptions { lookahead: largest, chunks_per_step: 2 };
    let chunk_samples = info.step_samples(live, false);
    let mut cost = |options, slots| -> Result<Duration, EngineError> {
        let mut steps = Steps::timed(stopwatch);
        run(engine, options, slots, &mut steps)?;
        Ok(steps.cheapest)
    };
    let one = cost(live, 1)?;
    let streams = streams_to_measure(one).min(info.max_slots);
    Ok(Measured {
        chunk: Duration::from_secs_f64(chunk_samples as f64 / f64::from(SAMPLE_RATE_HZ)),
        one,
        many: cost(live, streams)?,
        streams,
        job_chunk: cost(job, 1)? / 2,
    })
}

/// Streams in the larger step, from what a step of one takes: two at least, to see what another one costs.
fn streams_to_measure(one: Duration) -> usize {
    let fit = MANY_BUDGET.as_secs_f64() / one.as_secs_f64().max(1e-9);
    (fit as usize).clamp(2, MANY)
}

/// How many steps to run, and what the cheapest cost.
struct Steps<'a> {
    stopwatch: Option<&'a mut dyn Stopwatch>,
    /// Steps without a much cheaper one, after which it is enough.
    patience: usize,
    in_vain: usize,
    done: usize,
    spent: Duration,
    cheapest: Duration,
}

impl<'a> Steps<'a> {
    /// So many, not timed.
    fn count(patience: usize) -> Self {
        Self {
            stopwatch: None,
            patience,
            in_vain: 0,
            done: 0,
            spent: Duration::ZERO,
            cheapest: Duration::MAX,
        }
    }

    /// As many as it takes to know the cost.
    fn timed(stopwatch: &'a mut dyn Stopwatch) -> Self {
        Self { stopwatch: Some(stopwatch), ..Self::count(REPEATS) }
    }

    fn enough(&self) -> bool {
        let most = self.spent >= MOST.0 || self.done >= MOST.1;
        self.in_vain >= self.patience || (self.done >= self.patience && most)
    }

    fn run(&mut self, step: impl FnOnce() -> Result<(), EngineError>) -> Result<(), EngineError> {
        let Some(stopwatch) = &mut self.stopwatch else {
            self.in_vain += 1;
            return step();
        };
        stopwatch.start();
        let outcome = step();
        let cost = stopwatch.stop();
        let first = self.done == 0;
        let cheaper = first || cost.as_secs_f64() < self.cheapest.as_secs_f64() * CHEAPER;
        self.in_vain = if cheaper && !first { 0 } else { self.in_vain + 1 };
        self.cheapest = self.cheapest.min(cost);
        self.done += 1;
        self.spent += cost;
        outcome
    }
}

/// One first step and later ones over so many slots, then the end.
fn run(
    engine: &mut dyn Engine,
    options: SlotOptions,
    slots: usize,
    steps: &mut Steps<'_>,
) -> Result<(), EngineError> {
    let first = vec![0; engine.info().step_samples(options, true)];
    let next = vec![0; engine.info().step_samples(options, false)];
    for slot in 0..slots {
        engine.open(slot, options)?;
    }
    let all = |samples, end| (0..slots).map(|slot| SlotWork { slot, samples, end }).collect::<Vec<_>>();
    engine.step(&all(&first, false))?;
    while !steps.enough() {
        steps.run(|| engine.step(&all(&next, false)).map(drop))?;
    }
    engine.step(&all(&[], true))?;
    Ok(())
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

    /// Says what it was told, then the last of it for ever.
    struct Told(Vec<u64>);

    impl Stopwatch for Told {
        fn start(&mut self) {}
        fn stop(&mut self) -> Duration {
            let next = if self.0.len() > 1 { self.0.remove(0) } else { self.0[0] };
            Duration::from_millis(next)
        }
    }

    /// Steps that were run, and the cheapest, milliseconds.
    fn measured(costs: &[u64]) -> (usize, u128) {
        let mut told = Told(costs.to_vec());
        let mut steps = Steps::timed(&mut told);
        while !steps.enough() {
            steps.run(|| Ok(())).unwrap();
        }
        (steps.done, steps.cheapest.as_millis())
    }

    #[test]
    fn measuring_goes_on_while_it_finds_cheaper_steps() {
        assert_eq!(measured(&[10]), (5, 10), "a machine at rest is not kept waiting");
        assert_eq!(measured(&[90, 80, 85, 40, 70, 60, 10]), (12, 10), "a busy machine that comes to rest");
        assert_eq!(measured(&[100, 99, 98, 97, 96, 95]), (5, 96), "a little cheaper is no reason to go on");
        assert_eq!(measured(&[900, 800, 700, 600, 500, 1]), (5, 500), "a slow engine is ready in time");
    }

    #[test]
    fn every_kind_of_step_is_measured_by_the_stopwatch() {
        let mut engine = FakeEngine::new(FakeConfig { max_slots: 40, ..FakeConfig::default() });
        let costs = [[4; 5], [11; 5], [18; 5]].concat();
        let measured = warm_by(&mut engine, &mut Told(costs)).unwrap();
        let ms = Duration::from_millis;
        assert_eq!((measured.one, measured.many, measured.job_chunk), (ms(4), ms(11), ms(9)));
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
