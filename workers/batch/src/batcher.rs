//! The batcher: which slots advance together in the next step of the engine. A state machine without clocks,
//! threads or channels; time comes in as an argument, measured from any fixed origin.
//!
//! Journey: `pull → [batcher] → engine → [batcher] → reply`:
//! ```text
//! open, push, flush, end ──► next(now) ──► Step(plan) ──► engine.step(work(plan)) ──► finish(plan, …) ──► events
//!                                     └──► Wait(until)                        failed ──► fail(plan, …) ──► events
//! ```
//! Live slots with a full chunk go first, earliest deadline first, all of the same options together. Recordings
//! run between live steps with a budget: their step must not delay a live chunk by more than a part of it.
//! Must not know: Redis, sessions, which engine runs.

use std::time::Duration;

use workers_engine::{EngineInfo, SAMPLE_RATE_HZ, SlotOptions, SlotOutput, SlotWork};

use crate::absorb::{Fate, Stepped, absorb};
use crate::cost::Costs;
use crate::event::{Event, What};
use crate::slots::{BatchError, Kind, NewJob, NewStream, Occupant, Slot, Slots};

/// Bounds of a batcher.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Live streams at once.
    pub streams: usize,
    /// Recordings at once.
    pub jobs: usize,
    /// Slots in one step.
    pub step_slots: usize,
    /// Samples of a stream that may wait.
    pub pending_samples: usize,
    /// How long a full chunk waits for other streams' chunks to share its step.
    pub coalesce: Duration,
    /// Part of a live chunk that a step of recordings may take while streams are open.
    pub job_share: f64,
    /// A recording that has waited this long since its last step gets one whatever streams want.
    pub max_job_wait: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            streams: 64,
            jobs: 8,
            step_slots: 256,
            pending_samples: 30 * SAMPLE_RATE_HZ as usize,
            coalesce: Duration::ZERO,
            job_share: 0.25,
            max_job_wait: Duration::from_secs(2),
        }
    }
}

/// Steps in a row that may fail before the occupant fails.
const MAX_FAILURES: u32 = 2;

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Run this step.
    Step(Plan),
    /// Nothing to run; ask again at this time at the latest, or when something was pushed.
    Wait(Option<Duration>),
}

/// A step of the engine. Slots in `opens` are opened before.
#[derive(Debug, PartialEq, Eq)]
pub struct Plan {
    /// Slots that begin anew.
    pub opens: Vec<(usize, SlotOptions)>,
    /// Options of all slots in the step.
    pub options: SlotOptions,
    /// The step is of live streams, else of recordings.
    pub live: bool,
    items: Vec<Item>,
    now: Duration,
}

#[derive(Debug, PartialEq, Eq)]
struct Item {
    slot: usize,
    occupant: Occupant,
    samples: usize,
    end: bool,
    waited: Duration,
}

impl Plan {
    /// Slots in the step.
    pub fn slots(&self) -> usize {
        self.items.len()
    }

    /// Who is in the step.
    pub fn occupants(&self) -> impl Iterator<Item = Occupant> {
        self.items.iter().map(|i| i.occupant)
    }

    /// Samples in the step.
    pub fn samples(&self) -> usize {
        self.items.iter().map(|i| i.samples).sum()
    }
}

/// The state machine.
#[derive(Debug)]
pub struct Batcher {
    info: EngineInfo,
    limits: Limits,
    slots: Slots,
    costs: Costs,
}

impl Batcher {
    /// A batcher with all slots free.
    pub fn new(info: EngineInfo, limits: Limits) -> Self {
        let slots = Slots::new(limits.streams, limits.jobs, limits.pending_samples);
        Self { info, limits, slots, costs: Costs::default() }
    }

    /// Gives a stream a slot.
    pub fn open_stream(&mut self, occupant: Occupant, stream: &NewStream) -> Result<(), BatchError> {
        self.slots.open_stream(occupant, stream)
    }

    /// Gives a recording a slot.
    pub fn open_job(&mut self, occupant: Occupant, job: NewJob, now: Duration) -> Result<(), BatchError> {
        self.slots.open_job(occupant, job)?;
        self.refresh(occupant, now)
    }

