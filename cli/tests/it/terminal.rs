//! What a person sees on a terminal, and what a pipe gets instead: neither colours nor lines, nothing in passing.

use crate::fake::{self, Mood};
use crate::program::{Said, on_a_terminal, run, smallest};
use cli::wav::Recording;
use std::path::PathBuf;

const ESCAPE: char = '\u{1b}';

/// A tenth of a second, as a file.
fn sound(folder: &tempfile::TempDir) -> PathBuf {
    let recording = Recording { sample_rate_hz: 16_000, channels: 1, samples: vec![9; 1_600] };
    let path = folder.path().join("sound.wav");
    std::fs::write(&path, recording.to_wav()).unwrap();
    path
}

/// Streams a recording and shows its words: on a terminal, or in a pipe.
async fn words(variables: &[(&str, &str)], terminal: bool) -> Said {
    let (url, _) = fake::grpc(Mood::Answers).await;
    let folder = tempfile::tempdir().unwrap();
    let file = sound(&folder).display().to_string();
    let args = ["transcribe", "--stream", "--words", "--url", &url, &file];
    let mut command = if terminal { on_a_terminal(&args) } else { smallest(&args) };
    command.envs(variables.iter().copied());
    run(command, &[]).await
}

#[tokio::test]
async fn a_terminal_shows_words_as_they_come_and_a_drawn_table() {
    let said = words(&[], true).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.out.contains("\u{1b}[2mheard something\u{1b}[0m"), "partials are dim: {said:?}");
    assert!(said.out.contains("heard 3200 bytes") && said.out.contains('┌'), "{said:?}");
}

#[tokio::test]
async fn a_pipe_gets_text_and_plain_columns() {
    let said = words(&[], false).await;
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{said:?}");
    let lines: Vec<&str> = said.out.lines().map(str::trim_end).collect();
    assert_eq!(lines[0], "heard 3200 bytes");
    assert!(lines[1].contains("word") && lines[1].contains("confidence"), "{said:?}");
    assert!(!said.out.contains([ESCAPE, '┌', '│', '\r']) && !said.out.contains("something"), "{said:?}");
}

#[tokio::test]
async fn a_terminal_without_colour_gets_none() {
    for refusal in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let said = words(&[refusal], true).await;
        assert!(said.out.contains("heard 3200 bytes") && !said.out.contains(ESCAPE), "{refusal:?}: {said:?}");
    }
}

#[tokio::test]
async fn an_error_is_red_on_a_terminal_and_plain_in_a_pipe() {
    let args = ["model", "digest", "/nowhere/at/all"];
    let seen = run(on_a_terminal(&args), &[]).await;
    assert!(seen.out.contains("\u{1b}[31merror:\u{1b}[0m failed"), "{seen:?}");
    let said = run(smallest(&args), &[]).await;
    assert!(said.err.starts_with("error: failed") && said.out.is_empty(), "{said:?}");
    assert_eq!((seen.code, said.code), (Some(5), Some(5)));
}
