//! The real program is asked to stop while clients use it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use multivac_testkit::http::{Connection, Reply, feed, get};
use reqwest::Client;
use serde_json::Value;

use crate::program::Program;

/// What a client has sent, and what came back.
#[derive(Default)]
struct Seen {
    ids: Vec<String>,
    /// Requests that got no reply although no reply before them had said that the connection would be closed.
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

/// Feeds over one connection after the other, each used until it is closed, `depth` requests at a time, until none can be
/// made.
async fn feed_until_refused(base: String, depth: usize, count: Arc<AtomicUsize>) -> Seen {
    let mut seen = Seen::default();
    // Refused, or not made in time: the program does not listen any more.
    while let Ok(Ok(mut connection)) = tokio::time::timeout(Duration::from_millis(500), Connection::open(&base)).await {
        'requests: loop {
            let requests = feed("text/plain", "A star went out while nobody looked.").repeat(depth);
            if connection.send(requests).await.is_err() {
                seen.unanswered += depth;
                break;
            }
            let mut closed = false;
            for n in 0..depth {
                let Some(reply) = connection.reply().await else {
                    // After a reply that closes the connection none need come; the client knows that.
                    seen.unanswered += if closed { 0 } else { depth - n };
                    break 'requests;
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
        let clients =
            (0..12).map(|n| tokio::spawn(feed_until_refused(program.base.clone(), 1 + n % 2, Arc::clone(&count))));
        let clients: Vec<_> = clients.collect();
        while count.load(Ordering::Relaxed) < 300 {
            tokio::task::yield_now().await;
        }
        program.process.signal("TERM");
        let asked = Instant::now();
        // As long as it can be asked, it says that it is not ready.
        let mut connection = Connection::open(&program.base).await.unwrap();
        // The signal may come a moment later than a request.
        let mut ready = 200;
        while ready == 200 {
            connection.send(get("/readyz")).await.unwrap();
            ready = connection.reply().await.unwrap().status;
        }
        assert_eq!(ready, 503);
        let exit = program.ended().await;
        assert_eq!(exit.code, Some(0), "{}", exit.stderr);
        assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
        let mut ids = Vec::new();
        for seen in join_all(clients).await {
            let seen = seen.unwrap();
            assert_eq!((seen.unanswered, &seen.refused), (0, &vec![]), "{}", exit.stderr);
            ids.extend(seen.ids);
        }
        let program = Program::start(&flags);
        // All that were confirmed. A request that was sent after one whose reply closed the connection may have been carried
        // out as well.
        let confirmed = before["accepted"].as_u64().unwrap() + ids.len() as u64;
        let all = |s: &Value| s["learned"] == s["accepted"] && s["learned"].as_u64().is_some_and(|n| n >= confirmed);
        let stats = program.until(&client, "/multivac/stats", all).await;
        assert!(stats["accepted"].as_u64().unwrap() <= confirmed + 6, "{stats}, and {confirmed} were confirmed");
        for id in ids.iter().step_by(20) {
            program.until(&client, &format!("/multivac/data/{id}"), |datum| datum["status"] == "processed").await;
        }
        program.process.signal("TERM");
        assert_eq!(program.ended().await.code, Some(0));
    }
}

#[tokio::test]
async fn a_long_request_is_finished_and_an_idle_connection_does_not_hold_it_up() {
    let directory = tempfile::tempdir().unwrap();
    let program = Program::start(&["--data-dir", directory.path().to_str().unwrap()]);
    let mut idle = Connection::open(&program.base).await.unwrap();
    idle.send(get("/healthz")).await.unwrap();
    assert!(!idle.reply().await.unwrap().closes());
    let mut bulk = Connection::open(&program.base).await.unwrap();
    let head = "POST /multivac/data/bulk HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n\
                Transfer-Encoding: chunked\r\n\r\n";
    let line = "{\"data\": \"One of many stars went out.\"}\n";
    let chunk = format!("{:x}\r\n{line}\r\n", line.len());
    bulk.send(head).await.unwrap();
    bulk.send(&chunk).await.unwrap();
    let mut other = Connection::open(&program.base).await.unwrap();
    other.send(get("/multivac/stats")).await.unwrap();
    other.reply().await.unwrap();
    program.process.signal("TERM");
    // The idle one is closed while the long request goes on.
    assert!(idle.ends_within(Duration::from_secs(10)).await);
    for _ in 0..20 {
        bulk.send(&chunk).await.unwrap();
    }
    bulk.send("0\r\n\r\n").await.unwrap();
    let reply = bulk.reply().await.unwrap();
    let body: Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!((reply.status, &body["accepted"], reply.closes()), (200, &21.into(), true));
    let exit = program.ended().await;
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
}

#[tokio::test]
async fn a_request_that_never_ends_does_not_keep_it_beyond_30_seconds() {
    let directory = tempfile::tempdir().unwrap();
    let program = Program::start(&["--data-dir", directory.path().to_str().unwrap(), "--drain-delay", "15s"]);
    let mut stuck = Connection::open(&program.base).await.unwrap();
    stuck
        .send(
            "POST /multivac/data HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: 9\r\n\r\nx",
        )
        .await
        .unwrap();
    let mut ready = Connection::open(&program.base).await.unwrap();
    program.process.signal("TERM");
    let asked = Instant::now();
    // It serves for the whole delay.
    loop {
        ready.send(get("/readyz")).await.unwrap();
        let reply = ready.reply().await.unwrap();
        if reply.closes() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(asked.elapsed() >= Duration::from_secs(15), "{:?}", asked.elapsed());
    let exit = program.ended().await;
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    assert!(asked.elapsed() < Duration::from_secs(30), "{:?}", asked.elapsed());
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let flags = ["--drain-delay", "15s", "--data-dir", directory.path().to_str().unwrap()];
    let client = Client::new();
    for second in ["TERM", "INT"] {
        let program = Program::start(&flags);
        program.until(&client, "/readyz", |ready| ready["ready"] == true).await;
        let request = client.post(format!("{}/multivac/data", program.base)).form(&[("data", "kept")]);
        assert_eq!(request.send().await.unwrap().status(), 200);
        program.process.signal("TERM");
        program.until(&client, "/readyz", |ready| ready["ready"] == false).await;
        let since = Instant::now();
        program.process.signal(second);
        assert_eq!(program.ended().await.code, Some(130));
        assert!(since.elapsed() < Duration::from_secs(10), "it did not wait for the end of the drain");
    }
    // What got a 200 is there.
    let program = Program::start(&flags[2..]);
    program.until(&client, "/multivac/stats", |stats| stats["learned"] == 2).await;
    program.process.signal("TERM");
    assert_eq!(program.ended().await.code, Some(0));
}
