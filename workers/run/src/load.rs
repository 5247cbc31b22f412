//! From configuration to a warmed-up engine. While that fails the worker stays up, says why, and tries again.
//!
//! Journey: `config → [load: model source → engine → warm] → ready`. Must not know: queues.

use std::time::Duration;

use queue::port::WorkerPhase;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use workers_engine::fake::{FakeConfig, FakeEngine};
use workers_engine::{Engine, EngineError};

use crate::config::{AsrArgs, EngineKind, SlotCount};
use crate::model_source::{ModelError, ModelSource};
use crate::ready::Readiness;
use crate::warm::{Measured, warm};

/// First and longest wait between two attempts.
const BACK_OFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));
/// Live streams at most when `SLOTS=auto`.
const AUTO_FAKE: usize = 256;

/// Why there is no engine.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// No `MODEL_URL`.
    #[error(
        "failed to load a model: MODEL_URL is not set; give it the model's folder as file:// or https://"
    )]
    NoModel,
    /// The program was built without libtorch.
    #[cfg(not(feature = "torch"))]
    #[error(
        "failed to use ENGINE=torch: this program was built without libtorch; build it with --features torch"
    )]
    NoTorch,
    /// The model is not there or not the right one.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The engine did not take it.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Loading panicked.
    #[error("failed to load the model: the engine panicked; its message is in the log")]
    Panicked,
}

impl LoadError {
    /// A stable word for `/health`, metrics and logs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoModel => "NoModel",
            #[cfg(not(feature = "torch"))]
            Self::NoTorch => "NoTorch",
            Self::Model(error) => error.reason(),
            Self::Engine(error) => error.reason(),
            Self::Panicked => "Panicked",
        }
    }
}

/// An engine that is ready to serve.
pub struct Loaded {
    /// The engine, warm.
    pub engine: Box<dyn Engine>,
    /// Live streams to hold.
    pub streams: usize,
    /// Batch jobs to hold.
    pub jobs: usize,
    /// Chunks of a batch job in one step.
    pub job_chunks: usize,
    /// SHA-256 of the model, where it is known.
    pub model_sha256: Option<String>,
}

/// Loads until it works; `None` when asked to stop before.
pub async fn insist(
    args: &AsrArgs,
    readiness: &watch::Sender<Readiness>,
    stop: &CancellationToken,
) -> Option<Loaded> {
    let mut wait = BACK_OFF.0;
    loop {
        let attempt = tokio::select! {
            attempt = once(args, readiness) => attempt,
            () = stop.cancelled() => return None,
        };
        match attempt {
            Ok(loaded) => return Some(loaded),
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::error!(reason = error.reason(), %error, cause, retry_s = wait.as_secs(), "no model yet");
                let why = cause.map_or_else(|| error.to_string(), |cause| format!("{error} ({cause})"));
                readiness.send_replace(Readiness::starting(WorkerPhase::Failed, why));
            }
        }
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = stop.cancelled() => return None,
        }
        wait = (wait * 2).min(BACK_OFF.1);
    }
}

async fn once(args: &AsrArgs, readiness: &watch::Sender<Readiness>) -> Result<Loaded, LoadError> {
    let (build, model_sha256) = builder(args, readiness).await?;
    let phases = readiness.clone();
    let say = move |phase, message: &str| {
        phases.send_replace(Readiness::starting(phase, message));
    };
    let load = tokio::task::spawn_blocking(move || {
        say(WorkerPhase::Loading, "loading the model");
        let mut engine = build()?;
        say(WorkerPhase::WarmingUp, "warming the model up");
        let measured = warm(engine.as_mut())?;
        Ok::<_, EngineError>((engine, measured))
    });
    let (engine, measured) = load.await.map_err(|_panic| LoadError::Panicked)??;
    let loaded = Loaded { model_sha256, ..share(args, engine, measured) };
    if let Some(asked) = args.batch_slots.filter(|asked| usize::from(*asked) > loaded.jobs) {
        tracing::warn!(
            asked,
            jobs = loaded.jobs,
            "BATCH_SLOTS (batch.maxSize) is more than the engine has slots for: raise SLOTS (slots), or lower it"
        );
    }
    tracing::info!(
        model = loaded.engine.info().model,
        device = loaded.engine.info().device,
        streams = loaded.streams,
        jobs = loaded.jobs,
        job_chunks = loaded.job_chunks,
        step_one_ms = measured.one.as_secs_f64() * 1_000.0,
        step_many_ms = measured.many.as_secs_f64() * 1_000.0,
        many = measured.streams,
        chunk_ms = measured.chunk.as_millis() as u64,
        "the model is loaded and warm"
    );
    Ok(loaded)
}

