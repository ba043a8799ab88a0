//! Two replicas on Redis and MongoDB, and a worker's consumer.

use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use mongodb::bson::{Document, doc, oid::ObjectId};
use multivac_api::config::Config;
use multivac_core::adapters::Backends;
use multivac_core::consumer::Consumer;
use multivac_testkit::backends::SharedServers;
use reqwest::Method;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::event_client::Events;
use crate::test_app::TestApp;

/// What multivac-worker runs.
async fn consumer(servers: &SharedServers) -> (Consumer, CancellationToken) {
    let line = std::iter::once("multivac-api".to_owned()).chain(servers.flags());
    let args = Config::parse_from(line).backends;
    let backends = Backends::servers(args.server_urls().unwrap().unwrap(), &args, args.queue_settings()).await.unwrap();
    let consumer = Consumer {
        queue: backends.queue.clone(),
        store: Arc::clone(&backends.store),
        lease: Duration::from_secs(30),
        concurrency: 1,
        max_bytes_under_way: 8 << 20,
        process: multivac_core::process::process,
        process_timeout: Duration::from_secs(10),
    };
    (consumer, CancellationToken::new())
}

#[actix_web::test]
async fn what_is_fed_to_one_replica_is_answered_by_another_until_it_is_retracted() {
    let Some(servers) = SharedServers::find() else { return };
    let flags = servers.flags();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let entropy = servers.database().await.collection::<Document>("entropy");
    // As the original application wrote it.
    let original = ObjectId::new();
    entropy.insert_one(doc! { "_id": original, "data": "Penguins eat krill and small fish." }).await.unwrap();
    let one = TestApp::start(&flags).await;
    let two = TestApp::start(&flags).await;
    assert_eq!(two.ask("What do penguins eat?").await["answer"], "Penguins eat krill and small fish.");
    one.until("/multivac/stats", |stats| stats["learned"] == 1 && stats["accepted"] == 1).await;

    let url = |app: &TestApp| format!("{}/multivac/events?question=Who+built+Multivac%3F", app.base);
    let mut streams =
        [Events::open(&one.client, &url(&one), None).await, Events::open(&two.client, &url(&two), None).await];
    for stream in &mut streams {
        assert_eq!(stream.next_answer().await.data["status"], "insufficient_data");
    }
    let waiting = one.feed("Multivac was built by Adell and Lupov.").await;
    assert_eq!(two.json(&format!("/multivac/data/{waiting}")).await["status"], "queued");
    assert_eq!(two.json("/multivac/stats").await["queued"], 1);
    let (consumer, stop) = consumer(&servers).await;
    let consuming = tokio::spawn(consumer.run(stop.clone()));
    two.until(&format!("/multivac/data/{waiting}"), |datum| datum["status"] == "processed").await;
    assert_eq!(two.ask("Who built Multivac?").await["answer"], "Multivac was built by Adell and Lupov.");

    let mut ids = Vec::new();
    for stream in &mut streams {
        let learned = stream.next_answer().await;
        assert_eq!(learned.data["because"], json!({"id": waiting, "kind": "learned"}));
        ids.push(learned.id.unwrap());
    }
    // The id of one replica means nothing to another.
    let elsewhere = Events::open(&two.client, &url(&two), Some(&ids[0])).await.next().await.unwrap();
    assert_eq!((elsewhere.id.as_ref(), &elsewhere.data["before"]), (Some(&ids[1]), &Value::Null));

    for id in [waiting.clone(), original.to_hex()] {
        let reply = one.request(Method::DELETE, &format!("/multivac/data/{id}")).send().await.unwrap();
        assert_eq!(reply.status(), 204);
        assert_eq!(two.json(&format!("/multivac/data/{id}")).await["status"], "retracted");
    }
    for stream in &mut streams {
        assert_eq!(stream.next_answer().await.data["because"], json!({"id": waiting, "kind": "retracted"}));
    }
    drop(streams);
    for question in ["Who built Multivac?", "What do penguins eat?"] {
        let reply = two.ask(question).await;
        assert_eq!((&reply["status"], reply["evidence"].as_array().unwrap().len()), (&"insufficient_data".into(), 0));
    }
    let stats = one.json("/multivac/stats").await;
    assert_eq!((&stats["accepted"], &stats["retracted"], &stats["learned"]), (&2.into(), &2.into(), &0.into()));
    stop.cancel();
    consuming.await.unwrap().unwrap();
    one.stop().await;
    two.stop().await;
    servers.clean_up().await;
}

#[actix_web::test]
async fn a_full_queue_refuses_and_accepts_again_once_it_has_drained() {
    let Some(servers) = SharedServers::find() else { return };
    let flags = servers.flags();
    let flags: Vec<&str> = flags.iter().map(String::as_str).chain(["--max-queued", "2"]).collect();
    let app = TestApp::start(&flags).await;
    app.feed("one").await;
    app.feed("two").await;
    let reply = app.request(Method::POST, "/multivac/data").form(&[("data", "three")]).send().await.unwrap();
    assert_eq!(reply.status(), 503);
    assert!(reply.headers()["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
    assert_eq!(app.json("/multivac/stats").await["accepted"], 2);
    let (consumer, stop) = consumer(&servers).await;
    let consuming = tokio::spawn(consumer.run(stop.clone()));
    app.until("/multivac/stats", |stats| stats["learned"] == 2).await;
    app.teach("three").await;
    stop.cancel();
    consuming.await.unwrap().unwrap();
    app.stop().await;
    servers.clean_up().await;
}
