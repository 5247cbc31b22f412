//! Where a model comes from, and that it is the right one.
//!
//! Journey: `config → [model source] → load`. In: `MODEL_URL`, `MODEL_CHECKSUM`, a cache folder. Out: a folder with
//! `config.json`, `model.safetensors` and `tokenizer.json` whose digest is the one asked for.
//! Must not know: what is inside the files.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use sha2::{Digest, Sha256};

/// Files of a model, in the order of the digest's manifest.
pub const FILES: [&str; 3] = ["config.json", "model.safetensors", "tokenizer.json"];
/// Files that are used when they are there.
pub const OPTIONAL_FILES: [&str; 1] = ["processor_config.json"];

/// Who is told how far a download is, in words.
pub type Said<'a> = &'a (dyn Fn(String) + Send + Sync);

/// A place that holds a model folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelSource {
    /// A folder of this machine, used where it is.
    Folder(PathBuf),
    /// A folder on a web server, downloaded into the cache.
    Remote(reqwest::Url),
}

/// Why there is no model folder.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// `MODEL_URL` is no folder this program can read.
    #[error(
        "failed to read MODEL_URL {url:?}: {detail}; use file:///path/of/the/folder or https://host/folder"
    )]
    ParseUrl {
        /// As given.
        url: String,
        /// What is wrong.
        detail: String,
    },
    /// A checksum that is none.
    #[error("failed to read MODEL_CHECKSUM {0:?}: use sha256: and 64 hexadecimal digits")]
    ParseChecksum(String),
    /// A file of the model cannot be read.
    #[error("failed to read {path}: put the model's {FILES:?} into the folder of MODEL_URL")]
    ReadFile {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// A file cannot be written to the cache.
    #[error("failed to write {path}: MODEL_CACHE_DIR must be writable and have room for the model")]
    WriteFile {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The server did not give a file.
    #[error("failed to download {url}: {detail}; check MODEL_URL and that this machine may reach it")]
    Download {
        /// The file's address.
        url: String,
        /// What happened.
        detail: String,
    },
    /// A file ended too early; what is there is kept for the next attempt.
    #[error(
        "failed to download {url}: the connection ended after {got} of {want} bytes; the rest is fetched next"
    )]
    Truncated {
        /// The file's address.
        url: String,
        /// Bytes here.
        got: u64,
        /// Bytes announced.
        want: u64,
    },
    /// The model is not the one asked for.
    #[error(
        "failed to trust the model in {place}: its digest is {got}, MODEL_CHECKSUM wants {want}; \
         the files are damaged or not those the checksum was made of (files: {files})"
    )]
    WrongDigest {
        /// Folder or address.
        place: String,
        /// Found.
        got: Checksum,
        /// Wanted.
        want: Checksum,
        /// Digests of the files, for people.
        files: String,
    },
}

impl ModelError {
    /// A stable word for `/health`, metrics and logs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::ParseUrl { .. } => "ParseUrl",
            Self::ParseChecksum(_) => "ParseChecksum",
            Self::ReadFile { .. } => "ReadFile",
            Self::WriteFile { .. } => "WriteFile",
            Self::Download { .. } => "Download",
            Self::Truncated { .. } => "Truncated",
            Self::WrongDigest { .. } => "WrongDigest",
        }
    }
}

impl FromStr for ModelSource {
    type Err = ModelError;

    fn from_str(text: &str) -> Result<Self, ModelError> {
        let refuse = |detail: &str| ModelError::ParseUrl { url: text.to_owned(), detail: detail.to_owned() };
        let url = reqwest::Url::parse(text).map_err(|e| refuse(&e.to_string()))?;
        match url.scheme() {
            "file" => url.to_file_path().map(Self::Folder).map_err(|()| refuse("the path must be absolute")),
            "https" => Ok(Self::Remote(url)),
            "http" if is_loopback(&url) => Ok(Self::Remote(url)),
            "http" => Err(refuse("plain http is taken from this machine only")),
            other => Err(refuse(&format!("{other}:// is not supported"))),
        }
    }
}

fn is_loopback(url: &reqwest::Url) -> bool {
    url.host_str().is_some_and(|h| matches!(h, "localhost" | "127.0.0.1" | "[::1]"))
}

impl ModelSource {
    /// Last part of the address: the model's name when none is given.
    pub fn name(&self) -> Option<String> {
        let name = match self {
            Self::Folder(path) => path.file_name()?.to_string_lossy().into_owned(),
            Self::Remote(url) => url.path_segments()?.rfind(|s| !s.is_empty())?.to_owned(),
        };
        Some(name)
    }