    /// Adds audio of a stream.
    pub fn push(&mut self, occupant: Occupant, samples: &[i16], now: Duration) -> Result<(), BatchError> {
        self.slots.push(occupant, samples)?;
        self.refresh(occupant, now)
    }

    /// Makes all that was pushed final.
    pub fn flush(&mut self, occupant: Occupant, now: Duration) -> Result<(), BatchError> {
        self.slots.flush(occupant)?;
        self.refresh(occupant, now)
    }

    /// Ends a stream after all that was pushed.
    pub fn end(&mut self, occupant: Occupant, now: Duration) -> Result<(), BatchError> {
        self.slots.end(occupant)?;
        self.refresh(occupant, now)
    }

    /// Frees an occupant's slot.
    pub fn close(&mut self, occupant: Occupant) {
        self.slots.close(occupant);
    }

    /// Frees the slots of callers that are gone.
    pub fn retain(&mut self, wanted: impl Fn(Occupant) -> bool) {
        self.slots.retain(wanted);
    }

    /// Frees the slots of recordings whose callers stopped waiting.
    pub fn expire(&mut self, now: Duration) -> Vec<Event> {
        let expired = |slot: &Slot| matches!(slot.kind, Kind::Job { expires: Some(at) } if at <= now);
        let gone: Vec<_> =
            self.slots.used().filter(|(_, slot)| expired(slot)).map(|(_, slot)| slot.occupant).collect();
        gone.into_iter()
            .map(|occupant| {
                self.slots.close(occupant);
                Event { occupant, what: What::Expired }
            })
            .collect()
    }

    /// The slots, for figures.
    pub fn slots(&self) -> &Slots {
        &self.slots
    }

    /// What to do now.
    pub fn next(&mut self, now: Duration) -> Next {
        let overdue = self.ready(false).first().is_some_and(|r| now >= r.since + self.limits.max_job_wait);
        if overdue && let Some(plan) = self.plan_jobs(now) {
            return Next::Step(plan);
        }
        let live = self.ready(true);
        if let Some(first) = live.first() {
            let until = first.since + self.limits.coalesce;
            if live.len() >= self.slots.streams() || until <= now {
                return Next::Step(self.plan(&live, self.limits.step_slots, now));
            }
            return Next::Wait(Some(until));
        }
        match self.plan_jobs(now) {
            Some(plan) => Next::Step(plan),
            None => Next::Wait(None),
        }
    }

