//! The external metrics API (`external.metrics.k8s.io/v1beta1`): autoscaler → apiserver → [this] → queue readings.
//!
//! ```text
//! TLS ──▶ who asks (front_proxy) ──▶ may they (authorize) ──▶ what (selector) ──▶ source ──▶ documents
//!  ▲                ▲                        │
//!  certificate      follow (ConfigMap)       └──▶ SubjectAccessReview
//! ```
//! In order of travel:
//! - [`certificate`]: the serving certificate, made and judged, pure; [`keep`]: kept in a Secret and in the `APIService`;
//! - [`serve`]: TLS, bounds, the way of a request; [`follow`]: whom the apiserver authenticates itself as;
//! - [`front_proxy`]: certificate and headers → user, pure; [`authorize`]: may this user;
//! - [`selector`]: which series, pure; [`source`]: their values; [`documents`]: what is answered, pure; [`error`]: the one
//!   table of refusals.
//!
//! A value that is not known is an error with a reason, never zero. Nothing here knows Redis or what a metric means.

pub mod authorize;
pub mod certificate;
pub mod documents;
pub mod error;
pub mod follow;
pub mod front_proxy;
pub mod keep;
pub mod selector;
pub mod serve;
pub mod source;
mod tls;

pub use keep::CertificateFrom;
pub use selector::Selector;
pub use serve::{Server, serve};
pub use source::{MetricError, MetricSource, MetricValue};

/// The API group.
pub const GROUP: &str = "external.metrics.k8s.io";
/// Its version.
pub const VERSION: &str = "v1beta1";

use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Serves a source as the cluster's external metrics until stopped: keeps the certificate, follows the apiserver's
/// configuration, answers. `client` must be allowed to write: the certificate's Secret belongs to no leader.
pub async fn run(
    client: kube::Client,
    listener: TcpListener,
    certificate: CertificateFrom,
    (source, stop): (Arc<dyn MetricSource>, CancellationToken),
) {
    let (kept, certified) = watch::channel(None);
    let (found, front_proxy) = watch::channel(None);
    let reviews = Arc::new(authorize::Reviews::new(client.clone()));
    let server = Server { certificate: certified, front_proxy, authorizer: reviews, source };
    tokio::select! {
        () = stop.cancelled() => {}
        () = keep::keep(client.clone(), certificate, kept) => {}
        () = follow::follow(client, found) => {}
        () = serve(listener, server) => {}
    }
}
