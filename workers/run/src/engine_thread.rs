//! The one thread that owns the model: commands in, ticks out.
//!
//! Journey: `pull → [engine thread: batch → engine → batch] → reply`. Both channels are bounded: when replies cannot
//! leave (Redis is away), ticks fill up, the engine pauses, commands fill up, pulling pauses. Nothing is lost and
//! nothing grows. Idle it blocks on its channel; it never polls.
//! Must not know: sessions, Redis, text of the wire.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use telemetry::trace::Place;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use workers_batch::{BatchError, Batcher, Event, Limits, NewJob, NewStream, Next, Occupant, Plan, What};
use workers_engine::{Engine, EngineError};

use crate::trace::Traces;

/// Commands that may wait for the engine.
const COMMANDS: usize = 1_024;
/// Ticks that may wait for replies.
const TICKS: usize = 64;

/// What the engine thread is told.
#[derive(Debug)]
pub enum Command {
    /// A live stream wants a slot; what came for it already follows in order. The place is where its steps show.
    OpenStream(Occupant, NewStream, Vec<Input>, Option<Place>),
    /// A recording wants a slot.
    OpenJob(Occupant, NewJob, Option<Place>),
    /// Something for a stream.
    Input(Occupant, Input),
    /// Look again: someone is gone.
    Wake,
}

/// Something for a stream.
#[derive(Debug)]
pub enum Input {
    /// Audio.
    Audio(Vec<i16>),
    /// Make all so far final.
    Flush,
    /// No audio follows.
    End,
}

/// What one step brought.
#[derive(Debug, Default)]
pub struct Tick {
    /// To whom what happened, in order.
    pub events: Vec<Event>,
}

/// Why the engine thread ended.
#[derive(Debug)]
pub enum EngineExit {
    /// All handles were dropped.
    Stopped,
    /// The device will not recover in this process.
    Fatal {
        /// The library's message.
        detail: String,
        /// Who was in the step: one of them may be the cause, so they are not handed to the next worker at once.
        suspects: Vec<Occupant>,
    },
}

/// The way to the engine thread; cheap to clone.
#[derive(Debug, Clone)]
pub struct EngineHandle {
    commands: mpsc::Sender<Command>,
    gone: Arc<Mutex<Vec<Occupant>>>,
    occupants: Arc<AtomicU64>,
    started: Instant,
}

impl EngineHandle {
    /// A new occupant, never used before.
    pub fn occupant(&self) -> Occupant {
        Occupant(self.occupants.fetch_add(1, Ordering::Relaxed))
    }

    /// Waits for room for one command; `None` when the engine is gone.
    pub async fn reserve(&self) -> Option<mpsc::Permit<'_, Command>> {
        self.commands.reserve().await.ok()
    }

    /// Frees an occupant's slot. Never waits.
    pub fn close(&self, occupant: Occupant) {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner).push(occupant);
        // When there is no room the engine has commands to read and looks anyway.
        drop(self.commands.try_send(Command::Wake));
    }

    /// Time by the batcher's clock.
    pub fn now(&self) -> Duration {
        self.started.elapsed()
    }
}

/// A running engine thread.
#[derive(Debug)]
pub struct EngineThread {
    /// The way in.
    pub handle: EngineHandle,
    /// The way out.
    pub ticks: mpsc::Receiver<Tick>,
    /// Comes when it ends.
    pub exit: oneshot::Receiver<EngineExit>,
}

/// Starts the thread. Call inside a tokio runtime.
pub fn start(engine: Box<dyn Engine>, limits: Limits) -> std::io::Result<EngineThread> {
    let (commands, commands_in) = mpsc::channel(COMMANDS);
    let (ticks_out, ticks) = mpsc::channel(TICKS);
    let (exit_out, exit) = oneshot::channel();
    let gone = Arc::new(Mutex::new(Vec::new()));
    let started = Instant::now();
    let handle =
        EngineHandle { commands, gone: gone.clone(), occupants: Arc::new(AtomicU64::new(1)), started };
    let batcher = Batcher::new(engine.info().clone(), limits);
    let thread = Thread {
        engine,
        batcher,
        commands: commands_in,
        ticks: ticks_out,
        gone,
        limbo: HashSet::new(),
        traces: Traces::default(),
        runtime: Handle::current(),
        started,
    };
    std::thread::Builder::new().name("engine".to_owned()).spawn(move || {
        // Nobody listens any more only when the program ends.
        drop(exit_out.send(thread.run()));
    })?;
    Ok(EngineThread { handle, ticks, exit })
}

struct Thread {
    engine: Box<dyn Engine>,
    batcher: Batcher,
    commands: mpsc::Receiver<Command>,
    ticks: mpsc::Sender<Tick>,
    gone: Arc<Mutex<Vec<Occupant>>>,
    /// Occupants that were closed before their opening was read.
    limbo: HashSet<Occupant>,
    traces: Traces,
    runtime: Handle,
    started: Instant,
}

