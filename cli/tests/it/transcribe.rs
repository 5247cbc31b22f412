//! `smallest transcribe` of standard input and of a microphone, and its exit codes when a service says no.

use crate::fake::{self, Mood, text_of};
use crate::program::{PATIENCE, end, run, smallest};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Raw samples, a chunk of 40 ms and a bit.
const SOUND: [u8; 1_500] = [3; 1_500];

/// Puts a recorder into a folder that comes first in `PATH`.
fn recorder(folder: &Path, script: &str) -> String {
    let path = folder.join("arecord");
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    format!("{}:/usr/bin:/bin", folder.display())
}

#[tokio::test]
async fn standard_input_is_sent_whole() {
    let url = fake::rest(Mood::Answers).await;
    let said = run(smallest(&["transcribe", "-", "--url", &url]), &SOUND).await;
    assert_eq!((said.code, said.out.as_str()), (Some(0), "heard 1500 bytes\n"), "{said:?}");
}

#[tokio::test]
async fn standard_input_is_sent_whole_and_answered_in_json() {
    let url = fake::rest(Mood::Answers).await;
    let said = run(smallest(&["transcribe", "-", "--json", "--url", &url]), &SOUND).await;
    let line: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((&line["file"], &line["requestId"]), (&"-".into(), &"r1".into()));
    assert_eq!(line["text"], text_of(1_500));
}

#[tokio::test]
async fn standard_input_is_streamed_as_raw_samples() {
    let (url, _) = fake::grpc(Mood::Answers).await;
    let said = run(smallest(&["transcribe", "--stream", "-", "--url", &url]), &SOUND).await;
    assert_eq!((said.code, said.out.as_str()), (Some(0), "heard 1500 bytes\n"), "{said:?}");
}

/// Ctrl-C ends the sound, not the session: what was said before it still comes, and the recorder is gone.
#[tokio::test]
async fn a_microphone_is_heard_until_ctrl_c() {
    let (url, mut heard) = fake::grpc(Mood::Answers).await;
    let folder = tempfile::tempdir().unwrap();
    let pid = folder.path().join("pid");
    let script =
        format!("echo $$ >{}; echo \"$*\" >&2; head -c 2560 /dev/zero; exec sleep 1000", pid.display());
    let path = recorder(folder.path(), &script);
    let mut listening = smallest(&["transcribe", "--microphone", "--url", &url]);
    let listening = listening.env("PATH", path).spawn().unwrap();
    tokio::time::timeout(PATIENCE, heard.wait_for(|bytes| *bytes == 2_560)).await.unwrap().unwrap();
    kill(Pid::from_raw(listening.id().unwrap() as i32), Signal::SIGINT).unwrap();
    let said = end(listening).await;
    assert_eq!((said.code, said.out.as_str()), (Some(0), "heard 2560 bytes\n"), "{said:?}");
    assert!(said.err.contains("listening through arecord; Ctrl-C ends"), "{said:?}");
    assert!(said.err.contains("-f S16_LE -r 16000 -c 1"), "{said:?}");
    let pid: i32 = std::fs::read_to_string(pid).unwrap().trim().parse().unwrap();
    crate::supervise::wait_gone(pid).await;
}

#[tokio::test]
async fn a_microphone_without_sound_or_recorder_is_said() {
    let (url, _) = fake::grpc(Mood::Answers).await;
    let folder = tempfile::tempdir().unwrap();
    let mut listening = smallest(&["transcribe", "--microphone", "--url", &url]);
    listening.env("PATH", folder.path());
    let said = run(listening, &[]).await;
    assert_eq!(said.code, Some(5), "{said:?}");
    assert!(said.err.contains("none of arecord, parec and pw-record is there"), "{said:?}");

    let mut listening = smallest(&["transcribe", "--microphone", "--url", &url]);
    listening.env("PATH", recorder(folder.path(), "exit 1"));
    let said = run(listening, &[]).await;
    assert_eq!(said.code, Some(5), "{said:?}");
    assert!(said.err.contains("arecord gave no sound"), "{said:?}");
}

#[tokio::test]
async fn nobody_there_is_exit_code_3() {
    let port = cli::up::ports::find_free(1).unwrap()[0];
    let url = format!("http://127.0.0.1:{port}");
    for args in [vec!["transcribe", "-"], vec!["transcribe", "--stream", "-"]] {
        let said = run(smallest(&[args.as_slice(), &["--url", &url]].concat()), &SOUND).await;
        assert_eq!((said.code, said.out.as_str()), (Some(3), ""), "{said:?}");
        assert!(said.err.contains("nothing answers there"), "{said:?}");
    }
}

#[tokio::test]
async fn a_refusal_is_exit_code_4_and_its_reason_is_kept() {
    let url = fake::rest(Mood::Refuses).await;
    let said = run(smallest(&["transcribe", "-", "--json", "--url", &url]), &SOUND).await;
    assert_eq!(said.code, Some(4), "{said:?}");
    let line: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((&line["file"], &line["reason"]), (&"-".into(), &"QueueFull".into()));

    let (url, _) = fake::grpc(Mood::Refuses).await;
    let said = run(smallest(&["transcribe", "--stream", "-", "--url", &url]), &SOUND).await;
    assert_eq!((said.code, said.out.as_str()), (Some(4), ""), "{said:?}");
    assert!(said.err.contains("too many sessions"), "{said:?}");
}
