//! Keeps the serving certificate: from a Secret that all replicas share, or from files that somebody else keeps. IO.
//!
//! The operator's own lies in a Secret. Whichever replica first finds it missing or near its end makes a new one; the
//! apiserver's conflict decides between two. Its authority is written into the `APIService`, by whoever sees it missing
//! there. At rest there is one read every ten minutes, and no write.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::Timestamp;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::api::{Api, ObjectMeta, Patch, PatchParams, PostParams};
use rustls::sign::CertifiedKey;
use serde_json::json;
use tokio::sync::watch;

use crate::certificate::{CertificateError, Serving};

/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_mins(10);
/// The same for files, which somebody else renews.
const FILES_EVERY: Duration = Duration::from_mins(1);
/// First and longest pause after a failure.
const BACK_OFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));
/// Who writes.
const MANAGER: &str = "smallest-operator-metrics";
/// Entries of the Secret, as Kubernetes names them.
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const AUTHORITIES: &str = "ca.crt";

/// Where the certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificateFrom {
    /// The operator makes and renews it.
    Operator {
        /// Namespace of the operator.
        namespace: String,
        /// Secret that holds it.
        secret: String,
        /// Service by which the apiserver reaches it.
        service: String,
        /// `APIService` that names the authority.
        api_service: String,
    },
    /// A folder with `tls.crt` and `tls.key`, kept by somebody else, who also fills in the `APIService`.
    Folder(PathBuf),
}

/// A certificate that could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// The certificate itself.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The apiserver.
    #[error("failed to {action}")]
    Ask {
        /// What was tried.
        action: &'static str,
        /// Its answer.
        #[source]
        source: kube::Error,
    },
    /// A file.
    #[error("failed to read {path}: put tls.crt and tls.key there")]
    ReadFile {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
}

impl KeepError {
    /// A stable word for logs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Certificate(error) => error.reason(),
            Self::Ask { .. } => "ApiserverRefused",
            Self::ReadFile { .. } => "CertificateFileUnreadable",
        }
    }
}

/// Keeps the certificate as long as somebody serves with it.
pub async fn keep(
    client: kube::Client,
    from: CertificateFrom,
    served: watch::Sender<Option<Arc<CertifiedKey>>>,
) {
    let mut serving = None;
    let mut pause = BACK_OFF.0;
    while !served.is_closed() {
        let looked = look(&client, &from).await.and_then(|found| {
            if serving.as_ref() != Some(&found) {
                served.send_replace(Some(found.certified_key()?));
                tracing::info!("external metrics have a serving certificate");
                serving = Some(found);
            }
            Ok(())
        });
        let wait = match looked {
            Ok(()) => {
                pause = BACK_OFF.0;
                if matches!(from, CertificateFrom::Folder(_)) { FILES_EVERY } else { LOOK_EVERY }
            }
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(reason = error.reason(), %error, cause, "failed to keep the serving certificate; tries again");
                pause = (pause * 2).min(BACK_OFF.1);
                pause
            }
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = served.closed() => {}
        }
    }
}

async fn look(client: &kube::Client, from: &CertificateFrom) -> Result<Serving, KeepError> {
    match from {
        CertificateFrom::Folder(folder) => of_folder(folder).await,
        CertificateFrom::Operator { namespace, secret, service, api_service } => {
            let names =
                [format!("{service}.{namespace}.svc"), format!("{service}.{namespace}.svc.cluster.local")];
            let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
            let serving = ensure(&secrets, secret, &names, Timestamp::now()).await?;
            announce(client, api_service, &serving).await?;
            Ok(serving)
        }
    }
}

async fn of_folder(folder: &Path) -> Result<Serving, KeepError> {
    let read = async |name: &str| {
        let path = folder.join(name);
        tokio::fs::read_to_string(&path).await.map_err(|source| KeepError::ReadFile { path, source })
    };
    Ok(Serving { certificate: read(CERTIFICATE).await?, key: read(KEY).await?, authorities: String::new() })
}