impl Thread {
    fn run(mut self) -> EngineExit {
        loop {
            let mut tick = Tick::default();
            if !self.read_commands(&mut tick) {
                return EngineExit::Stopped;
            }
            let now = self.started.elapsed();
            tick.events.extend(self.batcher.expire(now));
            let next = self.batcher.next(now);
            let wait = match next {
                Next::Step(plan) => match self.step(&plan, &mut tick) {
                    Ok(()) => None,
                    Err(exit) => return exit,
                },
                Next::Wait(until) => Some(until),
            };
            self.traces.settle(&tick.events);
            if !tick.events.is_empty() && self.ticks.blocking_send(tick).is_err() {
                return EngineExit::Stopped;
            }
            if let Some(until) = wait
                && !self.wait(until)
            {
                return EngineExit::Stopped;
            }
        }
    }

    /// Reads all commands that are there. Occupants closed meanwhile lose their slots; one whose opening is still
    /// among the commands never gets one.
    fn read_commands(&mut self, tick: &mut Tick) -> bool {
        self.close_gone();
        for _ in 0..=COMMANDS {
            match self.commands.try_recv() {
                Ok(command) => self.obey(command, tick),
                Err(mpsc::error::TryRecvError::Empty) => break,
                Err(mpsc::error::TryRecvError::Disconnected) => return false,
            }
        }
        self.limbo.clear();
        true
    }

    fn close_gone(&mut self) {
        let gone = std::mem::take(&mut *self.gone.lock().unwrap_or_else(PoisonError::into_inner));
        for occupant in gone {
            self.batcher.close(occupant);
            self.traces.forget(occupant);
            self.limbo.insert(occupant);
        }
    }

    /// Blocks until there is a command, or until the time given.
    fn wait(&mut self, until: Option<Duration>) -> bool {
        let commands = &mut self.commands;
        let command = match until {
            None => commands.blocking_recv(),
            Some(until) => {
                let left = until.saturating_sub(self.started.elapsed());
                match self.runtime.block_on(tokio::time::timeout(left, commands.recv())) {
                    Ok(command) => command,
                    Err(_elapsed) => return true,
                }
            }
        };
        let Some(command) = command else { return false };
        let mut tick = Tick::default();
        self.close_gone();
        self.obey(command, &mut tick);
        tick.events.is_empty() || self.ticks.blocking_send(tick).is_ok()
    }

    fn obey(&mut self, command: Command, tick: &mut Tick) {
        let now = self.started.elapsed();
        let (occupant, result) = match command {
            Command::Wake => return,
            Command::OpenStream(occupant, ..) | Command::OpenJob(occupant, ..)
                if self.limbo.contains(&occupant) =>
            {
                return;
            }
            Command::OpenStream(occupant, stream, inputs, place) => {
                self.traces.keep(occupant, place);
                let opened = self.open_stream(occupant, &stream);
                let all = inputs.into_iter().try_fold((), |(), input| self.input(occupant, input, now));
                (occupant, opened.and(all))
            }
            Command::OpenJob(occupant, job, place) => {
                self.traces.keep(occupant, place);
                (occupant, self.batcher.open_job(occupant, job, now))
            }
            Command::Input(occupant, input) => (occupant, self.input(occupant, input, now)),
        };
        match result {
            // It ended, failed or was closed while this was under way.
            Ok(()) | Err(BatchError::FindOccupant(_)) => {}
            Err(error) => {
                self.batcher.close(occupant);
                self.traces.forget(occupant);
                tick.events.push(Event { occupant, what: What::Failed { detail: error.to_string() } });
            }
        }
    }

    fn open_stream(&mut self, occupant: Occupant, stream: &NewStream) -> Result<(), BatchError> {
        match self.batcher.open_stream(occupant, stream) {
            Err(BatchError::OpenSlot { .. }) => {
                // Its slot's former occupant was closed a moment ago.
                self.close_gone();
                self.batcher.open_stream(occupant, stream)
            }
            other => other,
        }
    }

    fn input(&mut self, occupant: Occupant, input: Input, now: Duration) -> Result<(), BatchError> {
        match input {
            Input::Audio(samples) => self.batcher.push(occupant, &samples, now),
            Input::Flush => self.batcher.flush(occupant, now),
            Input::End => self.batcher.end(occupant, now),
        }
    }

    fn step(&mut self, plan: &Plan, tick: &mut Tick) -> Result<(), EngineExit> {
        let span = self.traces.step(plan);
        let begun = Instant::now();
        let outputs = self.open_and_step(plan);
        let took = begun.elapsed();
        if let Err(error) = &outputs {
            span.record("error", error.reason());
        }
        drop(span);
        crate::metrics::step(plan, took, outputs.is_ok());
        match outputs {
            Ok(outputs) => tick.events.extend(self.batcher.finish(plan, &outputs, took)),
            Err(EngineError::RunModel { detail, fatal: true }) => {
                tracing::error!(
                    detail,
                    "the device failed for good; the worker ends so that it is restarted"
                );
                return Err(EngineExit::Fatal { detail, suspects: plan.occupants().collect() });
            }
            Err(error) => {
                tracing::warn!(reason = error.reason(), %error, slots = plan.slots(), "a step failed; trying again");
                tick.events.extend(self.batcher.fail(plan, &error.to_string(), self.started.elapsed()));
            }
        }
        Ok(())
    }

    fn open_and_step(&mut self, plan: &Plan) -> Result<Vec<workers_engine::SlotOutput>, EngineError> {
        for (slot, options) in &plan.opens {
            self.engine.open(*slot, *options)?;
        }
        self.engine.step(&self.batcher.work(plan))
    }
}
