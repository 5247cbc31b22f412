//! A program is started, restarted after a crash, and leaves nothing behind when it is stopped.

use cli::terminal::{Paint, Palette};
use cli::up::logs::Logs;
use cli::up::supervise::{State, Supervised};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use operator_plan::local::{Probe, Program};
use std::collections::BTreeMap;
use std::time::Duration;

/// Nothing here takes longer.
const PATIENCE: Duration = Duration::from_secs(20);

fn shell(script: &str) -> Program {
    Program {
        name: "shell".into(),
        command: "sh".into(),
        args: vec!["-c".into(), script.into()],
        env: BTreeMap::new(),
        files: Vec::new(),
        ports: Vec::new(),
        probe: Probe::Redis { port: 1 },
        after: Vec::new(),
        drain_seconds: 5,
    }
}

fn start(program: Program) -> Supervised {
    let (logs, _) = Logs::start(8, Palette::Plain);
    Supervised::start(program, env!("CARGO_BIN_EXE_smallest").into(), Paint::Plain, logs)
}

async fn wait_for(program: &Supervised, wanted: impl FnMut(&State) -> bool) -> State {
    let mut states = program.state();
    let state = tokio::time::timeout(PATIENCE, states.wait_for(wanted)).await;
    state.expect("the state is reached in time").expect("the program is supervised").clone()
}

async fn pid_of(program: &Supervised) -> u32 {
    match wait_for(program, |state| matches!(state, State::Runs { .. })).await {
        State::Runs { pid, .. } => pid,
        other => panic!("{other:?}"),
    }
}

/// Waits until a process is gone (or only waits to be reaped).
pub(crate) async fn wait_gone(pid: i32) {
    let gone = async {
        loop {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
            if matches!(state, None | Some('Z' | 'X')) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.unwrap_or_else(|_| panic!("process {pid} is still there"));
}

#[tokio::test]
async fn a_killed_program_is_started_again() {
    let program = start(shell("sleep 1000"));
    let first = pid_of(&program).await;
    program.watcher().was_ready();
    kill(Pid::from_raw(first as i32), Signal::SIGKILL).unwrap();
    let state = wait_for(&program, |state| matches!(state, State::Runs { restarts: 1, .. })).await;
    assert!(matches!(state, State::Runs { pid, .. } if pid != first));
    program.order_stop(PATIENCE);
    program.stopped().await;
}

#[tokio::test]
async fn a_program_that_never_gets_ready_is_given_up() {
    let program = start(shell("exit 7"));
    let state = wait_for(&program, |state| matches!(state, State::GivenUp { .. })).await;
    assert_eq!(state, State::GivenUp { ended: "ended with status 7".into() });
}

#[tokio::test]
async fn stopping_takes_the_whole_process_group_along() {
    let dir = tempfile::tempdir().unwrap();
    let pid_file = dir.path().join("pid");
    let program =
        start(shell(&format!("sleep 1000 & echo $! > {}.part; mv {0}.part {0}; wait", pid_file.display())));
    let grandchild: i32 = tokio::time::timeout(PATIENCE, async {
        loop {
            if let Ok(text) = std::fs::read_to_string(&pid_file) {
                return text.trim().parse().unwrap();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    let child = pid_of(&program).await;
    program.order_stop(PATIENCE);
    program.stopped().await;
    wait_gone(child as i32).await;
    wait_gone(grandchild).await;
}

#[tokio::test]
async fn a_program_that_ignores_the_order_is_killed_when_its_time_is_over() {
    let program = start(shell("trap '' TERM; while true; do sleep 0.05; done"));
    let pid = pid_of(&program).await;
    program.order_stop(Duration::from_millis(100));
    tokio::time::timeout(PATIENCE, program.stopped()).await.unwrap();
    wait_gone(pid as i32).await;
}

#[tokio::test]
async fn a_second_order_ends_the_patience() {
    let program = start(shell("trap '' TERM; while true; do sleep 0.05; done"));
    pid_of(&program).await;
    program.order_stop(Duration::from_hours(1));
    program.order_stop(Duration::ZERO);
    tokio::time::timeout(PATIENCE, program.stopped()).await.unwrap();
}

/// The thread that started the program plays the supervisor: when it ends, however it ends, the kernel
/// kills the program.
#[test]
fn a_program_does_not_outlive_its_supervisor() {
    let pid = std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let pid = runtime.block_on(async {
            let program = start(shell("sleep 1000"));
            let pid = pid_of(&program).await;
            // Became the shell (or what the shell became): the signal is set by then.
            tokio::time::timeout(PATIENCE, async {
                while !["sh", "sleep"]
                    .contains(&std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap().trim())
                {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
            .await
            .unwrap();
            // Neither stopped nor dropped in order: only the kernel is left to end it.
            std::mem::forget(program);
            pid
        });
        // Dropping the runtime would drop, and so kill, the child in an orderly way.
        std::mem::forget(runtime);
        pid
    })
    .join()
    .unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(wait_gone(pid as i32));
}
