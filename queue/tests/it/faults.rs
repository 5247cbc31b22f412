//! What only Redis can do wrong: being away, being slow, forgetting everything, refusing us.

use std::time::{Duration, Instant};

use bytes::Bytes;
use queue::ids::{GatewayId, WorkerId};
use queue::port::{GatewayPort, GatewayRecord, Held, QueueError, QueueLimits, WorkerPort};
use queue::redis::{RedisQueue, Timeouts};
use queue::session::{SessionEvent, ToGateway, ToWorker};
use queue::testing::RedisServer;

use crate::rig::{
    LEASE, NOTHING, SOON, config, connect, job, limits, of_job, of_session, record, segment, session, success,
};

/// So that outages show quickly.
const IMPATIENT: Timeouts = Timeouts {
    connect: Duration::from_millis(300),
    response: Duration::from_millis(300),
    retry_for: Duration::from_millis(300),
};

struct Parties {
    queue: RedisQueue,
    gateway: GatewayId,
    worker: WorkerId,
}

async fn impatient(server: &RedisServer) -> Parties {
    let config = config(&server.url(), "default/one", limits());
    let queue = RedisQueue::connect_within(&config, IMPATIENT).await.unwrap();
    Parties { queue, gateway: GatewayId::generate(), worker: WorkerId::generate() }
}

impl Parties {
    /// One job there and back, through whatever connections there are.
    async fn round_trip(&self) -> Result<(), QueueError> {
        let job = job(&self.gateway);
        self.queue.submit(&job, Bytes::from_static(b"sound")).await?;
        let claimed = self.queue.claim_jobs(&self.worker, 1, SOON).await?;
        let claimed = claimed.first().expect("the job just submitted");
        assert_eq!(claimed.job, job);
        self.queue.complete(&self.worker, claimed, success(&job, "hello")).await?;
        let messages = GatewayPort::receive(&self.queue, &self.gateway, SOON).await?;
        assert_eq!(messages, [ToGateway::Batch(success(&job, "hello"))]);
        Ok(())
    }

    /// Redis is back: the same queue must work again, and soon.
    async fn recovers(&self) {
        let recovery = async {
            while let Err(error) = self.round_trip().await {
                assert_eq!(error.reason(), "QueueUnavailable", "{error}");
                // A job of a failed round may be left.
                while let Ok(left) = self.queue.claim_jobs(&self.worker, 8, Duration::ZERO).await
                    && !left.is_empty()
                {
                    for claim in left {
                        let _ = self.queue.cancel(&claim.job.id).await;
                    }
                }
            }
        };
        tokio::time::timeout(SOON, recovery).await.expect("the queue must recover by itself");
    }
}

#[tokio::test]
async fn a_restarted_redis_is_found_again() {
    let mut server = RedisServer::start().unwrap();
    let parties = impatient(&server).await;
    parties.round_trip().await.unwrap();
    server.stop();

    let started = Instant::now();
    let error = parties.queue.submit(&job(&parties.gateway), Bytes::new()).await.unwrap_err();
    assert!(started.elapsed() < SOON / 2, "an error comes soon");
    assert_eq!(error.reason(), "QueueUnavailable");
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains(&server.port().to_string()), "it says where: {source}");
    let started = Instant::now();
    let error = parties.queue.claim_jobs(&parties.worker, 1, LEASE).await.unwrap_err();
    assert_eq!(error.reason(), "QueueUnavailable");
    assert!(started.elapsed() >= LEASE, "a reader waits as long as it was asked to: no busy loop");
    GatewayPort::receive(&parties.queue, &parties.gateway, NOTHING).await.unwrap_err();

    server.start_again().unwrap();
    parties.recovers().await;
}

