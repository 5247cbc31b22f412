//! A made-up world around a batcher: arrivals in virtual time, an engine whose steps cost virtual time.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use workers_batch::endpoint::Rules;
use workers_batch::{Batcher, Event, Limits, NewJob, NewStream, Next, Occupant, SegmentText, What};
use workers_engine::fake::{FakeConfig, FakeEngine, Fault};
use workers_engine::{Engine, SlotOptions};

/// Someone who talks in real time.
#[derive(Debug, Clone)]
pub(crate) struct Talk {
    pub(crate) audio: Vec<i16>,
    pub(crate) text: String,
    pub(crate) lookahead: usize,
    pub(crate) start: Duration,
}

enum Arrival {
    Audio(Vec<i16>),
    Flush,
    End,
}

pub(crate) struct Sim {
    pub(crate) batcher: Batcher,
    /// Most samples that any moment kept, over all slots.
    pub(crate) most_kept: usize,
    engine: FakeEngine,
    chunk_cost: Duration,
    now: Duration,
    /// By time, then by order of making.
    arrivals: BTreeMap<(Duration, usize), (Occupant, Arrival)>,
    events: HashMap<Occupant, Vec<What>>,
    done: HashMap<Occupant, Duration>,
    occupants: u64,
}

impl Sim {
    pub(crate) fn new(limits: Limits, chunk_cost: Duration) -> Self {
        Self::over(
            FakeEngine::new(FakeConfig { max_slots: 128, ..FakeConfig::default() }),
            limits,
            chunk_cost,
        )
    }

    pub(crate) fn failing_at(at_step: u64, chunk_cost: Duration) -> Self {
        let fault = Some(Fault { at_step, fatal: false });
        let engine = FakeEngine::new(FakeConfig { max_slots: 128, fault, ..FakeConfig::default() });
        Self::over(engine, Limits::default(), chunk_cost)
    }

    fn over(engine: FakeEngine, limits: Limits, chunk_cost: Duration) -> Self {
        Self {
            batcher: Batcher::new(engine.info().clone(), limits),
            most_kept: 0,
            engine,
            chunk_cost,
            now: Duration::ZERO,
            arrivals: BTreeMap::new(),
            events: HashMap::new(),
            done: HashMap::new(),
            occupants: 0,
        }
    }

    fn occupant(&mut self) -> Occupant {
        self.occupants += 1;
        Occupant(self.occupants)
    }

    pub(crate) fn open(&mut self, lookahead: usize, rules: Rules) -> Occupant {
        self.open_at(lookahead, rules, 0)
    }

    fn open_at(&mut self, lookahead: usize, rules: Rules, start_samples: u64) -> Occupant {
        let occupant = self.occupant();
        let options = SlotOptions { lookahead, chunks_per_step: 1 };
        self.batcher.open_stream(occupant, &NewStream { options, rules, start_samples }).unwrap();
        occupant
    }

    /// Talks from now on in real time, in pieces of the sizes given in turn.
    pub(crate) fn talk(&mut self, talk: &Talk, splits: &[usize]) -> Occupant {
        self.talk_from(talk, 0, splits)
    }

    pub(crate) fn talk_from(&mut self, talk: &Talk, from: u64, splits: &[usize]) -> Occupant {
        let occupant = self.open_at(talk.lookahead, Rules::default(), from);
        let mut rest = &talk.audio[from as usize..];
        let (mut at, mut sizes) = (talk.start, splits.iter().cycle());
        while !rest.is_empty() {
            let (piece, more) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
            at += Duration::from_micros(piece.len() as u64 * 1_000 / 16);
            self.arrive(at, occupant, Arrival::Audio(piece.to_vec()));
            rest = more;
        }
        self.arrive(at, occupant, Arrival::End);
        occupant
    }

    fn arrive(&mut self, at: Duration, occupant: Occupant, arrival: Arrival) {
        let order = self.arrivals.len();
        self.arrivals.insert((at, order), (occupant, arrival));
    }

