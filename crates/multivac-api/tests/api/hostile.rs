//! Clients that mean no good, or have stopped meaning anything: others are served all the same, and memory stays bounded.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use reqwest::Client;
use serde_json::Value;

use crate::program::Program;
use crate::wire::{Reply, Wire, feeding, getting};

struct Victim {
    program: Program,
    _directory: tempfile::TempDir,
}

fn start() -> Victim {
    let directory = tempfile::tempdir().unwrap();
    let program = Program::start(&["--data-dir", directory.path().to_str().unwrap()]);
    Victim { program, _directory: directory }
}

impl Victim {
    fn base(&self) -> &str {
        &self.program.base
    }

    /// Others are served: one feeds, one asks.
    async fn serves(&self) {
        let mut wire = Wire::connect(self.base()).await.unwrap();
        for request in [feeding("Stars go out."), getting("/multivac")] {
            wire.send(request).await.unwrap();
            let reply = wire.reply_within(Duration::from_secs(5)).await.unwrap();
            assert_eq!(reply.status, 200, "{reply:?}");
        }
    }

    async fn send(&self, request: impl AsRef<[u8]>) -> Option<Reply> {
        let mut wire = Wire::connect(self.base()).await.unwrap();
        // It may be refused before all of it was sent.
        let _ = wire.send(request).await;
        wire.reply().await
    }
}

