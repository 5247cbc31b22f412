//! Whole recordings: several at a time, bounded, printed in the order they were named.

use super::{TranscribeError, print, print_failure};
use crate::args::TranscribeArgs;
use crate::client::rest::{Rest, Transcript, Wishes};
use futures::StreamExt;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio_util::io::ReaderStream;

/// Smaller files are gone before a bar could be seen.
const BAR_FROM_BYTES: u64 = 1 << 20;

/// Transcribes all files of the arguments; the first failure comes back after all are done.
pub(super) async fn files(args: &TranscribeArgs) -> Result<Option<TranscribeError>, TranscribeError> {
    let rest = Rest::new(&args.service)?;
    let wishes = Wishes { language: args.language.clone(), model: args.model.clone() };
    let bars = MultiProgress::new();
    let work = args.files.iter().map(|path| one(&rest, &wishes, &bars, path));
    let mut results = futures::stream::iter(work).buffered(usize::from(args.parallel));
    let mut first_failure = None;
    for path in &args.files {
        let name = path.display().to_string();
        match results.next().await {
            Some(Ok(transcript)) => bars.suspend(|| print(args, &name, &transcript)),
            Some(Err(error)) => {
                bars.suspend(|| print_failure(args, &name, &error));
                first_failure = first_failure.or(Some(error));
            }
            None => break,
        }
    }
    Ok(first_failure)
}

async fn one(
    rest: &Rest,
    wishes: &Wishes,
    bars: &MultiProgress,
    path: &Path,
) -> Result<Transcript, TranscribeError> {
    let unreadable = |source| TranscribeError::ReadInput { path: path.to_owned(), source };
    if path == Path::new("-") {
        let body = reqwest::Body::wrap_stream(ReaderStream::new(tokio::io::stdin()));
        return Ok(rest.transcribe(body, wishes).await?);
    }
    let file = tokio::fs::File::open(path).await.map_err(unreadable)?;
    let metadata = file.metadata().await.map_err(unreadable)?;
    if metadata.is_dir() {
        return Err(unreadable(std::io::ErrorKind::IsADirectory.into()));
    }
    let bar = bar(bars, path, metadata.len());
    let watched = bar.clone();
    let body = ReaderStream::with_capacity(file, 64 << 10).inspect(move |piece| {
        if let Ok(piece) = piece {
            watched.inc(piece.len() as u64);
        }
        if watched.length() == Some(watched.position()) {
            watched.set_message("recognizing");
        }
    });
    let transcript = rest.transcribe(reqwest::Body::wrap_stream(body), wishes).await;
    bar.finish_and_clear();
    Ok(transcript?)
}

/// How much is sent, then how long the service has been at it; nothing is drawn in a pipe.
fn bar(bars: &MultiProgress, path: &Path, length: u64) -> ProgressBar {
    if length < BAR_FROM_BYTES {
        return ProgressBar::hidden();
    }
    let bar = bars.add(ProgressBar::new(length));
    if let Ok(style) =
        ProgressStyle::with_template("{prefix} {bar:30} {bytes}/{total_bytes} {elapsed} {msg} {spinner}")
    {
        bar.set_style(style);
    }
    let name = path.file_name().map(PathBuf::from).unwrap_or_default();
    bar.set_prefix(name.display().to_string());
    bar.set_message("sending");
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