/// The certificate of the Secret; a new one when there is none, or when it must be renewed.
pub async fn ensure(
    secrets: &Api<Secret>,
    name: &str,
    names: &[String],
    now: Timestamp,
) -> Result<Serving, KeepError> {
    let ask = |action| move |source| KeepError::Ask { action, source };
    let found = secrets.get_opt(name).await.map_err(ask("read the Secret of the serving certificate"))?;
    let serving = found.as_ref().map(of_secret);
    if let Some(serving) = serving.as_ref().filter(|serving| !serving.must_be_renewed(names, now)) {
        return Ok(serving.clone());
    }
    let fresh = Serving::make(names, serving.as_ref().map(|serving| serving.authorities.as_str()), now)?;
    let parameters = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
    let written = match found {
        None => {
            let metadata =
                ObjectMeta { name: Some(name.to_owned()), labels: Some(labels()), ..ObjectMeta::default() };
            let type_ = Some("kubernetes.io/tls".to_owned());
            let secret = Secret { metadata, type_, data: Some(data(&fresh)), ..Secret::default() };
            secrets.create(&parameters, &secret).await
        }
        // The version that was read goes along: between two replicas one is first.
        Some(secret) => {
            let secret = Secret { data: Some(data(&fresh)), string_data: None, ..secret };
            secrets.replace(name, &parameters, &secret).await
        }
    };
    match written {
        Ok(_) => {
            tracing::info!(secret = name, "made a serving certificate");
            Ok(fresh)
        }
        Err(kube::Error::Api(status)) if status.code == 409 => {
            let theirs =
                secrets.get(name).await.map_err(ask("read the Secret of the serving certificate"))?;
            Ok(of_secret(&theirs))
        }
        Err(source) => Err(KeepError::Ask { action: "write the Secret of the serving certificate", source }),
    }
}

/// Writes the authorities into the `APIService`, unless they stand there.
async fn announce(client: &kube::Client, name: &str, serving: &Serving) -> Result<(), KeepError> {
    let api: Api<APIService> = Api::all(client.clone());
    let ask = |action| move |source| KeepError::Ask { action, source };
    let found = api.get_opt(name).await.map_err(ask("read the APIService of the external metrics"))?;
    let Some(found) = found else {
        tracing::warn!(
            api_service = name,
            "there is no such APIService: the autoscaler will not find the metrics"
        );
        return Ok(());
    };
    let authorities = ByteString(serving.authorities.clone().into_bytes());
    let known = found.spec.and_then(|spec| spec.ca_bundle);
    if known.as_ref() == Some(&authorities) {
        return Ok(());
    }
    let patch = json!({ "spec": { "caBundle": authorities } });
    let parameters = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    let patched = api.patch(name, &parameters, &Patch::Merge(patch)).await;
    patched.map(drop).map_err(ask("write the authority into the APIService of the external metrics"))
}

fn of_secret(secret: &Secret) -> Serving {
    let text = |key: &str| {
        let bytes = secret.data.as_ref().and_then(|data| data.get(key));
        bytes.map(|bytes| String::from_utf8_lossy(&bytes.0).into_owned()).unwrap_or_default()
    };
    Serving { certificate: text(CERTIFICATE), key: text(KEY), authorities: text(AUTHORITIES) }
}

fn data(serving: &Serving) -> BTreeMap<String, ByteString> {
    let entry = |key: &str, text: &str| (key.to_owned(), ByteString(text.as_bytes().to_vec()));
    BTreeMap::from([
        entry(CERTIFICATE, &serving.certificate),
        entry(KEY, &serving.key),
        entry(AUTHORITIES, &serving.authorities),
    ])
}

fn labels() -> BTreeMap<String, String> {
    [("app.kubernetes.io/name", "smallest-operator"), ("app.kubernetes.io/part-of", "smallest")]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}