/// Divides the engine's slots between live streams and recordings.
fn share(args: &AsrArgs, engine: Box<dyn Engine>, measured: Measured) -> Loaded {
    let slots = engine.info().max_slots;
    let jobs = jobs(args.wanted_jobs(), slots);
    let streams = match args.slots {
        SlotCount::Exactly(n) => n.min(slots - jobs),
        SlotCount::Auto => (slots - jobs).min(measured.capacity()),
    };
    let job_chunks = measured.job_chunks();
    Loaded { engine, streams: streams.max(1), jobs, job_chunks, model_sha256: None }
}

/// Recordings to hold in an engine of so many slots: a quarter of them at most.
fn jobs(wanted: usize, slots: usize) -> usize {
    wanted.min(slots / 4).max(1)
}

/// Slots that the engine must have, when that is not its own choice.
fn engine_slots(args: &AsrArgs) -> Option<usize> {
    match args.slots {
        // Recordings get a quarter at most, so a few streams still leave room for one.
        SlotCount::Exactly(n) => Some(n + args.wanted_jobs().min(n.div_ceil(3)).max(1)),
        SlotCount::Auto => None,
    }
}

type Build = Box<dyn FnOnce() -> Result<Box<dyn Engine>, EngineError> + Send>;

/// What makes the engine, and the digest of its model.
async fn builder(
    args: &AsrArgs,
    readiness: &watch::Sender<Readiness>,
) -> Result<(Build, Option<String>), LoadError> {
    match args.engine {
        EngineKind::Fake => {
            let config = FakeConfig {
                model: args.model_name.clone().unwrap_or_else(|| "fake-asr".to_owned()),
                max_slots: engine_slots(args).unwrap_or(AUTO_FAKE),
                chunk_cost: Duration::from_millis(args.fake_chunk_cost_ms),
                ..FakeConfig::default()
            };
            let build: Build = Box::new(move || Ok(Box::new(FakeEngine::new(config)) as Box<dyn Engine>));
            // There is no model that could be another one than the one asked for.
            Ok((build, args.checksum().map(|sum| sum.digits().to_owned())))
        }
        EngineKind::Torch => torch(args, readiness).await,
    }
}

#[cfg(not(feature = "torch"))]
async fn torch(
    args: &AsrArgs,
    readiness: &watch::Sender<Readiness>,
) -> Result<(Build, Option<String>), LoadError> {
    // The model is looked at all the same, so that its faults show first.
    fetch(args, readiness).await?;
    Err(LoadError::NoTorch)
}

#[cfg(feature = "torch")]
async fn torch(
    args: &AsrArgs,
    readiness: &watch::Sender<Readiness>,
) -> Result<(Build, Option<String>), LoadError> {
    use crate::config::{Device, Precision};
    use workers_torch::{DeviceChoice, LoadOptions, TorchEngine};

    let Fetched { folder, model, sha256 } = fetch(args, readiness).await?;
    let options = LoadOptions {
        model,
        device: match args.device {
            Device::Auto => DeviceChoice::Auto,
            Device::Cpu => DeviceChoice::Cpu,
            Device::Cuda => DeviceChoice::Cuda,
        },
        precision: match args.precision {
            Precision::Fp32 => workers_torch::Precision::Fp32,
            Precision::Bf16 => workers_torch::Precision::Bf16,
        },
        slots: engine_slots(args),
        threads: args.torch_threads,
        ..LoadOptions::default()
    };
    let build: Build =
        Box::new(move || Ok(Box::new(TorchEngine::load(&folder, &options)?) as Box<dyn Engine>));
    Ok((build, sha256))
}

