//! `GET /multivac/system`: replicas, workers and the queue.

use std::time::{Duration, Instant};

use deadpool_redis::redis::cmd;
use futures_util::future::join_all;
use mongodb::bson::{DateTime, Document, doc};
use multivac_core::queue::QueueSettings;
use multivac_testkit::backends::SharedServers;
use multivac_testkit::hang::HangingServers;
use multivac_testkit::redis::{self, RedisServer};
use serde_json::{Value, json};

use crate::dead::{learning, start_with_servers};
use crate::event_client::Events;
use crate::program::Program;
use crate::test_app::TestApp;

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn ids(system: &Value) -> Vec<&str> {
    system["replicas"].as_array().unwrap().iter().map(|replica| replica["id"].as_str().unwrap()).collect()
}

#[actix_web::test]
async fn the_embedded_system_is_one_replica_and_its_own_worker() {
    let app = TestApp::start(&["--max-queued", "7"]).await;
    let mut system = app.until("/multivac/system", |system| !system["workers"].as_array().unwrap().is_empty()).await;
    // Counted for the process, in which others ask too.
    assert!(system.as_object_mut().unwrap().remove("questions").unwrap().is_u64());
    let limit_bytes = QueueSettings::default().max_queued_bytes;
    let expected = json!({
        "version": VERSION,
        "replicas": [{ "id": ids(&system)[0], "version": VERSION, "answering": true }],
        "workers": [{ "name": "embedded", "version": VERSION, "idle_seconds": 0 }],
        "queue": { "unfinished": 0, "oldest_seconds": null, "limit": 7, "bytes": 0, "limit_bytes": limit_bytes },
        "embedded": true,
    });
    assert_eq!(system, expected);
    let reply = app.get("/multivac/system").await;
    assert_eq!(
        (&reply.headers()["vary"], &reply.headers()["cache-control"]),
        (&"Accept".parse().unwrap(), &"no-store".parse().unwrap())
    );
    app.stop().await;
}

#[actix_web::test]
async fn each_replica_names_all_and_the_workers_and_how_full_the_queue_is() {
    let Some(servers) = SharedServers::find() else { return };
    let flags = [&servers.flags()[..], &["--partitions".to_owned(), "3".to_owned()]].concat();
    let (one, backends) = start_with_servers(&flags).await;
    let (two, _) = start_with_servers(&flags).await;
    // As a replica of 0.1.0 announces itself.
    let replicas = servers.database().await.collection::<Document>("replicas");
    replicas
        .insert_one(doc! { "_id": "a replica of 0.1.0", "position": 1_i64, "seen_at": DateTime::now() })
        .await
        .unwrap();
    let both = one.until("/multivac/system", |system| ids(system).len() == 3).await;
    let versions: Vec<&Value> =
        both["replicas"].as_array().unwrap().iter().map(|replica| &replica["version"]).collect();
    assert_eq!(
        (ids(&both)[2], &versions[..]),
        ("a replica of 0.1.0", &[&json!(VERSION), &json!(VERSION), &Value::Null][..])
    );
    assert!(both["replicas"].as_array().unwrap().iter().all(|replica| replica["answering"] == true), "{both}");
    assert_eq!((&both["workers"], &both["embedded"]), (&json!([]), &json!(false)));
    // It says no more, and does not say that it has ended.
    let silent = one.until("/multivac/system", |system| system["replicas"][2]["answering"] == false).await;
    assert_eq!(ids(&silent), ids(&both));

    let text = "Penguins eat krill.";
    one.feed(text).await;
    let full = two.until("/multivac/system", |system| system["queue"]["unfinished"] == 1).await;
    assert_eq!(full["queue"]["bytes"], text.len());
    assert!(full["queue"]["oldest_seconds"].as_u64().unwrap() < 20, "{full}");
    two.until("/multivac/system", |system| system["queue"]["oldest_seconds"].as_u64() > Some(0)).await;

    let worker = learning(&backends);
    let working = two
        .until("/multivac/system", |system| {
            system["workers"].as_array().unwrap().len() == 1 && system["queue"]["unfinished"] == 0
        })
        .await;
    assert_eq!(
        (&working["workers"][0]["version"], &working["queue"]["oldest_seconds"]),
        (&json!(VERSION), &Value::Null)
    );
    assert!(working["workers"][0]["idle_seconds"].as_u64().unwrap() < 5, "{working}");
    worker.stop().await;

    two.stop().await;
    let left = one.until("/multivac/system", |system| ids(system).len() == 2).await;
    assert!(ids(&both).contains(&ids(&left)[0]), "{left}");
    one.stop().await;
    servers.clean_up().await;
}

