//! Downloads a model folder into the cache: resumable, checked, all or nothing.
//!
//! Journey: `model source → [download] → load`. A file under way is `NAME.part` and goes on where it ended; a whole
//! model is renamed into `CACHE/DIGEST` in one step, so a folder of that name is always complete.
//! Must not know: what is inside the files.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures::StreamExt;
use reqwest::header::{CONTENT_RANGE, RANGE};
use reqwest::{Client, StatusCode, Url};
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;

use crate::model_source::{Checksum, FILES, ModelError, OPTIONAL_FILES, Said, digest, hex};

/// Longest wait for a connection, and for the next bytes.
const CONNECT: Duration = Duration::from_secs(10);
const READ: Duration = Duration::from_secs(30);
/// How often progress is logged.
const PROGRESS: Duration = Duration::from_secs(2);

/// Gives the folder of a remote model.
pub(crate) async fn fetch(
    url: &Url,
    checksum: Option<&Checksum>,
    cache: &Path,
    said: Said<'_>,
) -> Result<PathBuf, ModelError> {
    let key = hex(&Sha256::digest(url.as_str().trim_end_matches('/')));
    if let Some(folder) = cached(&key, checksum, cache) {
        tracing::info!(folder = %folder.display(), "the model is in the cache");
        return Ok(folder);
    }
    let under_way = cache.join("downloads").join(&key);
    make(&under_way)?;
    let client = Client::builder().connect_timeout(CONNECT).read_timeout(READ).build();
    let client = client.map_err(|e| refuse(url, &e))?;
    for file in FILES {
        one(&client, &child(url, file), &under_way.join(file), said).await?;
    }
    for file in OPTIONAL_FILES {
        match one(&client, &child(url, file), &under_way.join(file), said).await {
            Err(ModelError::Download { detail, .. }) if detail.contains("404") => {}
            other => other?,
        }
    }
    let (got, files) = digest(&under_way).await?;
    if let Some(want) = checksum.filter(|want| **want != got) {
        // The next attempt starts from nothing: which of the bytes are wrong nobody knows.
        drop(std::fs::remove_dir_all(&under_way));
        return Err(ModelError::WrongDigest { place: url.to_string(), got, want: want.clone(), files });
    }
    if checksum.is_none() {
        tracing::warn!(checksum = %got, "the model is not pinned; set MODEL_CHECKSUM to this value");
    }
    keep(&under_way, &key, &got, cache)
}

/// A complete model: of this digest, or of this address when no digest is asked for.
fn cached(key: &str, checksum: Option<&Checksum>, cache: &Path) -> Option<PathBuf> {
    let digits = match checksum {
        Some(sum) => sum.digits().to_owned(),
        None => std::fs::read_to_string(cache.join("by-url").join(key)).ok()?,
    };
    let folder = cache.join(digits.trim());
    folder.is_dir().then_some(folder)
}

fn keep(under_way: &Path, key: &str, digest: &Checksum, cache: &Path) -> Result<PathBuf, ModelError> {
    let folder = cache.join(digest.digits());
    match std::fs::rename(under_way, &folder) {
        Ok(()) => {}
        // Another worker that shares the cache was faster.
        Err(e) if matches!(e.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists) => {
            drop(std::fs::remove_dir_all(under_way));
        }
        Err(source) => return Err(ModelError::WriteFile { path: folder, source }),
    }
    let by_url = cache.join("by-url");
    make(&by_url)?;
    let note = by_url.join(key);
    std::fs::write(&note, digest.digits()).map_err(|source| ModelError::WriteFile { path: note, source })?;
    Ok(folder)
}

/// Downloads one file, going on where an earlier attempt ended.
async fn one(client: &Client, url: &Url, path: &Path, said: Said<'_>) -> Result<(), ModelError> {
    if path.exists() {
        return Ok(());
    }
    let part = path.with_added_extension("part");
    let have = std::fs::metadata(&part).map_or(0, |m| m.len());
    let mut request = client.get(url.clone());
    if have > 0 {
        request = request.header(RANGE, format!("bytes={have}-"));
    }
    let response = request.send().await.map_err(|e| refuse(url, &e))?;
    let (mut got, want) = match response.status() {
        StatusCode::OK => (0, response.content_length()),
        StatusCode::PARTIAL_CONTENT if total(&response).is_some_and(|(from, _)| from == have) => {
            (have, total(&response).map(|(_, total)| total))
        }
        StatusCode::RANGE_NOT_SATISFIABLE => {
            drop(std::fs::remove_file(&part));
            return Err(refuse(url, &"the part from before did not fit; it starts anew"));
        }
        status => return Err(refuse(url, &format!("the server answered {status}"))),
    };
    let write = |source| ModelError::WriteFile { path: part.clone(), source };
    let mut options = tokio::fs::OpenOptions::new();
    options.create(true).append(got > 0).write(true).truncate(got == 0);
    let mut file = options.open(&part).await.map_err(write)?;
    let mut body = response.bytes_stream();
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    said(progress(&name, got, want));
    let mut last = Instant::now();
    while let Some(bytes) = body.next().await {
        let Ok(bytes) = bytes else { break };
        file.write_all(&bytes).await.map_err(write)?;
        got += bytes.len() as u64;
        if last.elapsed() >= PROGRESS {
            last = Instant::now();
            tracing::info!(file = %path.display(), megabytes = got >> 20, of = want.unwrap_or(0) >> 20, "downloading");
            said(progress(&name, got, want));
        }
    }
    file.sync_all().await.map_err(write)?;
    if want.is_some_and(|want| got != want) {
        return Err(ModelError::Truncated { url: url.to_string(), got, want: want.unwrap_or(0) });
    }
    std::fs::rename(&part, path).map_err(write)?;
    tracing::info!(file = %path.display(), bytes = got, "downloaded");
    Ok(())
}

/// How far a file is, for people.
fn progress(name: &str, got: u64, want: Option<u64>) -> String {
    let got_mib = got >> 20;
    match want.filter(|want| *want > 0) {
        Some(want) => {
            format!(
                "downloading {name}: {got_mib} of {} MiB ({} %)",
                want >> 20,
                got.saturating_mul(100) / want
            )
        }
        None => format!("downloading {name}: {got_mib} MiB"),
    }
}

/// First byte and size of a partial answer.
fn total(response: &reqwest::Response) -> Option<(u64, u64)> {
    let range = response.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    let (span, total) = range.strip_prefix("bytes ")?.split_once('/')?;
    Some((span.split_once('-')?.0.parse().ok()?, total.parse().ok()?))
}

fn child(folder: &Url, file: &str) -> Url {
    let mut url = folder.clone();
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().push(file);
    }
    url
}

fn make(folder: &Path) -> Result<(), ModelError> {
    std::fs::create_dir_all(folder)
        .map_err(|source| ModelError::WriteFile { path: folder.to_owned(), source })
}

fn refuse(url: &Url, detail: &dyn std::fmt::Display) -> ModelError {
    ModelError::Download { url: url.to_string(), detail: detail.to_string() }
}

#[cfg(test)]
#[path = "download_tests.rs"]
mod tests;
