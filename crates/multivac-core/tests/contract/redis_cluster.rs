//! A Redis Cluster of three masters, each with a replica: the contract on it, and what moves and dies under load.

use std::time::{Duration, Instant};

use deadpool_redis::redis::cmd;
use futures_util::future::join_all;
use multivac_core::queue::{Acceptance, Durability};
use multivac_testkit::cluster::RedisCluster;
use multivac_testkit::environment::report;
use multivac_testkit::redis::{installed, newer};
use multivac_testkit::sample::submission;
use multivac_testkit::wait::until;

use crate::backends::{Backend, Redis, redis_settings};
use crate::queue::long_lease;
use crate::redis::{Load, assert_resumed_in_time, durable, the_contract_holds};

/// How long before its master's death a job must have been accepted to be safe: by then its replica has it.
const REPLICATED_WITHIN: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_keeps_the_contract_while_a_slot_moves_and_a_master_dies() {
    const PARTITIONS: u16 = 6;
    let Some(mut cluster) = RedisCluster::start(installed()).await else { return };
    let urls = cluster.urls();
    the_contract_holds(|| redis_settings(urls.clone(), PARTITIONS)).await;

    let settings = redis_settings(urls, PARTITIONS);
    let load = Load::start(&settings, Durability::Server).await;
    load.flows_since(Instant::now(), PARTITIONS).await;
    let stream = format!("{}:{{0}}:stream", settings.namespace);
    let slot: u16 = cluster.slot_of(&stream).await;
    let from = RedisCluster::master_of(slot);
    let to = (from + 1) % 3;
    let started = Instant::now();
    cluster.move_slot(slot, from, to).await;
    report(&format!("a slot moved under load in {} ms", started.elapsed().as_millis()));
    assert_resumed_in_time(load.flows_since(Instant::now(), PARTITIONS).await, "a slot had moved");

    let killed = Instant::now();
    cluster.nodes[to].kill();
    cluster.until_failed_over(to).await;
    report(&format!("a replica took over {} ms after its master was killed", killed.elapsed().as_millis()));
    assert_resumed_in_time(load.flows_since(Instant::now(), PARTITIONS).await, "a replica had taken over");

    let queue = Redis(settings).queue(long_lease()).await;
    let (end, _, lost) = load.drain(&queue).await;
    report(&format!(
        "{} of {} were accepted by a master that died before its replica had them",
        lost.len(),
        end.accepted
    ));
    // Without --durability replicated, that is what Redis promises.
    let too_early = lost.iter().filter(|at| **at + REPLICATED_WITHIN < killed).count();
    assert_eq!(too_early, 0, "of {} lost, so many were accepted long before", lost.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_fails_over_loses_nothing_that_was_replicated() {
    const PARTITIONS: u16 = 6;
    const KILLED: usize = 0;
    let Some(mut cluster) = RedisCluster::start(newer()).await else { return };
    for node in &cluster.nodes {
        node.ask::<()>(cmd("CONFIG").arg("SET").arg("appendfsync").arg("always")).await.unwrap();
    }
    let settings = redis_settings(cluster.urls(), PARTITIONS);
    let load = Load::start(&settings, Durability::Replicated).await;
    load.flows_since(Instant::now(), PARTITIONS).await;
    cluster.nodes[KILLED].kill();
    cluster.until_failed_over(KILLED).await;
    // The new master has no replica until the old one is back as one.
    cluster.nodes[KILLED].start_again().await;
    load.flows_since(Instant::now(), PARTITIONS).await;
    let queue = Redis(settings).queue(long_lease()).await;
    let (end, _, lost) = load.drain(&queue).await;
    assert!(lost.is_empty(), "{} of {} were lost", lost.len(), end.accepted);
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_cluster_accepting_waits_for_the_master_that_has_the_job() {
    const PARTITIONS: u16 = 6;
    let Some(cluster) = RedisCluster::start(newer()).await else { return };
    let settings = redis_settings(cluster.urls(), PARTITIONS);
    let queue = Redis(settings.clone()).queue(durable(Durability::Replicated)).await;
    // One by one, since those that are accepted together go to one partition.
    let refused_of_60 = async || {
        let submissions: Vec<_> = (0..60).map(|n| submission(&format!("job {n}"))).collect();
        let mut refused = 0;
        for acceptances in join_all(submissions.chunks(1).map(|one| queue.accept(one))).await {
            match acceptances.unwrap()[..] {
                [Acceptance::Accepted] => {}
                // Whether the rollback is believed depends on whether the replica has written it in time.
                [Acceptance::NotDurable { .. }] => refused += 1,
                ref other => panic!("{other:?}"),
            }
        }
        refused
    };
    // A replica confirms nothing before it has written its first copy.
    until("each replica writes", async || refused_of_60().await == 0).await;
    let queued =
        async || -> Vec<u64> { queue.partitions().await.unwrap().iter().map(|partition| partition.queued).collect() };
    let before = queued().await;

    // A master that does not write to its disk any more cannot make anything durable; the others can.
    let broken = 1;
    cluster.nodes[broken].ask::<()>(cmd("CONFIG").arg("SET").arg("appendonly").arg("no")).await.unwrap();
    let mut is_broken = Vec::new();
    for number in 0..before.len() {
        let slot: u16 = cluster.slot_of(&format!("{}:{{{number}}}:stream", settings.namespace)).await;
        is_broken.push(RedisCluster::master_of(slot) == broken);
    }
    // On a busy machine a replica may be too late for all that one partition got of sixty.
    let (mut fed, mut refused, mut after) = (0, 0, before.clone());
    until("each of the others holds more", async || {
        refused += refused_of_60().await;
        fed += 60;
        after = queued().await;
        is_broken.iter().zip(before.iter().zip(&after)).all(|(is_broken, (before, after))| *is_broken || after > before)
    })
    .await;
    for (number, (before, after)) in before.iter().zip(&after).enumerate() {
        assert_eq!(after > before, !is_broken[number], "{number}: {before}, then {after}");
    }
    let held = after.iter().sum::<u64>() - before.iter().sum::<u64>();
    assert_eq!(held + refused, fed);
}
