//! The full system under load, while what it is made of is killed: what got a 200 is learned once, or retracted.
//!
//! `scripts/chaos.sh` runs the same for minutes, at random.

use std::time::{Duration, Instant};

use crate::load::Load;
use crate::system::{Plan, System, ledger};

const REST: Duration = Duration::from_millis(5);

#[tokio::test(flavor = "multi_thread")]
async fn what_an_api_replica_accepted_outlives_it() {
    let Some(mut system) = System::start(Plan { workers: 1, ..Plan::default() }).await else { return };
    let load = Load::start(&system, 8, REST, 1);
    load.until_told_more(200).await;
    for victim in [0, 1] {
        system.apis[victim].kill();
        // The other one takes all of it meanwhile.
        load.until_told_more(200).await;
        system.apis[victim].again();
        system.until(victim, "/readyz", |ready| ready["ready"] == true).await;
    }
    load.finish(&system).await.assert_all_is_there();
    system.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_redis_is_down_feeding_is_refused_and_questions_are_answered() {
    let Some(mut system) = System::start(Plan { apis: 1, workers: 1, ..Plan::default() }).await else { return };
    let load = Load::start(&system, 8, REST, 2);
    load.until_told_more(200).await;
    system.redis.kill();
    let base = &system.bases[0];
    let feed = || system.client.post(format!("{base}/multivac/data")).form(&[("data", "Is anybody there?")]).send();
    let reply = feed().await.unwrap();
    assert_eq!(reply.status(), 503);
    assert!(reply.headers()["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
    let reply = system.client.get(format!("{base}/multivac")).send().await.unwrap();
    assert_eq!(reply.status(), 200);
    system.until(0, "/readyz", |ready| ready["missing"][0] == "the queue is out of reach").await;
    system.redis.again();
    let back = Instant::now();
    load.until_told_more(1).await;
    let waited = back.elapsed();
    assert!(waited < Duration::from_secs(5), "fed again after {waited:?}");
    load.until_told_more(200).await;
    load.finish(&system).await.assert_all_is_there();
    system.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_dies_in_turn_and_nothing_is_lost() {
    let plan = Plan { own_mongo: true, partitions: 3, ..Plan::default() };
    let Some(mut system) = System::start(plan).await else { return };
    let load = Load::start(&system, 8, REST, 3);
    load.until_told_more(200).await;
    system.workers[0].kill();
    load.until_told_more(100).await;
    system.workers[0].again();
    system.apis[0].kill();
    load.until_told_more(100).await;
    system.apis[0].again();
    system.redis.kill();
    tokio::time::sleep(Duration::from_millis(200)).await;
    system.redis.again();
    load.until_told_more(100).await;
    let primary = system.primary().await;
    system.mongo[primary].kill();
    goes_on_without_its_primary(&system, &load).await;
    system.mongo[primary].again();
    load.finish(&system).await.assert_all_is_there();
    system.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_falls_silent_and_nothing_is_lost() {
    let Some(system) = System::start(Plan::default()).await else { return };
    let load = Load::start(&system, 8, REST, 5);
    load.until_told_more(200).await;
    system.redis.freeze();
    let out_of_reach = |ready: &serde_json::Value| ready["missing"].to_string().contains("the queue is out of reach");
    system.until(0, "/readyz", out_of_reach).await;
    system.until(1, "/multivac", |answer| answer["status"].is_string()).await;
    system.redis.thaw();
    load.until_told_more(200).await;
    load.finish(&system).await.assert_all_is_there();
    system.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mongodbs_primary_steps_down_and_nothing_is_lost() {
    let Some(system) = System::start(Plan { own_mongo: true, ..Plan::default() }).await else { return };
    let load = Load::start(&system, 8, REST, 4);
    load.until_told_more(200).await;
    let before = system.primary().await;
    assert!(system.step_down(before).await);
    goes_on_without_its_primary(&system, &load).await;
    assert_ne!(system.primary().await, before, "it has not stepped down");
    load.finish(&system).await.assert_all_is_there();
    system.clean_up().await;
}

/// Feeding needs no MongoDB; learning goes on once the others have elected one of them.
async fn goes_on_without_its_primary(system: &System, load: &Load) {
    load.until_told_more(20).await;
    let told = load.told() as u64;
    let all = |stats: &serde_json::Value| ledger(stats).is_some_and(|is| is.learned + is.retracted > told);
    system.until(0, "/multivac/stats", all).await;
}