/// A model on this machine's disk.
#[cfg_attr(not(feature = "torch"), expect(dead_code, reason = "without libtorch it is only looked for"))]
struct Fetched {
    folder: std::path::PathBuf,
    /// Name under which clients ask for it.
    model: String,
    /// Its digest: the one asked for, or the one its folder in the cache is named by.
    sha256: Option<String>,
}

/// A first look at the source. What failed before stays said until something comes of the new attempt: else whoever
/// follows the worker sees it fail and begin in turns.
fn look(readiness: &watch::Sender<Readiness>, phase: WorkerPhase) {
    readiness.send_if_modified(|readiness| {
        let failed = matches!(readiness, Readiness::Starting { phase: WorkerPhase::Failed, .. });
        if !failed {
            *readiness = Readiness::starting(phase, "looking for the model");
        }
        !failed
    });
}

async fn fetch(args: &AsrArgs, readiness: &watch::Sender<Readiness>) -> Result<Fetched, LoadError> {
    let source = args.model_url.as_ref().ok_or(LoadError::NoModel)?;
    let phase = match source {
        ModelSource::Folder(_) => WorkerPhase::Loading,
        ModelSource::Remote(_) => WorkerPhase::Downloading,
    };
    let say = |message| {
        readiness.send_replace(Readiness::starting(phase, message));
    };
    look(readiness, phase);
    let folder = source.fetch(args.checksum(), &args.model_cache_dir, &say).await?;
    let name = args.model_name.clone().filter(|name| !name.is_empty()).or_else(|| source.name());
    let pinned = args.checksum().map(|sum| sum.digits().to_owned());
    let sha256 = pinned.or_else(|| match source {
        ModelSource::Folder(_) => None,
        ModelSource::Remote(_) => Some(folder.file_name()?.to_string_lossy().into_owned()),
    });
    Ok(Fetched { folder, model: name.unwrap_or_else(|| "asr".to_owned()), sha256 })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::config::Cli;

    #[test]
    fn recordings_get_what_is_asked_for_within_a_part_of_the_slots() {
        for (asked, slots, expected) in [
            (None, "64", 8),
            (Some("4"), "64", 4),
            (Some("512"), "64", 21),
            (None, "3", 1),
            (Some("16"), "1", 1),
            (None, "auto", 8),
            (Some("512"), "auto", AUTO_FAKE / 4),
        ] {
            let flags = ["smallest-worker", "asr", "--slots", slots].into_iter();
            let flags = flags.chain(asked.into_iter().flat_map(|asked| ["--batch-slots", asked]));
            let (_, args) = Cli::parse_from(flags).command.parts();
            let slots_of_engine = engine_slots(&args).unwrap_or(AUTO_FAKE);
            assert_eq!(jobs(args.wanted_jobs(), slots_of_engine), expected, "{asked:?} of {slots}");
        }
    }

    #[test]
    fn what_failed_stays_said_while_it_is_tried_again() {
        let (readiness, _seen) = watch::channel(Readiness::starting(WorkerPhase::Starting, "starting"));
        look(&readiness, WorkerPhase::Downloading);
        assert_eq!(
            *readiness.borrow(),
            Readiness::starting(WorkerPhase::Downloading, "looking for the model")
        );
        let failed = Readiness::starting(WorkerPhase::Failed, "failed to download x");
        readiness.send_replace(failed.clone());
        look(&readiness, WorkerPhase::Downloading);
        assert_eq!(*readiness.borrow(), failed);
    }
}