#[tokio::test]
async fn readers_that_wait_survive_a_restart() {
    let mut server = RedisServer::start().unwrap();
    let Parties { queue, gateway, worker } = impatient(&server).await;
    let reader = tokio::spawn({
        let (queue, worker) = (queue.clone(), worker.clone());
        async move {
            // In an outage a long wait goes on; its error may only come at its end.
            queue.claim_jobs(&worker, 1, SOON * 3).await
        }
    });
    let inbox = tokio::spawn({
        let (queue, gateway) = (queue.clone(), gateway.clone());
        async move { GatewayPort::receive(&queue, &gateway, SOON * 3).await }
    });
    // Both are known to wait when Redis says so.
    let clients = |server: &RedisServer| {
        let client = redis::Client::open(server.url()).unwrap();
        let mut connection = client.get_connection().unwrap();
        let list: String = redis::cmd("CLIENT").arg("LIST").query(&mut connection).unwrap();
        list.lines().filter(|l| l.contains("cmd=xread") && l.contains("flags=b")).count()
    };
    let mut look = tokio::time::interval(Duration::from_millis(10));
    while clients(&server) < 2 {
        look.tick().await;
    }
    server.stop();
    server.start_again().unwrap();
    let work = job(&gateway);
    let mut tried = tokio::time::interval(Duration::from_millis(20));
    while queue.submit(&work, Bytes::new()).await.is_err() {
        tried.tick().await;
    }
    let claimed = tokio::time::timeout(SOON, reader).await.unwrap().unwrap().unwrap();
    assert_eq!(claimed[0].job, work);
    queue.complete(&worker, &claimed[0], success(&work, "after all")).await.unwrap();
    let messages = tokio::time::timeout(SOON, inbox).await.unwrap().unwrap().unwrap();
    assert_eq!(messages, [ToGateway::Batch(success(&work, "after all"))]);
}

#[tokio::test]
async fn a_frozen_redis_gives_named_errors_and_is_taken_up_again() {
    let server = RedisServer::start().unwrap();
    let parties = impatient(&server).await;
    parties.round_trip().await.unwrap();
    server.pause();
    let started = Instant::now();
    for _ in 0..2 {
        let error = parties.queue.submit(&job(&parties.gateway), Bytes::new()).await.unwrap_err();
        assert_eq!(error.reason(), "QueueUnavailable");
    }
    let send = parties.queue.send(&parties.worker, &[]).await;
    send.expect("nothing to send needs no Redis");
    let cancel = ToWorker::Cancel { session: "s".parse().unwrap(), epoch: 1 };
    parties.queue.send(&parties.worker, &[cancel]).await.unwrap_err();
    parties.queue.claim_jobs(&parties.worker, 1, NOTHING).await.unwrap_err();
    assert!(started.elapsed() < SOON, "each wait is bounded");
    server.resume();
    parties.recovers().await;
}

