//! Redis's clock is set forward and back, by hand or by NTP, while workers hold leases.

use std::sync::Arc;
use std::time::Duration;

use multivac_core::queue::{Lease, Ledger, QueueAdmin, QueueSettings};
use multivac_testkit::clock::Clock;
use multivac_testkit::redis::{RedisServer, installed};
use multivac_testkit::wait::until_ok;

use crate::backends::{Backend, Redis, redis_settings};
use crate::queue::{accept, complete, lease, ledger};

const HOUR: i64 = 3_600;

/// Long enough to be in force for what a test does under it.
const LEASE: Duration = Duration::from_secs(1);

async fn leased_by_another(queue: &Arc<dyn QueueAdmin>) -> Vec<Lease> {
    until_ok("the job of a worker that died passes to another", async || {
        let leases = queue.lease(10, Duration::from_millis(200)).await.unwrap();
        if leases.is_empty() { Err("not yet") } else { Ok(leases) }
    })
    .await
}

#[tokio::test]
async fn jobs_of_a_worker_that_died_pass_to_others_although_redis_clock_was_set_back() {
    let Some(binary) = installed() else { return };
    let clock = Clock::new();
    let server = RedisServer::start(&clock.under(&binary), &[]).await;
    for partitions in [1, 3] {
        let redis = Redis(redis_settings(vec![server.url()], partitions));
        let worker =
            async || redis.queue(QueueSettings { lease: LEASE, max_attempts: 10, ..QueueSettings::default() }).await;
        clock.set_ahead(0);
        let died = worker().await;
        let job = accept(&died, "its worker dies").await;
        assert_eq!(lease(&died, 1).await[0].job, job);
        drop(died);

        // A long way back, and while it was ahead for a moment.
        for seconds in [-HOUR, HOUR, 0, -HOUR] {
            clock.set_ahead(seconds);
            let other = worker().await;
            let leases = leased_by_another(&other).await;
            assert_eq!(leases[0].job, job, "{seconds}");
        }
        // A dead letter, a retry and a completion are what they were.
        let last = worker().await;
        complete(&last, &leased_by_another(&last).await).await;
        assert_eq!(ledger(&last).await, Ledger { accepted: 1, learned: 1, ..Ledger::default() });
    }
}

#[tokio::test]
async fn a_living_worker_keeps_its_lease_when_redis_clock_is_set_back() {
    let Some(binary) = installed() else { return };
    let clock = Clock::new();
    let server = RedisServer::start(&clock.under(&binary), &[]).await;
    let redis = Redis(redis_settings(vec![server.url()], 1));
    let worker = async || redis.queue(QueueSettings { lease: 20 * LEASE, ..QueueSettings::default() }).await;
    let (living, other) = (worker().await, worker().await);
    accept(&living, "one").await;
    let leases = lease(&living, 1).await;
    clock.set_ahead(-HOUR);
    assert!(other.lease(10, Duration::ZERO).await.unwrap().is_empty(), "it is leased already");
    living.extend(&leases).await.unwrap();
    assert!(other.lease(10, Duration::ZERO).await.unwrap().is_empty(), "it is leased still");
    living.release(&leases).await.unwrap();
    let again = lease(&other, 1).await;
    assert_eq!((&again[0].job, again[0].attempt), (&leases[0].job, 1));
    complete(&other, &again).await;
}
