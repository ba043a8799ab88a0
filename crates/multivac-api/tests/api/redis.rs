//! What the api reports about its Redis, and what it does without it.

use std::time::{Duration, Instant};

use multivac_testkit::TEST_TIMEOUT;
use multivac_testkit::backends::SharedServers;
use multivac_testkit::redis::{self, RedisServer};
use multivac_testkit::wait::until_ok;
use reqwest::{Method, Response};

use crate::test_app::TestApp;

/// A Redis that can confirm that a write is on the disk, with one setting that could lose data; without it the test is skipped.
async fn start_redis(flags: &[&str]) -> Option<RedisServer> {
    let flags = [&["--appendfsync", "always", "--maxmemory-policy", "allkeys-lru"], flags].concat();
    Some(RedisServer::start(&redis::newer()?, &flags).await)
}

async fn feed(app: &TestApp) -> Response {
    app.request(Method::POST, "/multivac/data").form(&[("data", "Stars burn.")]).send().await.unwrap()
}

#[actix_web::test]
async fn it_reports_what_is_wrong_with_redis_and_how_durable_data_are_and_recovers_by_itself() {
    let (Some(servers), Some(mut redis)) = (SharedServers::find(), start_redis(&[]).await) else { return };
    let url = redis.url();
    let flags = ["--redis-url", &url, "--mongo-url", &servers.mongo_url, "--durability", "fsync"];
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
    redis.service.start_again();
    let back = Instant::now();
    while feed(&app).await.status() != 200 {
        assert!(back.elapsed() < Duration::from_secs(5), "feeding does not go on");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    app.until("/readyz", |ready| ready["ready"] == true).await;
    assert!(back.elapsed() < TEST_TIMEOUT);
    app.stop().await;
    servers.clean_up().await;
}

#[actix_web::test]
async fn what_no_replica_has_is_refused_and_nothing_of_it_is_accepted() {
    // A replica gets its first copy at once; by default Redis waits 5 s for more to come.
    let Some(redis) = start_redis(&["--repl-diskless-sync-delay", "0"]).await else { return };
    let Some(servers) = SharedServers::find() else { return };
    let url = redis.url();
    let flags = ["--redis-url", &url, "--mongo-url", &servers.mongo_url, "--durability", "replicated"];
    let app = TestApp::start(&flags).await;
    app.until("/readyz", |ready| ready["ready"] == true).await;
    let refused = feed(&app).await;
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().contains_key("retry-after") && !refused.headers().contains_key("durability"));
    let problem: serde_json::Value = refused.json().await.unwrap();
    assert!(problem["detail"].as_str().unwrap().contains("nothing was accepted"), "{problem}");
    assert_eq!(app.json("/multivac/stats").await["accepted"], 0);

    let replica_flags = ["--replicaof", "127.0.0.1", &redis.port.to_string()];
    let Some(_replica) = start_redis(&replica_flags).await else { return };
    let accepted = until_ok("a replica has written it", async || match feed(&app).await {
        reply if reply.status() == 200 => Ok(reply),
        reply => Err(reply.text().await),
    })
    .await;
    assert_eq!(accepted.headers()["durability"], "replicated");
    assert_eq!(app.json("/multivac/stats").await["accepted"], 1);
    app.stop().await;
    servers.clean_up().await;
}

#[actix_web::test]
async fn embedded_data_are_always_on_the_disk() {
    let app = TestApp::start(&[]).await;
    assert_eq!(feed(&app).await.headers()["durability"], "fsync");
    app.stop().await;
}