#[tokio::test]
async fn flushall_loses_work_but_breaks_nothing() {
    let server = RedisServer::start().unwrap();
    let parties = impatient(&server).await;
    let Parties { queue, gateway, worker } = &parties;
    let work = job(gateway);
    queue.submit(&work, Bytes::from_static(b"sound")).await.unwrap();
    let claimed = queue.claim_jobs(worker, 1, SOON).await.unwrap().remove(0);
    let live = session(gateway);
    queue.open_session(&live).await.unwrap();
    let held = queue.claim_sessions(worker, 1, SOON).await.unwrap().remove(0);
    flush(&server);

    assert_eq!(queue.audio(&work.id).await.unwrap(), None);
    queue.complete(worker, &claimed, success(&work, "gone")).await.unwrap();
    queue.release_job(worker, &claimed).await.unwrap();
    let error = queue.commit(worker, &held, &segment(0, "gone", 1)).await.unwrap_err();
    assert_eq!(error.reason(), "ClaimLost");
    let both = Held { jobs: of_job(&claimed).jobs, sessions: of_session(&held).sessions };
    let lost = queue.heartbeat(&record(worker), &both).await.unwrap();
    assert_eq!((lost.jobs, lost.sessions), (both.jobs, both.sessions));
    assert_eq!(GatewayPort::session(queue, &live.id).await.unwrap(), None);
    assert_eq!(GatewayPort::depth(queue).await.unwrap(), queue::port::Depth::default());
    // What it had sent before the flush is gone as well; what comes now arrives.
    parties.round_trip().await.unwrap();
    queue.open_session(&live).await.unwrap();
    assert_eq!(queue.claim_sessions(worker, 1, SOON).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_worker_blocked_during_flushall_gets_the_next_job() {
    let server = RedisServer::start().unwrap();
    let parties = impatient(&server).await;
    parties.round_trip().await.unwrap();
    let claim = parties.queue.claim_jobs(&parties.worker, 1, SOON);
    let work = job(&parties.gateway);
    let after_flush = async {
        tokio::time::sleep(LEASE / 5).await;
        flush(&server);
        parties.queue.submit(&work, Bytes::new()).await.unwrap();
    };
    let (claimed, ()) = tokio::join!(claim, after_flush);
    assert_eq!(claimed.unwrap()[0].job, work);
}

#[tokio::test]
async fn a_claim_that_is_dropped_swallows_no_job() {
    let server = RedisServer::start().unwrap();
    let limits = QueueLimits { lease: SOON * 6, ..limits() };
    let queue = connect(&server.url(), "default/one", limits).await;
    let (gateway, worker) = (GatewayId::generate(), WorkerId::generate());
    // A worker that waits for several things at once drops the others' futures.
    let dropped = tokio::time::timeout(NOTHING, queue.claim_jobs(&worker, 1, SOON)).await;
    assert!(dropped.is_err());
    let dropped = tokio::time::timeout(NOTHING, GatewayPort::receive(&queue, &gateway, SOON)).await;
    assert!(dropped.is_err());
    let work = job(&gateway);
    queue.submit(&work, Bytes::new()).await.unwrap();
    let claimed = queue.claim_jobs(&worker, 1, SOON).await.unwrap();
    assert_eq!(claimed[0].job, work, "the dropped read did not take it along");
    queue.complete(&worker, &claimed[0], success(&work, "heard")).await.unwrap();
    let messages = GatewayPort::receive(&queue, &gateway, SOON).await.unwrap();
    assert_eq!(messages.len(), 1);
}

#[tokio::test]
async fn a_message_is_given_once_even_when_its_reader_reconnects() {
    let server = RedisServer::start().unwrap();
    let queue = connect(&server.url(), "default/one", limits()).await;
    let worker = WorkerId::generate();
    let message = |epoch| ToWorker::Cancel { session: "s".parse().unwrap(), epoch };
    for epoch in 1..=3 {
        queue.send(&worker, &[message(epoch)]).await.unwrap();
        assert_eq!(WorkerPort::receive(&queue, &worker, SOON).await.unwrap(), [message(epoch)]);
        // Every connection breaks; what was read is still in the inbox, for the reader trims it later.
        let mut connection = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
        let _: i64 =
            redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg("normal").query(&mut connection).unwrap();
    }
}

#[tokio::test]
async fn an_inbox_is_trimmed_as_it_is_read_and_bounded_when_it_is_not() {
    let server = RedisServer::start().unwrap();
    let limits = QueueLimits { inbox_entries: 100, ..limits() };
    let queue = connect(&server.url(), "default/one", limits).await;
    let worker = WorkerId::generate();
    let key = format!("smallest:{{default/one}}:asr:to-worker:{worker}");
    let mut connection = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    let mut length = || -> u64 { redis::cmd("XLEN").arg(&key).query(&mut connection).unwrap() };
    for at_samples in 0..1_000 {
        let pcm = Bytes::from(vec![0; 5_120]);
        let chunk = ToWorker::Audio { session: "s".parse().unwrap(), epoch: 1, at_samples, pcm };
        queue.send(&worker, &[chunk]).await.unwrap();
    }
    assert!((100..=200).contains(&length()), "{}", length());
    let mut last = 0;
    while last < 999 {
        for message in WorkerPort::receive(&queue, &worker, SOON).await.unwrap() {
            let ToWorker::Audio { at_samples, .. } = message else { panic!("{message:?}") };
            assert!(at_samples > last);
            last = at_samples;
        }
    }
    // It lies there for a moment, and goes with one of the next reads: on a busy machine not always the first one.
    for _ in 0..20 {
        assert!(WorkerPort::receive(&queue, &worker, NOTHING).await.unwrap().is_empty());
        if length() == 0 {
            return;
        }
    }
    panic!("what was read is still there: {} entries", length());
}

#[tokio::test]
async fn nothing_lives_for_ever() {
    let server = RedisServer::start().unwrap();
    let limits = QueueLimits { max_attempts: 1, ..limits() };
    let queue = connect(&server.url(), "default/one", limits).await;
    let (gateway, worker) = (GatewayId::generate(), WorkerId::generate());
    for _ in 0..3 {
        queue.submit(&job(&gateway), Bytes::from_static(b"sound")).await.unwrap();
        queue.open_session(&session(&gateway)).await.unwrap();
    }
    let jobs = queue.claim_jobs(&worker, 2, SOON).await.unwrap();
    let sessions = queue.claim_sessions(&worker, 1, SOON).await.unwrap();
    queue.complete(&worker, &jobs[0], success(&jobs[0].job, "hello")).await.unwrap();
    queue.heartbeat(&record(&worker), &of_session(&sessions[0])).await.unwrap();
    queue.commit(&worker, &sessions[0], &segment(0, "hello", 1)).await.unwrap();
    queue.heartbeat_gateway(&GatewayRecord::idle(gateway.clone())).await.unwrap();
    queue.send(&worker, &[ToWorker::Cancel { session: "s".parse().unwrap(), epoch: 1 }]).await.unwrap();
    let other = WorkerId::generate();
    while queue.dead_letters().await.unwrap().is_empty() {
        let _ = queue.claim_jobs(&other, 1, LEASE).await.unwrap();
    }
    let mut connection = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut connection).unwrap();
    assert!(keys.len() >= 10, "{keys:?}");
    for key in keys {
        assert!(key.starts_with("smallest:{default/one}:asr:"), "{key}");
        let ttl: i64 = redis::cmd("PTTL").arg(&key).query(&mut connection).unwrap();
        // -2: it ended between the two commands.
        assert!(ttl > 0 || ttl == -2, "{key} has no TTL");
    }
}

#[tokio::test]
async fn entries_of_strangers_are_stepped_over() {
    let server = RedisServer::start().unwrap();
    let parties = impatient(&server).await;
    let Parties { queue, gateway, worker } = &parties;
    parties.round_trip().await.unwrap();
    let mut connection = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    for stream in ["jobs", "sessions", &format!("to-gateway:{gateway}"), &format!("to-worker:{worker}")] {
        let key = format!("smallest:{{default/one}}:asr:{stream}");
        let _: String =
            redis::cmd("XADD").arg(key).arg("*").arg("who").arg("knows").query(&mut connection).unwrap();
    }
    assert_eq!(queue.claim_sessions(worker, 1, NOTHING).await.unwrap(), []);
    parties.round_trip().await.unwrap();
    let event = ToGateway::Session { session: "s".parse().unwrap(), epoch: 1, event: SessionEvent::Released };
    queue.publish(&[(gateway.clone(), event.clone())]).await.unwrap();
    assert_eq!(GatewayPort::receive(queue, gateway, SOON).await.unwrap(), [event]);
    assert_eq!(GatewayPort::depth(queue).await.unwrap(), queue::port::Depth::default());
}

#[tokio::test]
async fn an_unreachable_redis_is_named_soon() {
    let mut server = RedisServer::start().unwrap();
    let url = server.url();
    server.stop();
    let started = Instant::now();
    let error = RedisQueue::connect(&config(&url, "default/one", limits())).await.unwrap_err();
    assert!(started.elapsed() < SOON);
    assert_eq!((error.reason(), error.to_string().contains("connect")), ("QueueUnavailable", true));
    let frozen = RedisServer::start().unwrap();
    frozen.pause();
    let error = RedisQueue::connect_within(&config(&frozen.url(), "default/one", limits()), IMPATIENT).await;
    assert_eq!(error.unwrap_err().reason(), "QueueUnavailable");
}

#[tokio::test]
async fn a_bad_address_or_scope_is_refused() {
    for url in ["", "http://localhost", "redis://", "not an address"] {
        let error = RedisQueue::connect_within(&config(url, "default/one", limits()), IMPATIENT).await;
        assert_eq!(error.unwrap_err().reason(), "QueueUnavailable", "{url:?}");
    }
    let error = RedisQueue::connect(&config("redis://127.0.0.1:1", "a}b", limits())).await.unwrap_err();
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("a}b"));
}

