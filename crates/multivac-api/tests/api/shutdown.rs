//! The real program is asked to stop while clients are at it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use reqwest::Client;
use serde_json::Value;

use crate::program::Program;
use crate::wire::{Reply, Wire, feeding, getting};

/// What a client has sent, and what came back.
#[derive(Default)]
struct Seen {
    ids: Vec<String>,
    /// Requests that were sent on a connection that nobody had said was closing, and had no reply.
    unanswered: usize,
    refused: Vec<String>,
}

impl Seen {
    fn take(&mut self, reply: &Reply) {
        if reply.status == 200 {
            let location = reply.header("location").unwrap();
            self.ids.push(location.trim().rsplit('/').next().unwrap().to_owned());
        } else {
            self.refused.push(format!("{reply:?}"));
        }
    }
}

/// Feeds over connections of its own, each used until it is closed, `depth` requests at a time, until none can be made.
async fn feed(base: String, depth: usize, count: Arc<AtomicUsize>) -> Seen {
    let mut seen = Seen::default();
    // Refused or not made in time: it listens no more.
    while let Ok(Ok(mut wire)) = tokio::time::timeout(Duration::from_millis(500), Wire::connect(&base)).await {
        'connection: loop {
            let requests = feeding("A star went out while nobody looked.").repeat(depth);
            if wire.send(requests).await.is_err() {
                seen.unanswered += depth;
                break;
            }
            let mut closed = false;
            for n in 0..depth {
                let Some(reply) = wire.reply().await else {
                    // Behind a reply that closes none need come, and whoever sent it knows that.
                    seen.unanswered += if closed { 0 } else { depth - n };
                    break 'connection;
                };
                seen.take(&reply);
                count.fetch_add(1, Ordering::Relaxed);
                closed |= reply.closes();
            }
            if closed {
                break;
            }
        }
    }
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopped_under_load_it_refuses_nothing_and_keeps_all_that_it_accepted() {
    let directory = tempfile::tempdir().unwrap();
    let flags = ["--data-dir", directory.path().to_str().unwrap()];
    for delay in ["0s", "300ms"] {
        let program = Program::start(&[&flags[..], &["--drain-delay", delay]].concat());
        let client = Client::new();
        let before = program.until(&client, "/multivac/stats", |stats| stats["accepted"].is_u64()).await;
        let count = Arc::new(AtomicUsize::new(0));
        let clients = (0..12).map(|n| tokio::spawn(feed(program.base.clone(), 1 + n % 2, Arc::clone(&count))));
        let clients: Vec<_> = clients.collect();
        while count.load(Ordering::Relaxed) < 300 {
            tokio::task::yield_now().await;
        }
        program.signal("TERM");
        let asked = Instant::now();
        // It says that it is not ready for as long as it can be asked.
        let mut wire = Wire::connect(&program.base).await.unwrap();
        wire.send(getting("/readyz")).await.unwrap();
        let ready = wire.reply().await.unwrap();
        // The signal may be a moment behind.
        if ready.status == 200 {
            wire.send(getting("/readyz")).await.unwrap();
            assert_eq!(wire.reply().await.unwrap().status, 503);
        }
        let (code, said) = program.ended().await;
        assert_eq!(code, 0, "{said}");
        assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
        let mut ids = Vec::new();
        for seen in join_all(clients).await {
            let seen = seen.unwrap();
            assert_eq!((seen.unanswered, &seen.refused), (0, &vec![]), "{said}");
            ids.extend(seen.ids);
        }
        let program = Program::start(&flags);
        // All that were told. A request that was sent behind one whose reply closed the connection may have been done as well.
        let told = before["accepted"].as_u64().unwrap() + ids.len() as u64;
        let all = |s: &Value| s["learned"] == s["accepted"] && s["learned"].as_u64().is_some_and(|n| n >= told);
        let stats = program.until(&client, "/multivac/stats", all).await;
        assert!(stats["accepted"].as_u64().unwrap() <= told + 6, "{stats}, and {told} were told");
        for id in ids.iter().step_by(20) {
            program.until(&client, &format!("/multivac/data/{id}"), |datum| datum["status"] == "processed").await;
        }
        program.signal("TERM");
        assert_eq!(program.ended().await.0, 0);
    }
}

#[tokio::test]
async fn a_long_request_is_finished_and_an_idle_connection_does_not_hold_it_up() {
    let directory = tempfile::tempdir().unwrap();
    let program = Program::start(&["--data-dir", directory.path().to_str().unwrap()]);
    let mut idle = Wire::connect(&program.base).await.unwrap();
    idle.send(getting("/healthz")).await.unwrap();
    assert!(!idle.reply().await.unwrap().closes());
    let mut bulk = Wire::connect(&program.base).await.unwrap();
    let head = "POST /multivac/data/bulk HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\n\
                Transfer-Encoding: chunked\r\n\r\n";
    let line = "{\"data\": \"One of many stars went out.\"}\n";
    let chunk = format!("{:x}\r\n{line}\r\n", line.len());
    bulk.send(head).await.unwrap();
    bulk.send(&chunk).await.unwrap();
    let mut other = Wire::connect(&program.base).await.unwrap();
    other.send(getting("/multivac/stats")).await.unwrap();
    other.reply().await.unwrap();
    program.signal("TERM");
    // Closed while the long one goes on.
    assert!(idle.ends_within(Duration::from_secs(10)).await);
    for _ in 0..20 {
        bulk.send(&chunk).await.unwrap();
    }
    bulk.send("0\r\n\r\n").await.unwrap();
    let reply = bulk.reply().await.unwrap();
    let body: Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!((reply.status, &body["accepted"], reply.closes()), (200, &21.into(), true));
    let (code, said) = program.ended().await;
    assert_eq!(code, 0, "{said}");
}

#[tokio::test]
async fn a_request_that_never_ends_does_not_keep_it_beyond_30_seconds() {
    let directory = tempfile::tempdir().unwrap();
    let program = Program::start(&["--data-dir", directory.path().to_str().unwrap(), "--drain-delay", "15s"]);
    let mut stuck = Wire::connect(&program.base).await.unwrap();
    stuck
        .send("POST /multivac/data HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: 9\r\n\r\nx")
        .await
        .unwrap();
    let mut ready = Wire::connect(&program.base).await.unwrap();
    program.signal("TERM");
    let asked = Instant::now();
    // The whole time of the delay it serves.
    loop {
        ready.send(getting("/readyz")).await.unwrap();
        let reply = ready.reply().await.unwrap();
        if reply.closes() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(asked.elapsed() >= Duration::from_secs(15), "{:?}", asked.elapsed());
    let (code, said) = program.ended().await;
    assert_eq!(code, 0, "{said}");
    assert!(asked.elapsed() < Duration::from_secs(30), "{:?}", asked.elapsed());
}
