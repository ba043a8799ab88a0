//! What the api says of its Redis, and what it does without it.

use std::env;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use reqwest::{Method, Response};

use crate::test_app::{PATIENCE, Servers, TestApp};

/// A Redis of the test's own.
struct Redis {
    binary: String,
    port: u16,
    directory: tempfile::TempDir,
    process: Child,
}

impl Redis {
    fn spawn(binary: &str, port: u16, directory: &tempfile::TempDir, flags: &[&str]) -> Child {
        let mut command = Command::new(binary);
        command.args(flags);
        command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--appendonly", "yes"]);
        command.args(["--appendfsync", "always", "--maxmemory-policy", "allkeys-lru", "--dir"]).arg(directory.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// `None`, aloud, where there is none of 7.2 or newer; never in CI.
    fn start(flags: &[&str]) -> Option<Self> {
        let Ok(binary) = env::var("MULTIVAC_TEST_REDIS8_SERVER") else {
            assert!(env::var_os("CI").is_none(), "MULTIVAC_TEST_REDIS8_SERVER must be set in CI");
            let _ = std::io::Write::write_all(&mut std::io::stderr(), b"SKIPPED: no MULTIVAC_TEST_REDIS8_SERVER\n");
            return None;
        };
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let directory = tempfile::tempdir().unwrap();
        let process = Self::spawn(&binary, port, &directory, flags);
        Some(Self { binary, port, directory, process })
    }

    fn start_again(&mut self) {
        self.process = Self::spawn(&self.binary, self.port, &self.directory, &[]);
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn feed(app: &TestApp) -> Response {
    app.request(Method::POST, "/multivac/data").form(&[("data", "Stars burn.")]).send().await.unwrap()
}

#[actix_web::test]
async fn it_tells_what_is_wrong_with_redis_how_durable_data_are_and_recovers_by_itself() {
    let (Some(servers), Some(mut redis)) = (Servers::find(), Redis::start(&[])) else { return };
    let url = format!("redis://127.0.0.1:{}", redis.port);
    let flags = ["--redis-url", &url, "--mongo-url", &servers.mongo, "--durability", "fsync"];
    let app = TestApp::start(&flags).await;
    let ready = app.json("/readyz").await;
    let warnings = ready["warnings"].as_array().unwrap();
    assert!(warnings.len() == 1 && warnings[0].as_str().unwrap().contains("allkeys-lru"), "{ready}");
    // The applications of all tests share this process and its metrics: another may be asked at the same moment.
    while !app.get("/metrics").await.text().await.unwrap().lines().any(|line| line == "multivac_queue_warnings 1") {}

    assert_eq!(feed(&app).await.headers()["durability"], "fsync");
    let bulk = app.request(Method::POST, "/multivac/data/bulk").header("Content-Type", "application/x-ndjson");
    let bulk = bulk.body("{\"data\": \"Stars burn out.\"}\n").send().await.unwrap();
    assert_eq!(bulk.headers()["durability"], "fsync");

    redis.kill();
    let refused = feed(&app).await;
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().contains_key("retry-after") && !refused.headers().contains_key("durability"));
    assert_eq!(app.get("/multivac").await.status(), 200);
    redis.start_again();
    let back = Instant::now();
    while feed(&app).await.status() != 200 {
        assert!(back.elapsed() < Duration::from_secs(5), "feeding does not go on");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    app.until("/readyz", |ready| ready["ready"] == true).await;
    assert!(back.elapsed() < PATIENCE);
    app.stop().await;
    servers.database().await.drop().await.unwrap();
}

#[actix_web::test]
async fn what_no_replica_has_is_refused_and_nothing_of_it_is_accepted() {
    // A replica gets its first copy at once; by default Redis waits 5 s for more to come.
    let (Some(servers), Some(redis)) = (Servers::find(), Redis::start(&["--repl-diskless-sync-delay", "0"])) else {
        return;
    };
    let url = format!("redis://127.0.0.1:{}", redis.port);
    let flags = ["--redis-url", &url, "--mongo-url", &servers.mongo, "--durability", "replicated"];
    let app = TestApp::start(&flags).await;
    app.until("/readyz", |ready| ready["ready"] == true).await;
    let refused = feed(&app).await;
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().contains_key("retry-after") && !refused.headers().contains_key("durability"));
    let problem: serde_json::Value = refused.json().await.unwrap();
    assert!(problem["detail"].as_str().unwrap().contains("nothing was accepted"), "{problem}");
    assert_eq!(app.json("/multivac/stats").await["accepted"], 0);

    let Some(_replica) = Redis::start(&["--replicaof", "127.0.0.1", &redis.port.to_string()]) else { return };
    let deadline = Instant::now() + PATIENCE;
    let accepted = loop {
        let reply = feed(&app).await;
        if reply.status() == 200 {
            break reply;
        }
        assert!(Instant::now() < deadline, "{}", reply.text().await.unwrap());
    };
    assert_eq!(accepted.headers()["durability"], "replicated");
    assert_eq!(app.json("/multivac/stats").await["accepted"], 1);
    app.stop().await;
    servers.database().await.drop().await.unwrap();
}

#[actix_web::test]
async fn embedded_data_are_always_on_the_disk() {
    let app = TestApp::start(&[]).await;
    assert_eq!(feed(&app).await.headers()["durability"], "fsync");
    app.stop().await;
}