#[tokio::test]
async fn users_and_passwords_of_the_url_are_used_and_never_shown() {
    let server = RedisServer::start_with(&[
        "--requirepass",
        "correct-horse",
        "--user",
        "speech",
        "on",
        ">battery-staple",
        // What docs/queue.md tells operators to grant.
        "~smallest:{default/one}:*",
        "+@read",
        "+@write",
        "+@stream",
        "+@scripting",
        "+@connection",
        "+time",
    ])
    .unwrap();
    let with = |login: &str| format!("redis://{login}@127.0.0.1:{}", server.port());
    for good in [":correct-horse", "speech:battery-staple"] {
        let queue = connect(&with(good), "default/one", limits()).await;
        let gateway = GatewayId::generate();
        let worker = WorkerId::generate();
        queue.submit(&job(&gateway), Bytes::new()).await.unwrap();
        let claimed = queue.claim_jobs(&worker, 1, SOON).await.unwrap().remove(0);
        queue.complete(&worker, &claimed, success(&claimed.job, "hello")).await.unwrap();
        assert_eq!(GatewayPort::receive(&queue, &gateway, SOON).await.unwrap().len(), 1);
        queue.open_session(&session(&gateway)).await.unwrap();
        let held = queue.claim_sessions(&worker, 1, SOON).await.unwrap().remove(0);
        queue.commit(&worker, &held, &segment(0, "hello", 1)).await.unwrap();
        queue.heartbeat(&record(&worker), &of_session(&held)).await.unwrap();
        queue.heartbeat_gateway(&GatewayRecord::idle(gateway.clone())).await.unwrap();
        assert_eq!(queue.workers().await.unwrap().len(), 1);
        queue.unregister(&worker).await.unwrap();
        queue.dead_letters().await.unwrap();
    }
    for (bad, secret) in [(":wrong-secret", "wrong-secret"), ("speech:wrong-secret", "wrong-secret")] {
        let config = config(&with(bad), "default/one", limits());
        assert!(!format!("{config:?}").contains(secret));
        let error = RedisQueue::connect(&config).await.unwrap_err();
        assert_eq!(error.reason(), "QueueUnavailable");
        let shown = format!("{error} {error:?} {:?}", std::error::Error::source(&error));
        assert!(shown.contains("WRONGPASS") || shown.contains("uthentication"), "{shown}");
        assert!(!shown.contains(secret), "{shown}");
    }
    let error = RedisQueue::connect(&config(&server.url(), "default/one", limits())).await.unwrap_err();
    assert!(format!("{error:?}").contains("NOAUTH"), "{error:?}");
}

fn flush(server: &RedisServer) {
    let mut connection = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    let _: () = redis::cmd("FLUSHALL").query(&mut connection).unwrap();
}
