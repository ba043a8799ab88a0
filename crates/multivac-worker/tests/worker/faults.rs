//! The full system under load while parts of it are killed: what got a 200 is learned once, or retracted.
//!
//! `scripts/chaos.sh` runs the same for minutes, at random.

use std::time::{Duration, Instant};

use multivac_testkit::load::Load;
use multivac_testkit::system::{Plan, System, ledger};

use crate::test_worker::PROGRAM;

const REST: Duration = Duration::from_millis(5);

#[tokio::test(flavor = "multi_thread")]
async fn what_an_api_replica_accepted_outlives_it() {
    let Some(mut system) = System::start(Plan { workers: 1, ..Plan::new(PROGRAM) }).await else { return };
    let load = Load::start(&system, 8, REST, 1);
    load.until_confirmed(200).await;
    for replica in [0, 1] {
        system.apis[replica].kill();
        // The other one takes all of it meanwhile.
        load.until_confirmed(200).await;
        system.apis[replica].start_again();
        system.until(replica, "/readyz", |ready| ready["ready"] == true).await;
    }
    load.finish(&system).await.assert_all_is_there();
    system.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_redis_is_down_feeding_is_refused_and_questions_are_answered() {
    let Some(mut system) = System::start(Plan { apis: 1, workers: 1, ..Plan::new(PROGRAM) }).await else { return };
    let load = Load::start(&system, 8, REST, 2);
    load.until_confirmed(200).await;
    system.redis.node(0).kill();
    let base = &system.bases[0];
    let feed = || system.client.post(format!("{base}/multivac/data")).form(&[("data", "Is anybody there?")]).send();
    let reply = feed().await.unwrap();
    assert_eq!(reply.status(), 503);
    assert!(reply.headers()["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
    let reply = system.client.get(format!("{base}/multivac")).send().await.unwrap();
    assert_eq!(reply.status(), 200);
    system.until(0, "/readyz", |ready| ready["missing"][0] == "the queue is out of reach").await;
    system.redis.node(0).service.start_again();
    let back = Instant::now();
    load.until_confirmed(1).await;
    let waited = back.elapsed();
    assert!(waited < Duration::from_secs(5), "fed again after {waited:?}");
    load.until_confirmed(200).await;
    load.finish(&system).await.assert_all_is_there();
    system.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_killed_in_turn_and_nothing_is_lost() {
    let plan = Plan { own_mongo: true, partitions: 3, ..Plan::new(PROGRAM) };
    let Some(mut system) = System::start(plan).await else { return };
    let load = Load::start(&system, 8, REST, 3);
    load.until_confirmed(200).await;
    system.workers[0].kill();
    load.until_confirmed(100).await;
    system.workers[0].start_again();
    system.apis[0].kill();
    load.until_confirmed(100).await;
    system.apis[0].start_again();
    system.redis.node(0).kill();
    tokio::time::sleep(Duration::from_millis(200)).await;
    system.redis.node(0).service.start_again();
    load.until_confirmed(100).await;
    let primary = system.replica_set().primary().await;
    system.replica_set().members[primary].service.kill();
    goes_on_without_its_primary(&system, &load).await;
    system.replica_set().members[primary].service.start_again();
    load.finish(&system).await.assert_all_is_there();
    system.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_does_not_answer_for_a_while_and_nothing_is_lost() {
    let Some(mut system) = System::start(Plan::new(PROGRAM)).await else { return };
    let load = Load::start(&system, 8, REST, 5);
    load.until_confirmed(200).await;
    system.redis.node(0).service.pause();
    let out_of_reach = |ready: &serde_json::Value| ready["missing"].to_string().contains("the queue is out of reach");
    system.until(0, "/readyz", out_of_reach).await;
    system.until(1, "/multivac", |answer| answer["status"].is_string()).await;
    system.redis.node(0).service.resume();
    load.until_confirmed(200).await;
    load.finish(&system).await.assert_all_is_there();
    system.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mongodbs_primary_steps_down_and_nothing_is_lost() {
    let Some(mut system) = System::start(Plan { own_mongo: true, ..Plan::new(PROGRAM) }).await else { return };
    let load = Load::start(&system, 8, REST, 4);
    load.until_confirmed(200).await;
    let before = system.replica_set().primary().await;
    assert!(system.replica_set().step_down(before).await);
    goes_on_without_its_primary(&system, &load).await;
    assert_ne!(system.replica_set().primary().await, before, "it has not stepped down");
    load.finish(&system).await.assert_all_is_there();
    system.clean_up().await;
}

/// Feeding needs no MongoDB; learning goes on once the other members have elected a primary.
async fn goes_on_without_its_primary(system: &System, load: &Load) {
    load.until_confirmed(20).await;
    let confirmed = load.confirmed() as u64;
    let all = |stats: &serde_json::Value| ledger(stats).is_some_and(|is| is.learned + is.retracted > confirmed);
    system.until(0, "/multivac/stats", all).await;
}
