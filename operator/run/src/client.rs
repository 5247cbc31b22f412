//! The way to the apiserver: two clients over one connection pool. Every call is counted and has a deadline; the
//! writer also asks [`Leadership`] before a write, and gives the write up when leadership is lost under way.
//!
//! So no other module has to think of the Lease: a standby that tries to write gets [`NotLeader`].

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http::{Method, Request, Response};
use kube::Client;
use kube::client::{Body, ClientBuilder};
use tokio::time::timeout;
use tower::{BoxError, Service};

use crate::lease::Leadership;

/// Longest wait for the head of an answer; a watch answers at once too.
const CALL_DEADLINE: Duration = Duration::from_secs(30);
/// Longest silence inside an answer. Watches are renewed more often than that.
const READ_DEADLINE: Duration = Duration::from_secs(330);

/// The clients of the operator.
#[derive(Clone)]
pub(crate) struct Clients {
    /// For what changes nothing, and for the Lease itself.
    pub(crate) reader: Client,
    /// For everything else: refuses to write unless this replica leads.
    pub(crate) writer: Client,
}

/// This replica does not hold the Lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("failed to write: this replica does not hold the Lease")]
pub(crate) struct NotLeader;

/// The apiserver did not answer in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("failed to get an answer of the apiserver in {} s", CALL_DEADLINE.as_secs())]
pub(crate) struct NoAnswer;

impl Clients {
    /// Connects as the environment says: `KUBECONFIG`, or the pod's service account.
    pub(crate) fn new(mut config: kube::Config, leadership: &Leadership) -> kube::Result<Self> {
        config.read_timeout = Some(READ_DEADLINE);
        let plain = ClientBuilder::try_from(config)?.build();
        Ok(Self::over(&plain, leadership))
    }

    /// Puts the two over any client; tests give one that answers from memory.
    pub(crate) fn over(client: &Client, leadership: &Leadership) -> Self {
        let namespace = client.default_namespace().to_owned();
        let build = |gate: Gate| {
            let service = Calls { inner: Plain(client.clone()), gate };
            ClientBuilder::new(service, namespace.clone()).build()
        };
        Self { reader: build(Gate::Open), writer: build(Gate::Leader(leadership.clone())) }
    }
}

/// Who may write.
#[derive(Clone)]
enum Gate {
    Open,
    Leader(Leadership),
}

/// A client as a service, so that others can stand in front of it.
#[derive(Clone)]
struct Plain(Client);

impl Service<Request<Body>> for Plain {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let client = self.0.clone();
        Box::pin(async move { client.send(request).await.map_err(BoxError::from) })
    }
}

/// Counts calls, bounds them, and closes the gate for writes.
#[derive(Clone)]
struct Calls<S> {
    inner: S,
    gate: Gate,
}

impl<S> Service<Request<Body>> for Calls<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let call = CallName::of(&request);
        let lost = match &self.gate {
            Gate::Leader(leadership) if call.is_write() => {
                if !leadership.is_leader() {
                    return Box::pin(std::future::ready(Err(NotLeader.into())));
                }
                Some(leadership.clone().lost())
            }
            _ => None,
        };
        let answer = self.inner.call(request);
        Box::pin(async move {
            let bounded = async { timeout(CALL_DEADLINE, answer).await.unwrap_or(Err(NoAnswer.into())) };
            let answer = match lost {
                None => bounded.await,
                Some(lost) => tokio::select! {
                    answer = bounded => answer,
                    () = lost => Err(NotLeader.into()),
                },
            };
            call.count(answer.as_ref().map_or(0, |answer| answer.status().as_u16()));
            answer
        })
    }
}

/// What a call is, for the metrics: few values, no names of objects.
#[derive(Debug, PartialEq, Eq)]
struct CallName {
    verb: &'static str,
    resource: String,
}

impl CallName {
    fn of<B>(request: &Request<B>) -> Self {
        let path: Vec<&str> = request.uri().path().split('/').filter(|part| !part.is_empty()).collect();
        // api/v1/… or apis/<group>/<version>/…, then perhaps namespaces/<namespace>/…
        let rest = match path.as_slice() {
            ["api", _, rest @ ..] | ["apis", _, _, rest @ ..] => rest,
            _ => &[],
        };
        let rest = match rest {
            ["namespaces", _, resource @ ..] if !resource.is_empty() => resource,
            other => other,
        };
        let (resource, named) = match rest {
            [] => ("other".to_owned(), false),
            [plural] => ((*plural).to_owned(), false),
            [plural, _] => ((*plural).to_owned(), true),
            [plural, _, sub, ..] => (format!("{plural}/{sub}"), true),
        };
        let watches = request.uri().query().is_some_and(|query| query.contains("watch=true"));
        let verb = match *request.method() {
            Method::GET if watches => "watch",
            Method::GET if named => "get",
            Method::GET => "list",
            Method::POST => "create",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE => "delete",
            _ => "other",
        };
        Self { verb, resource }
    }

    fn is_write(&self) -> bool {
        !matches!(self.verb, "get" | "list" | "watch")
    }

    /// Code 0 stands for no answer.
    fn count(self, code: u16) {
        metrics::counter!(
            "operator_api_requests_total",
            "verb" => self.verb, "resource" => self.resource, "code" => code.to_string()
        )
        .increment(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_named_without_the_names_of_objects() {
        let cases = [
            (Method::GET, "/api/v1/pods?watch=true&labelSelector=x", "watch", "pods"),
            (Method::GET, "/api/v1/namespaces/ns/secrets/s", "get", "secrets"),
            (Method::GET, "/apis/apps/v1/deployments?limit=500", "list", "deployments"),
            (Method::GET, "/api/v1/namespaces/ns/secrets", "list", "secrets"),
            (Method::PATCH, "/apis/apps/v1/namespaces/ns/deployments/d?force=true", "patch", "deployments"),
            (
                Method::PATCH,
                "/apis/smallest.ai/v1/namespaces/ns/smallestdeployments/q/status",
                "patch",
                "smallestdeployments/status",
            ),
            (Method::DELETE, "/api/v1/namespaces/ns/services/s", "delete", "services"),
            (Method::POST, "/apis/events.k8s.io/v1/namespaces/ns/events", "create", "events"),
            (Method::GET, "/api/v1/namespaces/ns", "get", "namespaces"),
            (Method::GET, "/version", "list", "other"),
        ];
        for (method, uri, verb, resource) in cases {
            let request = Request::builder().method(method).uri(uri).body(()).expect("request");
            let name = CallName::of(&request);
            assert_eq!((name.verb, name.resource.as_str()), (verb, resource), "{uri}");
            assert_eq!(name.is_write(), matches!(verb, "patch" | "delete" | "create"), "{uri}");
        }
    }
}
