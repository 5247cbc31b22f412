//! An apiserver in memory: enough of it for the operator's calls (lists, watches, gets, making, server-side apply,
//! status, deletes, Leases), and faults on demand. It notes every call.

mod calls;
mod create;
mod fields;
mod patch;
mod wire;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use http::{Method, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Bytes, Frame};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tower::Service;

pub(super) use calls::Wrong;
use calls::{Call, Fault};
use wire::{belongs, is_collection, line, read, refuse, respond, selected, status};

type AnyBody = UnsyncBoxBody<Bytes, Infallible>;

/// The apiserver. Clones share it.
#[derive(Clone)]
pub(super) struct Apiserver {
    state: Arc<Mutex<State>>,
    calls: watch::Sender<usize>,
}

#[derive(Default)]
struct State {
    /// By path, such as `/api/v1/namespaces/ns/secrets/license`.
    objects: BTreeMap<String, Value>,
    version: u64,
    log: Vec<Call>,
    faults: Vec<Fault>,
    watches: Vec<Watcher>,
    /// What happened, by version, path and event; a watch that starts again gets what it has missed.
    history: Vec<(u64, String, Value)>,
    /// Versions before this one are forgotten.
    oldest: u64,
}

struct Watcher {
    path: String,
    query: String,
    events: mpsc::UnboundedSender<Bytes>,
}

impl Apiserver {
    pub(super) fn new() -> Self {
        Self { state: Arc::default(), calls: watch::Sender::new(0) }
    }

    pub(super) fn client(&self) -> Client {
        Client::new(self.clone(), "default")
    }

    /// The next calls of this method whose path contains this text go wrong.
    pub(super) fn fail(&self, method: &'static str, path: &'static str, times: usize, wrong: Wrong) {
        self.lock().faults.push(Fault { method, path, times, wrong });
    }

    /// Nothing goes wrong any more.
    pub(super) fn heal(&self) {
        self.lock().faults.clear();
    }

    /// Ends all watches, as a restart does.
    pub(super) fn cut_watches(&self) {
        self.lock().watches.clear();
    }

    /// Ends all watches, and forgets what happened: none can go on from where it was.
    pub(super) fn expire_watches(&self, meanwhile: impl FnOnce(&Self)) {
        self.cut_watches();
        meanwhile(self);
        let mut state = self.lock();
        state.history.clear();
        state.version += 1;
        state.oldest = state.version;
    }

    /// Puts an object there, as a user or a controller does.
    pub(super) fn put(&self, path: &str, object: Value) {
        self.lock().store(path, object);
        self.touch();
    }

    /// Changes an object without the operator, the way `kubectl edit` does: fields it changes are the operator's
    /// no more.
    pub(super) fn edit(&self, path: &str, edit: impl FnOnce(&mut Value)) {
        let mut state = self.lock();
        let before = state.objects.get(path).cloned().unwrap_or_else(|| panic!("there is no {path}"));
        let mut object = before.clone();
        edit(&mut object);
        let after = object.clone();
        if let Some(noted) = object["metadata"]["managedFields"].get_mut(0) {
            fields::lose(&mut noted["fieldsV1"], &before, &after);
            noted["fieldsV1"]["f:edited"] = json!(state.version);
        }
        state.store(path, object);
        drop(state);
        self.touch();
    }

    /// Writes the status of an object, the way its controller does.
    pub(super) fn put_status(&self, path: &str, content: Value) {
        let mut state = self.lock();
        let mut object = state.objects.get(path).cloned().unwrap_or_else(|| panic!("there is no {path}"));
        object["status"] = content;
        state.store(path, object);
        drop(state);
        self.touch();
    }

    pub(super) fn delete(&self, path: &str) {
        self.lock().remove(path);
        self.touch();
    }

    pub(super) fn get(&self, path: &str) -> Option<Value> {
        self.lock().objects.get(path).cloned()
    }

    /// Paths of all objects that contain this text.
    pub(super) fn paths(&self, text: &str) -> Vec<String> {
        self.lock().objects.keys().filter(|path| path.contains(text)).cloned().collect()
    }

    /// Calls so far.
    pub(super) fn log(&self) -> Vec<Call> {
        self.lock().log.clone()
    }

    /// Calls so far that wanted to change something other than the Lease.
    pub(super) fn writes(&self) -> usize {
        self.log().iter().filter(|call| call.method != "GET" && !call.path.contains("/leases")).count()
    }

    /// Waits until something holds; looks again after each call and each change.
    pub(super) async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let mut calls = self.calls.subscribe();
        let look = async {
            while !holds(self) {
                calls.changed().await.expect("the apiserver is there");
            }
        };
        let an_hour = std::time::Duration::from_hours(1);
        let held = tokio::time::timeout(an_hour, look).await.is_ok();
        let last: Vec<Call> = self.log().into_iter().rev().take(10).collect();
        assert!(held, "{what} never held; the last calls: {last:#?}");
    }

    fn touch(&self) {
        self.calls.send_modify(|calls| *calls += 1);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn answer(&self, request: Request<Body>) -> Response<AnyBody> {
        let (head, body) = request.into_parts();
        let body = body.collect_bytes().await.expect("bodies are in memory");
        let path = head.uri.path().to_owned();
        let query = head.uri.query().unwrap_or_default().to_owned();
        let is_watch = query.contains("watch=true");
        let wrong = {
            let mut state = self.lock();
            let method = head.method.to_string();
            state.log.push(Call { method: method.clone(), path: path.clone(), is_watch });
            state.wrong(&method, &path)
        };
        self.touch();
        let answer = match wrong {
            Some(Wrong::Silence) => std::future::pending().await,
            Some(Wrong::Unheard) => {
                let _ = self.lock().handle(&head.method, &path, &query, read(&body));
                self.touch();
                std::future::pending().await
            }
            Some(Wrong::Overtaken) => {
                self.edit(&path, |_| {});
                self.lock().handle(&head.method, &path, &query, read(&body))
            }
            Some(wrong) => wrong.answer(),
            None => self.lock().handle(&head.method, &path, &query, read(&body)),
        };
        self.touch();
        answer
    }
}

