//! The Lease: who leads, who takes over and when, and that nobody writes beside the holder.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::{Instant, advance, sleep};
use tokio_util::sync::CancellationToken;

use super::apiserver::{Apiserver, Wrong};
use crate::client::{Clients, NotLeader};
use crate::lease::{Candidate, LEASE_DURATION, Leadership, RENEW_DEADLINE, leadership};

const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/system/leases/smallest-operator";

struct Replica {
    leadership: Leadership,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

fn replica(server: &Apiserver, pod: &str) -> Replica {
    let (granted, leadership) = leadership();
    let api: Api<Lease> = Api::namespaced(server.client(), "system");
    let stop = CancellationToken::new();
    let task = tokio::spawn(Candidate::new(api, "smallest-operator", pod, granted).run(stop.clone()));
    Replica { leadership, stop, task }
}

fn holder(server: &Apiserver) -> String {
    let lease = server.get(LEASE).unwrap_or_default();
    lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned()
}

/// Waits until one of them leads; how long that took.
async fn takes(replica: &Replica) -> Duration {
    let start = Instant::now();
    replica.leadership.clone().becomes(true).await;
    start.elapsed()
}

#[tokio::test(start_paused = true)]
async fn one_of_two_leads_and_renews() {
    let server = Apiserver::new();
    let first = replica(&server, "first");
    takes(&first).await;
    let second = replica(&server, "second");
    sleep(Duration::from_mins(10)).await;
    assert!(first.leadership.is_leader() && !second.leadership.is_leader());
    assert!(holder(&server).starts_with("first_"));
    let renewals = server.log().iter().filter(|call| call.method == "PUT").count();
    assert!((290..=310).contains(&renewals), "{renewals} renewals in ten minutes");
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_given_back_is_taken_at_once() {
    let server = Apiserver::new();
    let first = replica(&server, "first");
    takes(&first).await;
    let second = replica(&server, "second");
    sleep(Duration::from_secs(30)).await;
    first.stop.cancel();
    first.task.await.expect("it ends");
    assert!(!first.leadership.is_leader());
    assert!(takes(&second).await < Duration::from_secs(1));
    assert!(holder(&server).starts_with("second_"));
    assert_eq!(server.get(LEASE).expect("it")["spec"]["leaseTransitions"], 1);
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_vanishes_is_replaced_when_its_lease_ends() {
    let server = Apiserver::new();
    let first = replica(&server, "first");
    takes(&first).await;
    let second = replica(&server, "second");
    sleep(Duration::from_secs(30)).await;
    first.task.abort();
    let waited = takes(&second).await;
    assert!(waited <= LEASE_DURATION + Duration::from_secs(3), "{waited:?}");
    assert!(waited >= LEASE_DURATION.saturating_sub(Duration::from_secs(3)), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_cannot_renew_stops_before_another_begins() {
    for wrong in [Wrong::Code(500), Wrong::Silence] {
        let server = Apiserver::new();
        let first = replica(&server, "first");
        takes(&first).await;
        sleep(Duration::from_secs(30)).await;
        server.fail("PUT", "/leases", usize::MAX, wrong);
        let start = Instant::now();
        first.leadership.clone().becomes(false).await;
        assert!(start.elapsed() <= RENEW_DEADLINE, "{wrong:?}: {:?}", start.elapsed());
        assert!(!first.leadership.is_leader());
        server.heal();
        takes(&first).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_stood_still_has_no_right_to_write_when_it_goes_on() {
    let server = Apiserver::new();
    let first = replica(&server, "first");
    takes(&first).await;
    let clients = Clients::over(&server.client(), &first.leadership);
    // No task runs while time passes, as when the program is stopped; then it goes on, and writes first.
    advance(Duration::from_secs(11)).await;
    assert!(!first.leadership.is_leader());
    let leases: Api<Lease> = Api::namespaced(clients.writer.clone(), "system");
    let error = leases.delete("smallest-operator", &kube::api::DeleteParams::default()).await;
    let Err(kube::Error::Service(error)) = error else { panic!("it was sent") };
    assert!(error.downcast_ref::<NotLeader>().is_some(), "{error}");
    assert!(server.get(LEASE).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_write_under_way_is_given_up_before_another_can_lead() {
    let server = Apiserver::new();
    let first = replica(&server, "first");
    takes(&first).await;
    let clients = Clients::over(&server.client(), &first.leadership);
    sleep(Duration::from_secs(30)).await;
    server.fail("PUT", "/leases", usize::MAX, Wrong::Code(500));
    server.fail("DELETE", "/leases", usize::MAX, Wrong::Silence);
    let start = Instant::now();
    let leases: Api<Lease> = Api::namespaced(clients.writer, "system");
    let ended = leases.delete("smallest-operator", &kube::api::DeleteParams::default()).await;
    assert!(ended.is_err());
    assert!(start.elapsed() < LEASE_DURATION, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_somebody_edits_or_deletes_finds_a_holder_again() {
    let server = Apiserver::new();
    let first = replica(&server, "first");
    takes(&first).await;
    sleep(Duration::from_secs(30)).await;
    server.edit(LEASE, |lease| lease["metadata"]["labels"] = json!({ "team": "speech" }));
    sleep(Duration::from_secs(30)).await;
    assert!(first.leadership.is_leader());
    server.delete(LEASE);
    sleep(Duration::from_secs(30)).await;
    assert!(first.leadership.is_leader());
    server.edit(LEASE, |lease| lease["spec"]["holderIdentity"] = json!("somebody-else"));
    first.leadership.clone().becomes(false).await;
    let waited = takes(&first).await;
    assert!(waited >= Duration::from_secs(12), "{waited:?}");
}
