//! `smallest up`: a whole service on this machine from one `SmallestDeployment` file.
//!
//! The journey: read the file and plan (pure) → claim the deployment → look at the ports → start the
//! programs in order, each when the one before is ready → demo or command, if asked for → wait for Ctrl-C
//! → stop in reverse order. What may be started and with what is the plan's decision, never made here.

pub mod backoff;
pub mod logs;
pub mod plan;
pub mod ports;
pub mod probe;
pub mod run_state;
pub mod supervise;

mod error;
mod service;

pub use error::UpError;

use crate::args::{Service, UpArgs};
use crate::demo;
use crate::error::CliError;
use crate::terminal::Palette;
use crate::wav::Recording;
use operator_plan::SecretText;
use operator_plan::local::{LocalFile, LocalRun};
use service::LocalService;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Runs the command to its end: Ctrl-C, SIGTERM, a closed terminal, or the end of the command after `--`.
pub async fn run(args: UpArgs) -> Result<ExitCode, CliError> {
    let mut deployment = plan::load(&args.file, args.ports)?;
    choose_logs(&mut deployment, &args);
    let claim = run_state::claim(&run_state::folder(), &deployment.deployment).map_err(UpError::from)?;
    check_ports(&deployment)?;
    write_files(&deployment)?;
    let mut signals = Signals::listen().map_err(UpError::Listen)?;
    let mut service = LocalService::new(claim, args.file.clone(), &deployment)?;
    let outcome = tokio::select! {
        outcome = serve(&args, &deployment, &mut service) => outcome,
        () = signals.stop() => Ok(ExitCode::SUCCESS),
    };
    service.stop(signals).await;
    outcome
}

/// Starts everything and does what was asked for; without a command after `--` it never returns by itself.
async fn serve(
    args: &UpArgs,
    deployment: &LocalRun,
    service: &mut LocalService,
) -> Result<ExitCode, CliError> {
    service.start(&deployment.programs, Duration::from_secs(args.ready_timeout)).await?;
    if !args.then.is_empty() {
        return Ok(run_command(&args.then, &deployment.url).await?);
    }
    if args.demo {
        let held = service.logs().hold().await;
        show(args, &deployment.url).await?;
        drop(held);
    }
    service.note(&format!("{} is up at {}; Ctrl-C stops it", deployment.deployment, deployment.url)).await;
    std::future::pending().await
}

async fn show(args: &UpArgs, url: &str) -> Result<(), CliError> {
    let file = demo_audio(args)?;
    let unreadable = |detail: String| UpError::ReadDemo { path: file.clone(), detail };
    let bytes = std::fs::read(&file).map_err(|error| unreadable(error.to_string()))?;
    let recording = Recording::parse(&bytes).map_err(|error| unreadable(error.to_string()))?;
    let service = Service { url: url.to_owned(), api_key: std::env::var("SMALLEST_API_KEY").ok() };
    demo::speak(&service, &file, &recording).await?;
    demo::print_ways(url, &file);
    println!();
    Ok(())
}

/// The recording of the demo model, wherever `up` was started from.
fn demo_audio(args: &UpArgs) -> Result<PathBuf, UpError> {
    const SAMPLE: &str = "models/demo-asr/samples/quickstart.wav";
    if let Some(path) = &args.demo_audio {
        return Ok(path.clone());
    }
    let beside = args.file.parent().unwrap_or(Path::new(".")).join("..").join(SAMPLE);
    [PathBuf::from(SAMPLE), beside].into_iter().find(|path| path.is_file()).ok_or_else(|| UpError::ReadDemo {
        path: SAMPLE.into(),
        detail: "it is not here; name a recording with --demo-audio".into(),
    })
}

fn check_ports(deployment: &LocalRun) -> Result<(), UpError> {
    for program in &deployment.programs {
        if let Some(port) = program.ports.iter().copied().find(|port| !ports::is_free(*port)) {
            let holder = ports::holder(port);
            return Err(UpError::UsePort { port, program: program.name.clone(), holder });
        }
    }
    Ok(())
}

/// On a terminal people read the lines, and the demo is to be seen; the environment and the resource may
/// say otherwise.
fn choose_logs(deployment: &mut LocalRun, args: &UpArgs) {
    let mut choose = |name: &str, value: &str| {
        if std::env::var_os(name).is_none() {
            for program in &mut deployment.programs {
                program.env.entry(name.to_owned()).or_insert_with(|| SecretText::new(value));
            }
        }
    };
    if Palette::stderr() == Palette::Colour {
        choose("LOG_FORMAT", "text");
    }
    if args.demo {
        choose("RUST_LOG", "warn");
    }
}

/// Writes the files of all programs, readable by this user alone.
fn write_files(deployment: &LocalRun) -> Result<(), UpError> {
    for LocalFile { path, content } in deployment.programs.iter().flat_map(|program| &program.files) {
        let write = || {
            let folder = path.parent().unwrap_or(Path::new("/"));
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            // Removed first: the mode of a file that is there already would stay.
            let _ = std::fs::remove_file(path);
            let mut file = std::fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)?;
            file.write_all(content.expose().as_bytes())
        };
        write().map_err(|source| UpError::WriteFile { path: path.clone(), source })?;
    }
    Ok(())
}

/// Runs the command after `--`; `smallest` is this program.
async fn run_command(command: &[String], url: &str) -> Result<ExitCode, UpError> {
    let [name, args @ ..] = command else { return Ok(ExitCode::SUCCESS) };
    let failed = |source| UpError::RunCommand { command: name.clone(), source };
    let program = if name == "smallest" { std::env::current_exe().map_err(failed)? } else { name.into() };
    let status = tokio::process::Command::new(program)
        .args(args)
        .env("SMALLEST_URL", url)
        .kill_on_drop(true)
        .status()
        .await
        .map_err(failed)?;
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}

/// The signals that stop a service.
#[derive(Debug)]
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn stop(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }
}