    pub(crate) fn push(&mut self, occupant: Occupant, audio: &[i16]) {
        self.arrive(self.now, occupant, Arrival::Audio(audio.to_vec()));
    }

    pub(crate) fn flush(&mut self, occupant: Occupant) {
        self.arrive(self.now, occupant, Arrival::Flush);
    }

    pub(crate) fn end(&mut self, occupant: Occupant) {
        self.arrive(self.now, occupant, Arrival::End);
    }

    pub(crate) fn job(&mut self, samples: Vec<i16>) -> Occupant {
        self.job_until(samples, Duration::MAX)
    }

    pub(crate) fn job_until(&mut self, samples: Vec<i16>, expires: Duration) -> Occupant {
        let occupant = self.occupant();
        let options = SlotOptions { lookahead: 13, chunks_per_step: 2 };
        let job = NewJob { options, samples, expires: Some(expires) };
        self.batcher.open_job(occupant, job, self.now).unwrap();
        occupant
    }

    /// Runs until nothing is left to do.
    pub(crate) fn run(&mut self) {
        for _ in 0..1_000_000 {
            self.deliver();
            match self.batcher.next(self.now) {
                Next::Step(plan) => self.step(&plan),
                Next::Wait(until) => {
                    let next = self.arrivals.keys().next().map(|k| k.0);
                    match [next, until].into_iter().flatten().min() {
                        Some(at) => self.now = at.max(self.now),
                        None => return,
                    }
                }
            }
        }
        panic!("the batcher never came to rest");
    }

    fn deliver(&mut self) {
        while let Some(entry) = self.arrivals.first_entry().filter(|e| e.key().0 <= self.now) {
            let ((at, _), (occupant, arrival)) = entry.remove_entry();
            match arrival {
                Arrival::Audio(samples) => self.batcher.push(occupant, &samples, at).unwrap(),
                Arrival::Flush => self.batcher.flush(occupant, at).unwrap(),
                Arrival::End => self.batcher.end(occupant, at).unwrap(),
            }
        }
        let slots = self.batcher.slots();
        if slots.jobs() == 0 {
            self.most_kept = self.most_kept.max(slots.kept_samples());
        }
    }

    fn step(&mut self, plan: &workers_batch::Plan) {
        for (slot, options) in &plan.opens {
            self.engine.open(*slot, *options).unwrap();
        }
        let took = self.chunk_cost * (plan.options.chunks_per_step * plan.slots()) as u32;
        let outputs = self.engine.step(&self.batcher.work(plan));
        let events = match outputs {
            Ok(outputs) => self.batcher.finish(plan, &outputs, took),
            Err(error) => self.batcher.fail(plan, &error.to_string(), self.now),
        };
        self.now += took;
        for Event { occupant, what } in events {
            if matches!(what, What::Transcript { .. } | What::Ended { .. } | What::Failed { .. }) {
                self.done.insert(occupant, self.now);
            }
            self.events.entry(occupant).or_default().push(what);
        }
    }

    pub(crate) fn events(&self, occupant: Occupant) -> &[What] {
        self.events.get(&occupant).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn segments(&self, occupant: Occupant) -> Vec<SegmentText> {
        let finals = self.events(occupant).iter().filter_map(|what| match what {
            What::Final(segment) => Some(segment.clone()),
            _ => None,
        });
        finals.collect()
    }

    pub(crate) fn text(&self, occupant: Occupant) -> String {
        let texts = self.events(occupant).iter().filter_map(|what| match what {
            What::Final(segment) => Some(segment.spoken.text.clone()),
            What::Transcript { spoken, .. } => Some(spoken.text.clone()),
            _ => None,
        });
        texts.filter(|t| !t.is_empty()).collect::<Vec<_>>().join(" ")
    }

    pub(crate) fn ended(&self, occupant: Occupant) -> bool {
        matches!(self.events(occupant).last(), Some(What::Ended { .. }))
    }

    pub(crate) fn done_at(&self, occupant: Occupant) -> Duration {
        self.done.get(&occupant).copied().unwrap_or(Duration::MAX)
    }
}