    /// The audio of a plan.
    pub fn work(&self, plan: &Plan) -> Vec<SlotWork<'_>> {
        let item = |item: &Item| {
            let slot = self.slots.get(item.slot).filter(|s| s.occupant == item.occupant)?;
            let samples = &slot.audio[slot.consumed..slot.consumed + item.samples];
            Some(SlotWork { slot: item.slot, samples, end: item.end })
        };
        plan.items.iter().filter_map(item).collect()
    }

    /// Takes the outputs of a step that took `took`.
    pub fn finish(&mut self, plan: &Plan, outputs: &[SlotOutput], took: Duration) -> Vec<Event> {
        self.costs.record(plan.options, plan.items.len(), took);
        let now = plan.now + took;
        let mut events = Vec::new();
        for (item, output) in plan.items.iter().zip(outputs) {
            let Ok(slot) = self.slots.of_mut(item.occupant) else { continue };
            slot.opened = true;
            let step = Stepped {
                info: &self.info,
                output,
                samples: item.samples,
                end: item.end,
                waited: item.waited,
                took,
            };
            let (what, fate) = absorb(slot, &step);
            events.extend(what.into_iter().map(|what| Event { occupant: item.occupant, what }));
            slot.ready_since = None;
            match fate {
                Fate::Free => self.slots.close(item.occupant),
                Fate::Keep => drop(self.refresh(item.occupant, now)),
            }
        }
        events
    }

    /// A step failed: its slots start anew from their last commit, each alone, so that the one that makes the
    /// engine fail is found; it fails for good the second time.
    pub fn fail(&mut self, plan: &Plan, detail: &str, now: Duration) -> Vec<Event> {
        let mut events = Vec::new();
        for item in &plan.items {
            let Ok(slot) = self.slots.of_mut(item.occupant) else { continue };
            let failures = slot.failures + 1;
            if failures >= MAX_FAILURES {
                self.slots.close(item.occupant);
                events.push(Event {
                    occupant: item.occupant,
                    what: What::Failed { detail: detail.to_owned() },
                });
                continue;
            }
            slot.restart(slot.base);
            slot.failures = failures;
            drop(self.refresh(item.occupant, now));
        }
        events
    }

    /// Notes since when a slot has the audio of its next step.
    fn refresh(&mut self, occupant: Occupant, now: Duration) -> Result<(), BatchError> {
        let slot = self.slots.of_mut(occupant)?;
        if slot.ready_since.is_none() && demand(&self.info, slot).is_some() {
            slot.ready_since = Some(now);
        }
        Ok(())
    }

    /// Slots of a kind that could advance, the most urgent first.
    fn ready(&self, streams: bool) -> Vec<Ready> {
        let mut ready: Vec<_> = self
            .slots
            .used()
            .filter(|(_, slot)| slot.kind.is_stream() == streams)
            .filter_map(|(index, slot)| {
                let since = slot.ready_since?;
                let deadline = since + chunk(&self.info, slot.options);
                Some(Ready { index, since, deadline, options: slot.options, alone: slot.failures > 0 })
            })
            .collect();
        ready.sort_by_key(|r| (r.deadline, r.index));
        ready
    }

    fn plan_jobs(&self, now: Duration) -> Option<Plan> {
        let ready = self.ready(false);
        let first = ready.first()?;
        let shortest = self
            .slots
            .used()
            .filter(|(_, slot)| slot.kind.is_stream())
            .map(|(_, slot)| chunk(&self.info, slot.options))
            .min();
        let most = shortest.map_or(self.limits.step_slots, |chunk| {
            let budget = chunk.mul_f64(self.limits.job_share);
            bucket(self.costs.slots_within(first.options, budget).clamp(1, self.limits.step_slots))
        });
        Some(self.plan(&ready, most, now))
    }

    /// The first of `ready` and those after it that can share its step.
    fn plan(&self, ready: &[Ready], most: usize, now: Duration) -> Plan {
        let first = &ready[0];
        let most = if first.alone { 1 } else { most };
        let together = ready
            .iter()
            .enumerate()
            .filter(|(i, r)| *i == 0 || (r.options == first.options && !r.alone))
            .map(|(_, r)| r)
            .take(most);
        let mut plan = Plan { opens: Vec::new(), options: first.options, live: true, items: Vec::new(), now };
        for r in together {
            let Some(slot) = self.slots.get(r.index) else { continue };
            let Some(demand) = demand(&self.info, slot) else { continue };
            plan.live = slot.kind.is_stream();
            if !slot.opened {
                plan.opens.push((r.index, slot.options));
            }
            plan.items.push(Item {
                slot: r.index,
                occupant: slot.occupant,
                samples: demand.samples,
                end: demand.end,
                waited: now.saturating_sub(r.since),
            });
        }
        plan
    }
}

/// A slot that could advance.
struct Ready {
    index: usize,
    since: Duration,
    deadline: Duration,
    options: SlotOptions,
    alone: bool,
}

/// What the next step of a slot takes.
struct Demand {
    samples: usize,
    end: bool,
}

fn demand(info: &EngineInfo, slot: &Slot) -> Option<Demand> {
    let want = info.step_samples(slot.options, slot.consumed == 0 && slot.frames == 0);
    let marker = slot.markers.front().map(|m| (m.at - slot.base) as usize);
    let limit = marker.map_or(slot.audio.len(), |at| at.min(slot.audio.len()));
    let available = limit - slot.consumed;
    if available >= want {
        Some(Demand { samples: want, end: false })
    } else {
        marker.is_some_and(|at| at <= slot.audio.len()).then_some(Demand { samples: available, end: true })
    }
}

/// Duration of the audio of one later step.
fn chunk(info: &EngineInfo, options: SlotOptions) -> Duration {
    let samples = info.step_samples(options, false) as u64;
    Duration::from_micros(samples * 1_000_000 / u64::from(SAMPLE_RATE_HZ))
}

/// The largest power of two within `slots`: few sizes recur, so kernels and graphs see few shapes.
fn bucket(slots: usize) -> usize {
    1 << slots.max(1).ilog2()
}
