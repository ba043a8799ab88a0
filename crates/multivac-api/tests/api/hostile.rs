//! Hostile and broken clients: others are served all the same, and memory stays bounded.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use multivac_testkit::environment;
use multivac_testkit::http::{Connection, Reply, feed, get};
use reqwest::Client;
use serde_json::Value;

use crate::program::Program;

struct Target {
    program: Program,
    _directory: tempfile::TempDir,
}

fn start() -> Target {
    let directory = tempfile::tempdir().unwrap();
    let program = Program::start(&["--data-dir", directory.path().to_str().unwrap()]);
    Target { program, _directory: directory }
}

impl Target {
    fn base(&self) -> &str {
        &self.program.base
    }

    /// Other clients are served: one request feeds, one asks.
    async fn serves(&self) {
        let mut connection = Connection::open(self.base()).await.unwrap();
        for request in [feed("text/plain", "Stars go out."), get("/multivac")] {
            connection.send(request).await.unwrap();
            let reply = connection.reply_within(Duration::from_secs(5)).await.unwrap();
            assert_eq!(reply.status, 200, "{reply:?}");
        }
    }

    async fn send(&self, request: impl AsRef<[u8]>) -> Option<Reply> {
        let mut connection = Connection::open(self.base()).await.unwrap();
        // It may be refused before all of it was sent.
        let _ = connection.send(request).await;
        connection.reply().await
    }
}

