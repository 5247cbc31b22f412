//! Reads that wait in Redis: nothing is taken by one that nobody listens to any more, and an inbox that went comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use queue::ids::WorkerId;
use queue::port::{GatewayPort as _, QueueLimits, WorkerPort};
use queue::session::ToWorker;
use queue::testing::RedisServer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::rig::{NOTHING, SOON, connect, limits};

fn message(epoch: u32) -> ToWorker {
    ToWorker::Cancel { session: "s".parse().unwrap(), epoch }
}

/// A way to Redis whose connections can hang: both ends stay open, and nothing comes through any more.
struct Way {
    url: String,
    hangs: Arc<AtomicBool>,
}

impl Way {
    async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://{}", listener.local_addr().unwrap());
        let hangs = Arc::new(AtomicBool::new(false));
        let hang = hangs.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                // What is open when it hangs stays so; what is opened later does not hang.
                let hang = if hang.load(Ordering::Relaxed) { Arc::default() } else { hang.clone() };
                tokio::spawn(pass(from_client, to_server, hang.clone()));
                tokio::spawn(pass(from_server, to_client, hang));
            }
        });
        Self { url, hangs }
    }
}

async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    hang: Arc<AtomicBool>,
) {
    let mut bytes = vec![0; 1 << 16];
    while let Ok(length) = from.read(&mut bytes).await {
        if hang.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        if length == 0 || to.write_all(&bytes[..length]).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn a_connection_that_hangs_takes_nothing_from_the_next() {
    let server = RedisServer::start().unwrap();
    let way = Way::to(server.port()).await;
    // The inbox outlives the time in which the reader sees that it hears nothing.
    let limits = QueueLimits { lease: SOON, ..limits() };
    let reading = connect(&way.url, "default/one", limits.clone()).await;
    let sending = connect(&server.url(), "default/one", limits).await;
    let worker = WorkerId::generate();
    assert!(WorkerPort::receive(&reading, &worker, NOTHING).await.unwrap().is_empty(), "its reads wait");

    way.hangs.store(true, Ordering::Relaxed);
    // Redis answers the reads that wait, to nobody.
    for epoch in 1..=3 {
        sending.send(&worker, &[message(epoch)]).await.unwrap();
    }
    let mut received = Vec::new();
    let receiving = async {
        while received.len() < 3 {
            // What was tried may take longer than the reader has patience for.
            let more = WorkerPort::receive(&reading, &worker, SOON).await;
            more.map_or_else(|error| eprintln!("{error}"), |more| received.extend(more));
        }
        sending.send(&worker, &[message(4)]).await.unwrap();
        received.extend(WorkerPort::receive(&reading, &worker, SOON).await.unwrap());
    };
    tokio::time::timeout(SOON * 4, receiving).await.expect("it ends in time");
    assert_eq!(received, (1..=4).map(message).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_inbox_that_went_away_under_its_reader_comes_back() {
    let server = RedisServer::start().unwrap();
    let queue = connect(&server.url(), "default/one", limits()).await;
    let worker = WorkerId::generate();
    let key = format!("smallest:{{default/one}}:asr:to-worker:{worker}");
    let mut connection = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    for epoch in 1..=3 {
        assert!(WorkerPort::receive(&queue, &worker, NOTHING).await.unwrap_or_default().is_empty());
        let _: () = redis::cmd("DEL").arg(&key).query(&mut connection).unwrap();
        queue.send(&worker, &[message(epoch)]).await.unwrap();
        let ttl: i64 = redis::cmd("PTTL").arg(&key).query(&mut connection).unwrap();
        assert!(ttl > 0, "who makes it anew says how long it lives: {ttl}");
        assert_eq!(WorkerPort::receive(&queue, &worker, SOON).await.unwrap(), [message(epoch)]);
    }
}

#[tokio::test]
async fn more_than_wait_at_once_come_in_order() {
    let server = RedisServer::start().unwrap();
    let queue = connect(&server.url(), "default/one", limits()).await;
    let worker = WorkerId::generate();
    assert!(WorkerPort::receive(&queue, &worker, NOTHING).await.unwrap().is_empty());
    let all: Vec<_> = (1..=200).map(message).collect();
    let sent = all.clone();
    let (sender, to) = (queue.clone(), worker.clone());
    let sending = tokio::spawn(async move {
        for message in sent {
            sender.send(&to, &[message]).await.unwrap();
        }
    });
    let mut received = Vec::new();
    while received.len() < all.len() {
        // Whoever gives up a read in between loses nothing.
        let given_up = WorkerPort::receive(&queue, &worker, SOON);
        if let Ok(more) = tokio::time::timeout(std::time::Duration::from_micros(300), given_up).await {
            received.extend(more.unwrap());
        }
    }
    sending.await.unwrap();
    assert_eq!(received, all);
    let key = format!("smallest:{{default/one}}:asr:to-worker:{worker}");
    let mut connection = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    let groups: Vec<redis::Value> =
        redis::cmd("XINFO").arg("GROUPS").arg(&key).query(&mut connection).unwrap();
    assert_eq!(groups.len(), 1, "one for its one connection");
}
