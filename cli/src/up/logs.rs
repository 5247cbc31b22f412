//! Log lines of all programs on one terminal: `name │ line`, each name in its colour.
//!
//! Comes in: lines of children and notes of the supervisor. Goes out: standard error, so that standard
//! output stays free for results. One task writes, so that lines never mix.

use crate::terminal::{Paint, Palette};
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::io::{AsyncBufRead, AsyncBufReadExt};
use tokio::sync::{mpsc, oneshot, watch};

/// Lines waiting for the writer; children block on their pipe beyond that.
const QUEUED_LINES: usize = 1024;
/// Lines kept while the terminal belongs to somebody else (see [`Logs::hold`]); the oldest go first.
const HELD_LINES: usize = 1000;
/// Longer lines are cut.
const LONGEST_LINE_BYTES: usize = 16 * 1024;

#[derive(Debug)]
enum Message {
    Line(Line),
    /// Everything before it is written.
    Mark(oneshot::Sender<()>),
}

#[derive(Debug)]
struct Line {
    name: Arc<str>,
    paint: Paint,
    text: String,
}

/// Handle to the one writer; cheap to clone.
#[derive(Debug, Clone)]
pub struct Logs {
    lines: mpsc::Sender<Message>,
    held: Arc<watch::Sender<bool>>,
}

/// Keeps log lines back until it is dropped.
#[derive(Debug)]
pub struct Hold(Arc<watch::Sender<bool>>);

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.send_replace(false);
    }
}

impl Logs {
    /// Starts the writer; names are padded to `width` columns. The task ends when all handles are gone.
    pub fn start(width: usize, palette: Palette) -> (Self, tokio::task::JoinHandle<()>) {
        let (lines, receiver) = mpsc::channel(QUEUED_LINES);
        let (held, held_changes) = watch::channel(false);
        let writer = tokio::spawn(write_lines(receiver, held_changes, width, palette));
        (Self { lines, held: Arc::new(held) }, writer)
    }

    /// Says something in the supervisor's own name.
    pub async fn note(&self, text: impl Into<String>) {
        self.send("smallest".into(), Paint::Bold, text.into()).await;
    }

    /// Copies a child's output line by line until it ends.
    pub async fn copy(self, name: Arc<str>, paint: Paint, mut output: impl AsyncBufRead + Unpin) {
        let mut line = Vec::new();
        loop {
            line.clear();
            match read_bounded_line(&mut output, &mut line).await {
                Ok(true) => {
                    let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                    self.send(name.clone(), paint, text).await;
                }
                Ok(false) | Err(_) => return,
            }
        }
    }

    /// Keeps lines back while something else writes to the terminal; those said before are written first.
    pub async fn hold(&self) -> Hold {
        let (mark, written) = oneshot::channel();
        if self.lines.send(Message::Mark(mark)).await.is_ok() {
            let _ = written.await;
        }
        self.held.send_replace(true);
        Hold(self.held.clone())
    }

    async fn send(&self, name: Arc<str>, paint: Paint, text: String) {
        // The writer only ends after all handles; a failed send means that the program is ending.
        let _ = self.lines.send(Message::Line(Line { name, paint, text })).await;
    }
}

/// Reads up to and with the next newline; what is beyond the longest line is dropped. False at the end.
async fn read_bounded_line(
    input: &mut (impl AsyncBufRead + Unpin),
    line: &mut Vec<u8>,
) -> std::io::Result<bool> {
    loop {
        let available = input.fill_buf().await?;
        if available.is_empty() {
            return Ok(!line.is_empty());
        }
        let (used, ended) = match available.iter().position(|byte| *byte == b'\n') {
            Some(at) => (at + 1, true),
            None => (available.len(), false),
        };
        let room = LONGEST_LINE_BYTES.saturating_sub(line.len());
        line.extend_from_slice(&available[..used.min(room)]);
        input.consume(used);
        if ended {
            return Ok(true);
        }
    }
}

async fn write_lines(
    mut lines: mpsc::Receiver<Message>,
    mut held: watch::Receiver<bool>,
    width: usize,
    palette: Palette,
) {
    let mut kept: VecDeque<Line> = VecDeque::new();
    loop {
        tokio::select! {
            changed = held.changed() => {
                if changed.is_err() || !*held.borrow_and_update() {
                    kept.drain(..).for_each(|line| write_line(&line, width, palette));
                }
                if changed.is_err() { break }
            }
            line = lines.recv() => {
                let line = match line {
                    None => break,
                    Some(Message::Mark(mark)) => {
                        let _ = mark.send(());
                        continue;
                    }
                    Some(Message::Line(line)) => line,
                };
                if *held.borrow() {
                    if kept.len() == HELD_LINES { kept.pop_front(); }
                    kept.push_back(line);
                } else {
                    write_line(&line, width, palette);
                }
            }
        }
    }
    for line in &kept {
        write_line(line, width, palette);
    }
    while let Some(message) = lines.recv().await {
        if let Message::Line(line) = message {
            write_line(&line, width, palette);
        }
    }
}

fn write_line(line: &Line, width: usize, palette: Palette) {
    let name = format!("{:>width$} │", line.name);
    eprintln!("{} {}", palette.paint(line.paint, &name), line.text);
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines_of(input: &[u8]) -> Vec<usize> {
        let mut reader = tokio::io::BufReader::with_capacity(1000, input);
        let (mut line, mut lengths) = (Vec::new(), Vec::new());
        while read_bounded_line(&mut reader, &mut line).await.unwrap() {
            lengths.push(line.len());
            line.clear();
        }
        lengths
    }

    #[tokio::test]
    async fn an_endless_line_is_cut_and_the_next_one_is_whole() {
        let mut input = vec![b'x'; 100_000];
        input.extend_from_slice(b"\nnext\nlast without newline");
        assert_eq!(lines_of(&input).await, [LONGEST_LINE_BYTES, 5, 20]);
    }

    #[tokio::test]
    async fn no_output_is_no_line() {
        assert!(lines_of(b"").await.is_empty());
    }
}
