//! An apiserver of a few lines: `/scale` of one Deployment, and pods that can be patched.

use std::sync::{Arc, Mutex};

use http::{Method, Request, Response};
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::SOON;

/// An apiserver that knows one Deployment's replicas and the costs of its pods.
#[derive(Clone)]
pub(super) struct Cluster {
    pub(super) state: Arc<Mutex<State>>,
    pub(super) written: Arc<Notify>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) replicas: u32,
    version: u32,
    /// Bodies of all patches, with their paths.
    pub(super) patches: Vec<(String, Value)>,
    /// So many requests are answered with an error.
    pub(super) failures: u32,
    /// Somebody else changes the replicas to this between the next read and its patch.
    pub(super) meanwhile: Option<u32>,
}

impl Cluster {
    pub(super) fn new(replicas: u32) -> Self {
        let state = State { replicas, version: 1, ..State::default() };
        Self { state: Arc::new(Mutex::new(state)), written: Arc::default() }
    }

    pub(super) fn client(&self) -> kube::Client {
        let cluster = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| cluster.clone().answer(request));
        kube::Client::new(service, "default")
    }

    async fn answer(self, request: Request<Body>) -> Result<Response<Body>, std::io::Error> {
        let (parts, body) = request.into_parts();
        let body = body.collect_bytes().await.map_err(std::io::Error::other)?;
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let (code, answer) = self.decide(&parts.method, parts.uri.path(), &body);
        self.written.notify_one();
        let response = Response::builder().status(code).header("content-type", "application/json");
        Ok(response.body(Body::from(answer.to_string().into_bytes())).unwrap())
    }

    fn decide(&self, method: &Method, path: &str, body: &Value) -> (u16, Value) {
        let mut state = self.state.lock().unwrap();
        if state.failures > 0 {
            state.failures -= 1;
            let status = json!({ "kind": "Status", "status": "Failure", "code": 500, "reason": "InternalError", "message": "" });
            return (500, status);
        }
        if *method == Method::GET {
            let answer = state.scale();
            if let Some(replicas) = state.meanwhile.take() {
                state.replicas = replicas;
                state.version += 1;
            }
            return (200, answer);
        }
        state.patches.push((path.to_owned(), body.clone()));
        if path.contains("/pods/") {
            return (
                200,
                json!({ "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": {} }),
            );
        }
        let current = state.version.to_string();
        if body["metadata"]["resourceVersion"].as_str() != Some(current.as_str()) {
            return (
                409,
                json!({ "kind": "Status", "status": "Failure", "code": 409, "reason": "Conflict", "message": "" }),
            );
        }
        state.replicas = u32::try_from(body["spec"]["replicas"].as_u64().unwrap()).unwrap();
        state.version += 1;
        (200, state.scale())
    }

    /// Waits until the apiserver is as it should be.
    pub(super) async fn until(&self, right: impl Fn(&State) -> bool) {
        let wait = async {
            while !right(&self.state.lock().unwrap()) {
                self.written.notified().await;
            }
        };
        timeout(SOON, wait).await.expect("it is written");
    }
}

impl State {
    fn scale(&self) -> Value {
        json!({
            "kind": "Scale",
            "apiVersion": "autoscaling/v1",
            "metadata": { "name": "quickstart-asr", "namespace": "speech", "resourceVersion": self.version.to_string() },
            "spec": { "replicas": self.replicas },
        })
    }
}