fn problem(reply: &Reply, status: u16) {
    assert_eq!(reply.status, status, "{reply:?}");
    assert_eq!(reply.header("content-type"), Some("application/problem+json"), "{reply:?}");
    let problem: Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(problem["status"], status);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_idle_connections_keep_nobody_out() {
    const IDLE: usize = 10_000;
    // This process holds as many ends.
    let files = rlimit::increase_nofile_limit(u64::MAX).unwrap();
    if files < IDLE as u64 + 500 {
        assert!(std::env::var_os("CI").is_none(), "in CI {IDLE} files can be opened");
        eprintln!("SKIPPED: only {files} files may be open");
        return;
    }
    let victim = start();
    victim.serves().await;
    let before = victim.program.memory_kib();
    let mut idle = Vec::with_capacity(IDLE);
    for _ in 0..IDLE / 100 {
        let hundred = join_all((0..100).map(|_| async {
            let mut wire = Wire::connect(victim.base()).await.unwrap();
            wire.send(getting("/healthz")).await.unwrap();
            assert_eq!(wire.reply().await.unwrap().status, 200);
            wire
        }));
        idle.extend(hundred.await);
    }
    victim.serves().await;
    let grown = victim.program.memory_kib().saturating_sub(before);
    eprintln!("{IDLE} idle connections: {grown} KiB, {} bytes each", grown * 1024 / IDLE as u64);
    assert!(grown < 512 * 1024, "{grown} KiB");
    // None of them was thrown out for it.
    for wire in idle.iter_mut().step_by(1_000) {
        wire.send(getting("/zzz")).await.unwrap();
        assert_eq!(wire.reply().await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn a_body_of_a_gibibyte_is_refused_before_it_has_come() {
    const GIB: u64 = 1 << 30;
    let victim = start();
    victim.serves().await;
    let before = victim.program.memory_kib();
    for kind in
        ["text/plain", "application/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=b"]
    {
        // By its own word, or piece by piece until it is too much.
        let length =
            format!("POST /multivac/data HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: {GIB}\r\n\r\n");
        problem(&victim.send(length).await.unwrap(), 413);
        let mut wire = Wire::connect(victim.base()).await.unwrap();
        let head = format!(
            "POST /multivac/data HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n"
        );
        wire.send(head).await.unwrap();
        let start = if kind.starts_with("multipart") {
            "--b\r\nContent-Disposition: form-data; name=\"data\"\r\n\r\n"
        } else {
            "data="
        };
        let chunk = [b"10000\r\n".as_slice(), [b'x'; 65_536].as_slice(), b"\r\n"].concat();
        let mut sent = 0;
        let mut open = wire.send(format!("{:x}\r\n{start}\r\n", start.len())).await.is_ok();
        // Sixteen times what may come, and the reply is there already.
        while open && sent < GIB / 64 {
            open = wire.send(&chunk).await.is_ok();
            sent += 65_536;
        }
        problem(&wire.reply_within(Duration::from_secs(5)).await.unwrap(), 413);
    }
    let grown = victim.program.memory_kib().saturating_sub(before);
    assert!(grown < 128 * 1024, "{grown} KiB");
    victim.serves().await;
}

#[tokio::test]
async fn bulk_lines_without_end_are_passed_over() {
    let victim = start();
    victim.serves().await;
    let before = victim.program.memory_kib();
    let mut wire = Wire::connect(victim.base()).await.unwrap();
    wire.send(
        "POST /multivac/data/bulk HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n",
    )
    .await
    .unwrap();
    let chunk = [b"100000\r\n".as_slice(), vec![b'x'; 1 << 20].as_slice(), b"\r\n"].concat();
    for _ in 0..256 {
        wire.send(&chunk).await.unwrap();
    }
    let line = "\n{\"data\": \"Stars go out.\"}\n";
    wire.send(format!("{:x}\r\n{line}\r\n0\r\n\r\n", line.len())).await.unwrap();
    let reply = wire.reply().await.unwrap();
    let body: Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!((&body["accepted"], &body["rejected"][0]["line"]), (&1.into(), &1.into()), "{body}");
    let grown = victim.program.memory_kib().saturating_sub(before);
    assert!(grown < 128 * 1024, "{grown} KiB");
}

#[tokio::test]
async fn what_is_packed_is_not_unpacked() {
    let victim = start();
    // 1 MiB of nothing, in about 1 KiB.
    let bomb = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    for (path, kind) in [("/multivac/data", "text/plain"), ("/multivac/data/bulk", "application/x-ndjson")] {
        for encoding in ["gzip", "br", "deflate", "zstd", "identity, gzip"] {
            let mut request = format!(
                "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Encoding: {encoding}\r\nContent-Length: {}\r\n\r\n",
                bomb.len()
            )
            .into_bytes();
            request.extend(bomb);
            problem(&victim.send(request).await.unwrap(), 415);
        }
    }
    // As a coding of the transfer it is not known at all.
    let request = "POST /multivac/data HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nTransfer-Encoding: gzip, chunked\r\n\r\n";
    let reply = victim.send(request).await;
    assert!(reply.is_none_or(|reply| reply.status >= 400 && reply.status < 500));
    victim.serves().await;
}

#[tokio::test]
async fn heads_without_end_are_refused() {
    let victim = start();
    victim.serves().await;
    let before = victim.program.memory_kib();
    let many: String = (0..5_000).map(|n| format!("X-Header-{n}: {n}\r\n")).collect();
    let long = format!("X-Long: {}\r\n", "x".repeat(1 << 20));
    for headers in [many, long] {
        let reply = victim.send(format!("GET /multivac HTTP/1.1\r\nHost: x\r\n{headers}\r\n")).await;
        assert!(reply.is_none_or(|reply| matches!(reply.status, 400 | 431)));
    }
    let reply = victim.send(getting(&format!("/multivac?question={}", "x".repeat(1 << 20)))).await;
    assert!(reply.is_none_or(|reply| matches!(reply.status, 400 | 414 | 431)));
    let grown = victim.program.memory_kib().saturating_sub(before);
    assert!(grown < 64 * 1024, "{grown} KiB");
    victim.serves().await;
}

#[tokio::test]
async fn what_is_no_http_gets_no_5xx() {
    let victim = start();
    for nonsense in [
        "\r\n\r\n",
        "GET\r\n\r\n",
        "GET /multivac HTTP/9.9\r\nHost: x\r\n\r\n",
        "GET /multi\0vac HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST /multivac/data HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        "POST /multivac/data HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        "POST /multivac/data HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nx",
        "POST /multivac/data HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "\u{16}\u{3}\u{1}\0\u{5}hello, this would be TLS\r\n\r\n",
    ] {
        let mut wire = Wire::connect(victim.base()).await.unwrap();
        wire.send(nonsense).await.unwrap();
        // A head that never ends is waited for; here it has ended.
        if let Ok(Some(reply)) = tokio::time::timeout(Duration::from_millis(500), wire.reply()).await {
            assert!((400..500).contains(&reply.status), "{nonsense:?}: {reply:?}");
        }
    }
    victim.serves().await;
}

#[tokio::test]
async fn paths_and_queries_that_are_no_text_are_problems() {
    let victim = start();
    for (path, status) in [
        ("/multivac/data/%ff%fe", 404),
        ("/multivac/data/%00", 404),
        ("/multivac/data/..%2f..%2fetc", 404),
        ("/multivac/data/%", 404),
        ("/%ff", 404),
        ("//multivac", 404),
        ("/multivac?question=%ff", 400),
        ("/multivac?question=%", 0),
        ("/multivac?%ff=%ff&question=", 400),
    ] {
        let reply = victim.send(getting(path)).await.unwrap();
        if status == 0 { assert_eq!(reply.status, 200, "{path}") } else { problem(&reply, status) }
    }
    problem(&victim.send("BREW /multivac HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap(), 405);
    problem(&victim.send("POST /multivac/data HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").await.unwrap(), 415);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_clients_are_told_off_and_hold_up_nobody() {
    let victim = start();
    victim.serves().await;
    // Heads that do not come to their end, and a body that does not.
    let mut trickling = Vec::new();
    for _ in 0..200 {
        let mut wire = Wire::connect(victim.base()).await.unwrap();
        wire.send("GET /multivac HTTP/1.1\r\nHost: x\r\nX-Slow: ").await.unwrap();
        trickling.push(wire);
    }
    let mut body = Wire::connect(victim.base()).await.unwrap();
    body.send(
        "POST /multivac/data HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: 100\r\n\r\nStars ",
    )
    .await
    .unwrap();
    victim.serves().await;
    let begun = Instant::now();
    for n in 0.. {
        for wire in &mut trickling {
            let _ = wire.send("x").await;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        if n == 4 {
            victim.serves().await;
        }
        if begun.elapsed() > Duration::from_secs(11) {
            break;
        }
    }
    let ended = join_all(trickling.iter_mut().map(|wire| wire.ends_within(Duration::from_secs(5)))).await;
    assert!(ended.iter().all(|ended| *ended), "{} are still open", ended.iter().filter(|ended| !**ended).count());
    let reply = body.reply_within(Duration::from_secs(40)).await.unwrap();
    problem(&reply, 408);
    assert!(begun.elapsed() < Duration::from_secs(40));
    let stats: Value =
        Client::new().get(format!("{}/multivac/stats", victim.base())).send().await.unwrap().json().await.unwrap();
    assert!(stats["accepted"].as_u64().unwrap() <= 3, "nothing half was accepted: {stats}");
}
