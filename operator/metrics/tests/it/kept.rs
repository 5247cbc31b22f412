//! Cases of the serving certificate in its Secret, against an apiserver of a few lines.

use std::sync::{Arc, Mutex};

use http::Method;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::Api;
use operator_metrics::keep::ensure;
use serde_json::{Value, json};

use crate::rig::apiserver;

/// An apiserver that holds one Secret at most, and counts what is written.
#[derive(Clone, Default)]
struct Store {
    secret: Arc<Mutex<Option<Value>>>,
    writes: Arc<Mutex<u32>>,
    /// Another replica writes this just before the first write arrives.
    faster: Arc<Mutex<Option<Value>>>,
}

impl Store {
    fn secrets(&self) -> Api<Secret> {
        let store = self.clone();
        Api::namespaced(apiserver(move |method, _, body| store.answer(&method, body)), "smallest")
    }

    fn answer(&self, method: &Method, body: Value) -> (u16, Value) {
        let status = |code: u16, reason: &str| {
            (
                code,
                json!({ "kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": reason }),
            )
        };
        let mut secret = self.secret.lock().unwrap();
        if *method == Method::GET {
            return secret.clone().map_or_else(|| status(404, "NotFound"), |secret| (200, secret));
        }
        *self.writes.lock().unwrap() += 1;
        if let Some(faster) = self.faster.lock().unwrap().take() {
            *secret = Some(faster);
            return status(409, "AlreadyExists");
        }
        *secret = Some(body.clone());
        (201, body)
    }
}

fn names() -> Vec<String> {
    vec!["smallest-operator.smallest.svc".to_owned()]
}

#[tokio::test]
async fn a_missing_certificate_is_made_once_and_shared() {
    let (store, now) = (Store::default(), Timestamp::now());
    let first = ensure(&store.secrets(), "tls", &names(), now).await.unwrap();
    let second = ensure(&store.secrets(), "tls", &names(), now).await.unwrap();
    assert_eq!(first, second);
    assert_eq!(*store.writes.lock().unwrap(), 1);
    first.certified_key().unwrap();
}

#[tokio::test]
async fn a_certificate_near_its_end_is_renewed_and_its_authority_stays_for_a_while() {
    let (store, now) = (Store::default(), Timestamp::now());
    let first = ensure(&store.secrets(), "tls", &names(), now).await.unwrap();
    let later = now + SignedDuration::from_hours(24 * 300);
    let second = ensure(&store.secrets(), "tls", &names(), later).await.unwrap();
    assert_ne!(first, second);
    assert!(second.authorities.contains(first.authorities.trim()), "the former is believed on");
    assert_eq!(ensure(&store.secrets(), "tls", &names(), later).await.unwrap(), second);
    assert_eq!(*store.writes.lock().unwrap(), 2);
}

#[tokio::test]
async fn of_two_replicas_one_is_first() {
    let (theirs, now) = (Store::default(), Timestamp::now());
    let made = ensure(&theirs.secrets(), "tls", &names(), now).await.unwrap();
    let ours = Store::default();
    *ours.faster.lock().unwrap() = theirs.secret.lock().unwrap().clone();
    assert_eq!(ensure(&ours.secrets(), "tls", &names(), now).await.unwrap(), made);
}