fn assert_problem(reply: &Reply, status: u16) {
    assert_eq!(reply.status, status, "{reply:?}");
    assert_eq!(reply.header("content-type"), Some("application/problem+json"), "{reply:?}");
    let problem: Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(problem["status"], status);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_idle_connections_do_not_keep_others_from_being_served() {
    const IDLE: usize = 10_000;
    // This process has the other end of each connection.
    let files = rlimit::increase_nofile_limit(u64::MAX).unwrap();
    if files < IDLE as u64 + 500 {
        return environment::skip(&format!("only {files} files may be open"));
    }
    let target = start();
    target.serves().await;
    let before = target.program.process.memory_kib();
    let mut idle = Vec::with_capacity(IDLE);
    for _ in 0..IDLE / 100 {
        let hundred = join_all((0..100).map(|_| async {
            let mut connection = Connection::open(target.base()).await.unwrap();
            connection.send(get("/healthz")).await.unwrap();
            assert_eq!(connection.reply().await.unwrap().status, 200);
            connection
        }));
        idle.extend(hundred.await);
    }
    target.serves().await;
    let grown = target.program.process.memory_kib().saturating_sub(before);
    eprintln!("{IDLE} idle connections: {grown} KiB, {} bytes each", grown * 1024 / IDLE as u64);
    assert!(grown < 512 * 1024, "{grown} KiB");
    // None of them was closed.
    for connection in idle.iter_mut().step_by(1_000) {
        connection.send(get("/zzz")).await.unwrap();
        assert_eq!(connection.reply().await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn a_body_of_a_gibibyte_is_refused_before_it_has_come() {
    const GIB: u64 = 1 << 30;
    let target = start();
    target.serves().await;
    let before = target.program.process.memory_kib();
    for kind in
        ["text/plain", "application/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=b"]
    {
        // With a length that says so, or in chunks until it is too much.
        let length = format!(
            "POST /multivac/data HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {GIB}\r\n\r\n"
        );
        assert_problem(&target.send(length).await.unwrap(), 413);
        let mut connection = Connection::open(target.base()).await.unwrap();
        let head = format!(
            "POST /multivac/data HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n"
        );
        connection.send(head).await.unwrap();
        let start = if kind.starts_with("multipart") {
            "--b\r\nContent-Disposition: form-data; name=\"data\"\r\n\r\n"
        } else {
            "data="
        };
        let chunk = [b"10000\r\n".as_slice(), [b'x'; 65_536].as_slice(), b"\r\n"].concat();
        let mut sent = 0;
        let mut open = connection.send(format!("{:x}\r\n{start}\r\n", start.len())).await.is_ok();
        // Sixteen times what is accepted; the reply is there long before.
        while open && sent < GIB / 64 {
            open = connection.send(&chunk).await.is_ok();
            sent += 65_536;
        }
        assert_problem(&connection.reply_within(Duration::from_secs(5)).await.unwrap(), 413);
    }
    let grown = target.program.process.memory_kib().saturating_sub(before);
    assert!(grown < 128 * 1024, "{grown} KiB");
    target.serves().await;
}

#[tokio::test]
async fn endless_bulk_lines_are_rejected_and_the_next_is_accepted() {
    let target = start();
    target.serves().await;
    let before = target.program.process.memory_kib();
    let mut connection = Connection::open(target.base()).await.unwrap();
    connection.send(
        "POST /multivac/data/bulk HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n",
    )
    .await
    .unwrap();
    let chunk = [b"100000\r\n".as_slice(), vec![b'x'; 1 << 20].as_slice(), b"\r\n"].concat();
    for _ in 0..256 {
        connection.send(&chunk).await.unwrap();
    }
    let line = "\n{\"data\": \"Stars go out.\"}\n";
    connection.send(format!("{:x}\r\n{line}\r\n0\r\n\r\n", line.len())).await.unwrap();
    let reply = connection.reply().await.unwrap();
    let body: Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!((&body["accepted"], &body["rejected"][0]["line"]), (&1.into(), &1.into()), "{body}");
    let grown = target.program.process.memory_kib().saturating_sub(before);
    assert!(grown < 128 * 1024, "{grown} KiB");
}

#[tokio::test]
async fn compressed_bodies_are_refused() {
    let target = start();
    // The header of a gzip stream; what follows is never looked at.
    let bomb = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    for (path, kind) in [("/multivac/data", "text/plain"), ("/multivac/data/bulk", "application/x-ndjson")] {
        for encoding in ["gzip", "br", "deflate", "zstd", "identity, gzip"] {
            let mut request = format!(
                "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Encoding: {encoding}\r\nContent-Length: {}\r\n\r\n",
                bomb.len()
            )
            .into_bytes();
            request.extend(bomb);
            assert_problem(&target.send(request).await.unwrap(), 415);
        }
    }
    // As a transfer encoding it is unknown.
    let request = "POST /multivac/data HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nTransfer-Encoding: gzip, chunked\r\n\r\n";
    let reply = target.send(request).await;
    assert!(reply.is_none_or(|reply| reply.status >= 400 && reply.status < 500));
    target.serves().await;
}

#[tokio::test]
async fn endless_headers_are_refused() {
    let target = start();
    target.serves().await;
    let before = target.program.process.memory_kib();
    let many: String = (0..5_000).map(|n| format!("X-Header-{n}: {n}\r\n")).collect();
    let long = format!("X-Long: {}\r\n", "x".repeat(1 << 20));
    for headers in [many, long] {
        let reply = target.send(format!("GET /multivac HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n")).await.unwrap();
        assert_problem(&reply, 431);
    }
    let reply = target.send(get(&format!("/multivac?question={}", "x".repeat(1 << 20)))).await.unwrap();
    assert_problem(&reply, 414);
    let grown = target.program.process.memory_kib().saturating_sub(before);
    assert!(grown < 64 * 1024, "{grown} KiB");
    target.serves().await;
}

#[tokio::test]
async fn paths_and_queries_that_are_not_utf8_are_problems() {
    let target = start();
    for (path, status) in [
        ("/multivac/data/%ff%fe", 404),
        ("/multivac/data/%00", 400),
        ("/multivac/data/..%2f..%2fetc", 404),
        ("/multivac/data/%", 400),
        ("/%ff", 404),
        ("//multivac", 404),
        ("/multivac?question=%ff", 400),
        ("/multivac?question=%", 0),
        ("/multivac?%ff=%ff&question=", 400),
    ] {
        let reply = target.send(get(path)).await.unwrap();
        if status == 0 { assert_eq!(reply.status, 200, "{path}") } else { assert_problem(&reply, status) }
    }
    assert_problem(&target.send("BREW /multivac HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap(), 405);
    assert_problem(
        &target.send("POST /multivac/data HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n").await.unwrap(),
        415,
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_clients_are_timed_out_and_delay_nobody() {
    let target = start();
    target.serves().await;
    // Headers that never end, and a body that never ends.
    let mut trickling = Vec::new();
    for _ in 0..200 {
        let mut connection = Connection::open(target.base()).await.unwrap();
        connection.send("GET /multivac HTTP/1.1\r\nHost: localhost\r\nX-Slow: ").await.unwrap();
        trickling.push(connection);
    }
    let mut body = Connection::open(target.base()).await.unwrap();
    body.send(
        "POST /multivac/data HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: 100\r\n\r\nStars ",
    )
    .await
    .unwrap();
    // Bodies that never end: bulk lines a byte at a time or not at all, and parts without content.
    let chunk = |bytes: &str| format!("{:x}\r\n{bytes}\r\n", bytes.len());
    let head = |path: &str, media: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {media}\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
    };
    let lines = "{\"data\": \"one\"}\n{\"data\": \"two\"}\n{\"data\": ";
    let bulk = format!("{}{}", head("/multivac/data/bulk", "application/x-ndjson"), chunk(lines));
    let parts = head("/multivac/data", "multipart/form-data; boundary=b");
    let part = chunk("--b\r\nContent-Disposition: form-data; name=\"x\"\r\n\r\n\r\n");
    let mut endless = Vec::new();
    for (start, next) in [(bulk.clone(), chunk("x")), (bulk, String::new()), (parts, part)] {
        let mut connection = Connection::open(target.base()).await.unwrap();
        connection.send(start).await.unwrap();
        endless.push(tokio::spawn(async move {
            for _ in 0..12 {
                let _ = connection.send(&next).await;
                let reply = tokio::io::AsyncBufReadExt::fill_buf(&mut connection.reader);
                if tokio::time::timeout(Duration::from_secs(5), reply).await.is_ok() {
                    break;
                }
            }
            connection.reply().await.unwrap()
        }));
    }
    // A head that does not end, behind a request that was served.
    let mut second = Connection::open(target.base()).await.unwrap();
    second.exchange(get("/zzz")).await.unwrap();
    second.send("GET /multivac HTTP/1.1\r\nHo").await.unwrap();
    target.serves().await;
    let begun = Instant::now();
    for n in 0.. {
        for connection in &mut trickling {
            let _ = connection.send("x").await;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        if n == 4 {
            target.serves().await;
        }
        if begun.elapsed() > Duration::from_secs(11) {
            break;
        }
    }
    second.reply_within(Duration::from_secs(5)).await.unwrap().problem(408);
    trickling[0].reply_within(Duration::from_secs(5)).await.unwrap().problem(408);
    let ended = join_all(trickling.iter_mut().map(|connection| connection.ends_within(Duration::from_secs(5)))).await;
    assert!(ended.iter().all(|ended| *ended), "{} are still open", ended.iter().filter(|ended| !**ended).count());
    let reply = body.reply_within(Duration::from_secs(40)).await.unwrap();
    assert_problem(&reply, 408);
    for reply in join_all(endless).await {
        let reply = reply.unwrap();
        assert!(reply.problem(408).contains("too slowly"), "{reply:?}");
        // What was accepted by then is in the reply, and the line to go on with.
        let problem = reply.json().unwrap();
        if let Some(ids) = problem["ids"].as_array() {
            assert_eq!(
                (ids.len(), &problem["accepted"], &problem["next_line"]),
                (2, &2.into(), &3.into()),
                "{problem}"
            );
        } else {
            assert!(reply.head.contains("408") && problem.get("accepted").is_none(), "{problem}");
        }
    }
    assert!(begun.elapsed() < Duration::from_secs(45), "{:?}", begun.elapsed());
    let stats: Value =
        Client::new().get(format!("{}/multivac/stats", target.base())).send().await.unwrap().json().await.unwrap();
    assert!(stats["accepted"].as_u64().unwrap() <= 3 + 4, "nothing incomplete was accepted: {stats}");
}
