//! What the api reports about its Redis, and what it does without it.

use std::time::{Duration, Instant};

use deadpool_redis::redis::cmd;
use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Document, doc};
use multivac_core::datum::DatumId;
use multivac_testkit::TEST_TIMEOUT;
use multivac_testkit::backends::SharedServers;
use multivac_testkit::redis::{self, RedisServer};
use multivac_testkit::wait::{until, until_ok};
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
    // No value: the applications of all tests share this process, and its metrics.
    assert!(app.get("/metrics").await.text().await.unwrap().contains("\nmultivac_queue_warnings "));

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
async fn what_may_be_accepted_all_the_same_is_not_said_to_be_refused() {
    let Some(redis) = start_redis(&["--repl-diskless-sync-delay", "0"]).await else { return };
    let Some(servers) = SharedServers::find() else { return };
    // It gets everything, and writes nothing to a disk.
    let replica_flags = ["--replicaof", "127.0.0.1", &redis.port.to_string(), "--appendonly", "no"];
    let Some(replica) = start_redis(&replica_flags).await else { return };
    until("the replica follows", async || {
        let info: String = replica.ask(cmd("INFO").arg("replication")).await.unwrap();
        info.contains("master_link_status:up")
    })
    .await;
    let url = redis.url();
    let flags = ["--redis-url", &url, "--mongo-url", &servers.mongo_url, "--durability", "replicated"];
    let app = TestApp::start(&flags).await;
    app.until("/readyz", |ready| ready["ready"] == true).await;
    let bulk = app.request(Method::POST, "/multivac/data/bulk").header("Content-Type", "application/x-ndjson");
    let bulk = bulk.body("{\"data\": \"Stars burn out.\"}\n{\"data\": \"Suns burn out.\"}\n");
    for refused in [feed(&app).await, bulk.send().await.unwrap()] {
        assert_eq!(refused.status(), 503);
        let problem: serde_json::Value = refused.json().await.unwrap();
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("may have been accepted") && detail.contains("same Idempotency-Key"), "{detail}");
        assert!(!detail.contains("nothing was accepted"), "{detail}");
        // Under its id it can be asked for.
        let id = detail.split_whitespace().find_map(|word| word.trim_matches([':', ',']).parse::<DatumId>().ok());
        let status = app.get(&format!("/multivac/data/{}", id.unwrap())).await.status();
        assert!(status == 200 || status == 404, "{status}");
    }
    app.stop().await;
    servers.clean_up().await;
}

/// Two data of the original application's, one of them retracted, and documents that are no data.
#[actix_web::test]
async fn the_ledger_comes_right_when_redis_is_empty_and_when_only_tombstones_are_left() {
    let Some(redis) = start_redis(&[]).await else { return };
    let Some(servers) = SharedServers::find() else { return };
    let url = redis.url();
    let app = TestApp::start(&["--redis-url", &url, "--mongo-url", &servers.mongo_url]).await;
    let entropy = servers.database().await.collection::<Document>("entropy");
    let (kept, retracted) = (ObjectId::new(), ObjectId::new());
    let foreign = [doc! { "_id": ObjectId::new(), "data": 7 }, doc! { "_id": 1, "data": "text" }];
    entropy.insert_many(foreign).await.unwrap();
    for id in [kept, retracted] {
        entropy.insert_one(doc! { "_id": id, "data": "Stars burn out." }).await.unwrap();
    }
    let is = |ledger: [u64; 4]| {
        move |stats: &serde_json::Value| {
            ["accepted", "processing", "learned", "retracted"].map(|count| stats[count].as_u64()) == ledger.map(Some)
        }
    };
    let delete = async |id: ObjectId| {
        let reply = app.request(Method::DELETE, &format!("/multivac/data/{}", id.to_hex())).send().await.unwrap();
        assert_eq!(reply.status(), 204);
    };
    app.until("/multivac/stats", is([2, 0, 2, 0])).await;
    delete(retracted).await;
    app.until("/multivac/stats", is([2, 0, 1, 1])).await;
    redis.ask::<()>(&cmd("FLUSHALL")).await.unwrap();
    app.until("/multivac/stats", is([2, 0, 1, 1])).await;
    // Learned is 0 in Redis and in the index from here on; the tombstones alone differ.
    delete(kept).await;
    app.until("/multivac/stats", is([2, 0, 0, 2])).await;
    redis.ask::<()>(&cmd("FLUSHALL")).await.unwrap();
    app.until("/multivac/stats", is([2, 0, 0, 2])).await;
    // And for a process that has not seen it otherwise.
    app.stop().await;
    redis.ask::<()>(&cmd("FLUSHALL")).await.unwrap();
    let app = TestApp::start(&["--redis-url", &url, "--mongo-url", &servers.mongo_url]).await;
    app.until("/multivac/stats", is([2, 0, 0, 2])).await;
    app.stop().await;
    servers.clean_up().await;
}

#[actix_web::test]
async fn embedded_data_are_always_on_the_disk() {
    let app = TestApp::start(&[]).await;
    assert_eq!(feed(&app).await.headers()["durability"], "fsync");
    app.stop().await;
}