impl Service<Request<Body>> for Apiserver {
    type Response = Response<AnyBody>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let server = self.clone();
        Box::pin(async move { Ok(server.answer(request).await) })
    }
}

impl State {
    fn wrong(&mut self, method: &str, path: &str) -> Option<Wrong> {
        let fits = |fault: &&mut Fault| {
            fault.times > 0 && method.contains(fault.method) && path.contains(fault.path)
        };
        let fault = self.faults.iter_mut().find(fits)?;
        fault.times -= 1;
        Some(fault.wrong)
    }

    fn handle(&mut self, method: &Method, path: &str, query: &str, body: Value) -> Response<AnyBody> {
        match *method {
            Method::GET if query.contains("watch=true") => self.watch(path, query),
            Method::GET if is_collection(path) => self.list(path, query),
            Method::GET => match self.objects.get(path) {
                Some(object) => respond(200, object),
                None => refuse(404, "there is none"),
            },
            Method::POST => self.create(path, query, body),
            Method::PUT => self.replace(path, body),
            Method::PATCH => self.patch(path, query, body),
            Method::DELETE => match self.remove(path) {
                Some(object) => respond(200, &object),
                None => refuse(404, "there is none"),
            },
            _ => refuse(405, "not here"),
        }
    }

    fn list(&self, path: &str, query: &str) -> Response<AnyBody> {
        let items: Vec<&Value> = self
            .objects
            .iter()
            .filter(|(of, object)| belongs(path, of) && selected(query, object))
            .map(|(_, object)| object)
            .collect();
        let version = self.version.to_string();
        respond(
            200,
            &json!({ "kind": "List", "apiVersion": "v1", "metadata": { "resourceVersion": version }, "items": items }),
        )
    }

    fn watch(&mut self, path: &str, query: &str) -> Response<AnyBody> {
        let (events, receiver) = mpsc::unbounded_channel();
        let from = query.split('&').find_map(|pair| pair.strip_prefix("resourceVersion=")?.parse().ok());
        let from: u64 = from.unwrap_or(0);
        if from < self.oldest {
            let gone =
                json!({ "type": "ERROR", "object": status(410, "Expired", "too old resource version") });
            events.send(line(&gone)).expect("the receiver is there");
        }
        for (version, of, event) in &self.history {
            if *version > from && belongs(path, of) && selected(query, &event["object"]) {
                events.send(line(event)).expect("the receiver is there");
            }
        }
        self.watches.push(Watcher { path: path.to_owned(), query: query.to_owned(), events });
        let lines = futures::stream::unfold(receiver, |mut receiver| async move {
            let line = receiver.recv().await?;
            Some((Ok::<_, Infallible>(Frame::data(line)), receiver))
        });
        Response::new(StreamBody::new(lines).boxed_unsync())
    }

    fn replace(&mut self, path: &str, body: Value) -> Response<AnyBody> {
        let Some(known) = self.objects.get(path) else { return refuse(404, "there is none") };
        let version = &body["metadata"]["resourceVersion"];
        if !version.is_null() && *version != known["metadata"]["resourceVersion"] {
            return refuse(409, "it has been changed");
        }
        respond(200, &self.store(path, body))
    }

    fn store(&mut self, path: &str, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        if object["metadata"]["uid"].is_null() {
            object["metadata"]["uid"] = json!(format!("uid-{}", self.version));
        }
        let known = self.objects.insert(path.to_owned(), object.clone());
        self.tell_left(path, known.as_ref(), &object);
        self.tell(path, if known.is_none() { "ADDED" } else { "MODIFIED" }, &object);
        object
    }

    fn remove(&mut self, path: &str) -> Option<Value> {
        let mut object = self.objects.remove(path)?;
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.tell(path, "DELETED", &object);
        Some(object)
    }

    /// What a watch selects no more is deleted, as far as it is concerned: it gets it as it was before.
    fn tell_left(&self, path: &str, known: Option<&Value>, object: &Value) {
        let Some(known) = known else { return };
        let mut last = known.clone();
        last["metadata"]["resourceVersion"] = object["metadata"]["resourceVersion"].clone();
        let event = line(&json!({ "type": "DELETED", "object": last }));
        let left = |watcher: &&Watcher| {
            belongs(&watcher.path, path)
                && selected(&watcher.query, known)
                && !selected(&watcher.query, object)
        };
        for watcher in self.watches.iter().filter(left) {
            let _ = watcher.events.send(event.clone());
        }
    }

    fn tell(&mut self, path: &str, kind: &str, object: &Value) {
        let event = json!({ "type": kind, "object": object });
        self.history.push((self.version, path.to_owned(), event.clone()));
        let event = line(&event);
        self.watches.retain(|watcher| {
            !(belongs(&watcher.path, path) && selected(&watcher.query, object))
                || watcher.events.send(event.clone()).is_ok()
        });
    }
}