    /// Gives the model's folder, downloaded and checked. Reads and hashes files: run it off the async threads'
    /// critical path only in so far as a worker that loads has nothing else to do.
    /// `said` is told how far a download is.
    pub async fn fetch(
        &self,
        checksum: Option<&Checksum>,
        cache: &Path,
        said: Said<'_>,
    ) -> Result<PathBuf, ModelError> {
        match self {
            Self::Folder(path) => {
                if let Some(want) = checksum {
                    verify(path, &path.display().to_string(), want).await?;
                } else {
                    for file in FILES {
                        let path = path.join(file);
                        std::fs::metadata(&path).map_err(|source| ModelError::ReadFile { path, source })?;
                    }
                }
                Ok(path.clone())
            }
            Self::Remote(url) => crate::download::fetch(url, checksum, cache, said).await,
        }
    }
}

/// Checks a folder against a digest.
pub(crate) async fn verify(folder: &Path, place: &str, want: &Checksum) -> Result<(), ModelError> {
    let (got, files) = digest(folder).await?;
    if got == *want {
        return Ok(());
    }
    Err(ModelError::WrongDigest { place: place.to_owned(), got, want: want.clone(), files })
}

/// The digest of a model folder and the manifest it is made of.
pub(crate) async fn digest(folder: &Path) -> Result<(Checksum, String), ModelError> {
    let folder = folder.to_owned();
    let work = tokio::task::spawn_blocking(move || {
        let mut manifest = String::new();
        for file in FILES {
            let path = folder.join(file);
            let sum = hash(&path).map_err(|source| ModelError::ReadFile { path, source })?;
            writeln!(manifest, "{sum}  {file}").expect("writing to a string cannot fail");
        }
        Ok((Checksum(hex(&Sha256::digest(&manifest))), manifest.trim_end().replace('\n', ", ")))
    });
    work.await.expect("hashing files does not panic")
}

fn hash(path: &Path) -> std::io::Result<String> {
    let mut hasher = Sha256::new();
    std::io::copy(&mut std::fs::File::open(path)?, &mut hasher)?;
    Ok(hex(&hasher.finalize()))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string cannot fail");
        text
    })
}

/// A SHA-256 in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checksum(String);

impl Checksum {
    /// The digits.
    pub fn digits(&self) -> &str {
        &self.0
    }
}

impl FromStr for Checksum {
    type Err = ModelError;

    fn from_str(text: &str) -> Result<Self, ModelError> {
        let digits = text.trim().strip_prefix("sha256:").unwrap_or_default().to_ascii_lowercase();
        if digits.len() == 64 && digits.chars().all(|c| c.is_ascii_hexdigit()) {
            Ok(Self(digits))
        } else {
            Err(ModelError::ParseChecksum(text.to_owned()))
        }
    }
}

impl std::fmt::Display for Checksum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "sha256:{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_folders_or_https() {
        assert_eq!("file:///a/b".parse::<ModelSource>().unwrap(), ModelSource::Folder("/a/b".into()));
        assert_eq!("file:///a/b".parse::<ModelSource>().unwrap().name().as_deref(), Some("b"));
        let remote = "https://host/models/x-1/".parse::<ModelSource>().unwrap();
        assert_eq!(remote.name().as_deref(), Some("x-1"));
        for bad in ["s3://bucket/x", "http://example.com/x", "models/x", ""] {
            let error = bad.parse::<ModelSource>().unwrap_err();
            assert!(error.to_string().contains("file:///path"), "{error}");
        }
    }

    #[tokio::test]
    async fn the_digest_is_that_of_sha256sum() {
        let folder = tempfile::tempdir().unwrap();
        for file in FILES {
            std::fs::write(folder.path().join(file), file).unwrap();
        }
        let sum = std::process::Command::new("sh")
            .arg("-c")
            .arg("sha256sum config.json model.safetensors tokenizer.json | sha256sum")
            .current_dir(folder.path())
            .output()
            .unwrap();
        let want = String::from_utf8(sum.stdout).unwrap();
        let (got, _) = digest(folder.path()).await.unwrap();
        assert_eq!(got.digits(), want.split_whitespace().next().unwrap());
    }

    #[tokio::test]
    async fn a_wrong_or_missing_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let source = ModelSource::Folder(folder.path().to_owned());
        std::fs::write(folder.path().join("config.json"), "{}").unwrap();
        let missing = source.fetch(None, Path::new("/"), &|_| ()).await.unwrap_err();
        assert!(missing.to_string().contains("model.safetensors"), "{missing}");
        for file in FILES {
            std::fs::write(folder.path().join(file), file).unwrap();
        }
        let want: Checksum = format!("sha256:{}", "0".repeat(64)).parse().unwrap();
        let wrong = source.fetch(Some(&want), Path::new("/"), &|_| ()).await.unwrap_err();
        assert_eq!(wrong.reason(), "WrongDigest");
        assert!(wrong.to_string().contains("MODEL_CHECKSUM wants sha256:0000"), "{wrong}");
    }
}