#[actix_web::test]
async fn a_thousand_who_ask_at_once_cost_one_look() {
    let (Some(servers), Some(binary)) = (SharedServers::find(), redis::installed()) else { return };
    let redis = RedisServer::start(&binary, &[]).await;
    let url = redis.url();
    let app = TestApp::start(&["--redis-url", &url, "--mongo-url", &servers.mongo_url]).await;
    let looks = async || {
        let stats: String = redis.ask(cmd("INFO").arg("commandstats")).await.unwrap();
        // Those of a start, which are in a script, are there before.
        let calls = stats.lines().find_map(|line| line.strip_prefix("cmdstat_xinfo|consumers:calls="));
        calls.map_or(0, |calls| calls.split(',').next().unwrap().parse::<u64>().unwrap())
    };
    let before = looks().await;
    let started = Instant::now();
    let asked = join_all((0..1_000).map(|_| app.get("/multivac/system"))).await;
    assert!(asked.iter().all(|reply| reply.status() == 200));
    let most = 1 + started.elapsed().as_secs() / 2;
    let after = looks().await;
    assert!((1..=most + 1).contains(&(after - before)), "{} looks in {:?}", after - before, started.elapsed());
    app.stop().await;
    servers.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_servers_hang_all_who_ask_are_told_so_in_time() {
    let Some(servers) = HangingServers::start().await else { return };
    let flags = servers.flags();
    let app = Program::start(&flags.iter().map(String::as_str).collect::<Vec<_>>());
    let client = reqwest::Client::new();
    app.until(&client, "/readyz", |ready| ready["ready"] == true).await;
    servers.pause();
    let started = Instant::now();
    let url = format!("{}/multivac/system", app.base);
    for reply in join_all((0..50).map(|_| client.get(&url).send())).await {
        let reply = reply.unwrap();
        // What was seen a moment before the pause may be shown once more.
        assert!(reply.status() == 503 && reply.headers().contains_key("retry-after"), "{}", reply.status());
    }
    assert!(started.elapsed() < Duration::from_secs(12), "{:?}", started.elapsed());
    servers.resume();
    app.until(&client, "/multivac/system", |system| system["embedded"] == false).await;
}

#[actix_web::test]
async fn as_events_it_comes_at_once_and_again_when_it_changes() {
    let Some(servers) = SharedServers::find() else { return };
    let (app, _) = start_with_servers(&servers.flags()).await;
    let started = Instant::now();
    let mut events = Events::open(&app.client, &format!("{}/multivac/system", app.base), None).await;
    let first = events.next_of("system").await;
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    assert_eq!((&first.data["queue"]["unfinished"], ids(&first.data).len()), (&json!(0), 1));
    app.feed("Penguins eat krill.").await;
    // Not in the next event: questions of other tests are counted here, too.
    while events.next_of("system").await.data["queue"]["unfinished"] != 1 {}
    assert!(events.retry.is_some());
    let (other, _) = start_with_servers(&servers.flags()).await;
    while ids(&events.next_of("system").await.data).len() != 2 {}
    other.stop().await;
    while ids(&events.next_of("system").await.data).len() != 1 {}
    app.stop().await;
    assert_eq!(events.next().await, None, "a stopping replica ends its streams");
    servers.clean_up().await;
}
