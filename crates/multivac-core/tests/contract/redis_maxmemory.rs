//! Redis's memory is full: nothing is accepted, and all that makes room still works, also for whoever starts then.

use std::sync::Arc;
use std::time::Duration;

use multivac_core::queue::{
    Acceptance, Failure, IdempotencyKey, JobState, Ledger, QueueAdmin, QueueSettings, Submission,
};
use multivac_testkit::redis::{RedisServer, installed, newer};
use multivac_testkit::sample::{job, submission};

use crate::backends::{Backend, Redis, redis_settings};
use crate::queue::{complete, lease, ledger, long_lease};

#[tokio::test]
async fn a_redis_at_maxmemory_refuses_what_is_fed_and_is_drained_by_those_who_start_then() {
    for binary in [installed(), newer()] {
        let Some(binary) = binary else { return };
        let server = RedisServer::start(&binary, &["--maxmemory-policy", "noeviction"]).await;
        for partitions in [1, 3] {
            server.set("maxmemory", "0").await;
            let redis = Redis(redis_settings(vec![server.url()], partitions));
            let queue = || redis.queue(QueueSettings { max_attempts: 1, ..long_lease() });
            let key = Some(IdempotencyKey::new(None, "a key", None));
            let keyed = Submission { job: job("with a key"), idempotency_key: key };
            let mut all: Vec<Submission> = (0..20).map(|n| submission(&format!("number {n}"))).collect();
            all.push(keyed.clone());
            let before = queue().await;
            assert_eq!(before.accept(&all).await.unwrap(), vec![Acceptance::Accepted; 21]);
            let (held, failing) = (lease(&before, 4).await, lease(&before, 2).await);
            let dead = lease(&before, 2).await;
            for lease in &dead {
                assert_eq!(before.fail(lease, "bad", Duration::ZERO).await.unwrap(), Failure::Dead);
            }
            server.set("maxmemory", "1kb").await;

            // Whoever starts now finds everything as it is.
            let queue: Arc<dyn QueueAdmin> = queue().await;
            let expected = Ledger { accepted: 21, queued: 13, processing: 6, dead: 2, ..Ledger::default() };
            assert_eq!(ledger(&queue).await, expected);
            assert_eq!(queue.partitions().await.unwrap().iter().map(|p| p.queued).sum::<u64>(), 13);
            assert_eq!(queue.job_state(dead[0].job.id).await.unwrap(), Some(JobState::Dead));
            let letters = queue.dead_letters(None, 10).await.unwrap();
            assert_eq!(letters.len(), 2);

            // Nothing new is accepted, and what was accepted is known.
            let again = Submission { job: job("with a key"), idempotency_key: key };
            let answers = queue.accept(&[submission("new"), again]).await.unwrap();
            assert_eq!(answers, [Acceptance::Full, Acceptance::AcceptedBefore(keyed.job.id)]);
            assert_eq!(queue.accept(&[submission("new")]).await.unwrap(), [Acceptance::Full]);
            assert_eq!(before.accept(&all).await.unwrap(), vec![Acceptance::Accepted; 21], "the same call again");
            assert_eq!(ledger(&queue).await, expected);

            let mut waiting = None;
            for Submission { job, .. } in &all {
                if queue.job_state(job.id).await.unwrap() == Some(JobState::Queued) {
                    waiting = Some(job.id);
                }
            }
            let waiting = waiting.unwrap();

            // Every way in which a job leaves, or moves.
            assert_eq!(before.fail(&failing[0], "bad", Duration::ZERO).await.unwrap(), Failure::Dead);
            before.extend(&held).await.unwrap();
            before.release(&held[2..]).await.unwrap();
            before.release(&failing[1..]).await.unwrap();
            queue.retract(letters[0].id, false).await.unwrap();
            queue.retract(waiting, false).await.unwrap();
            queue.retract(job("learned before").id, true).await.unwrap();
            assert!(queue.retry_dead(letters[1].id).await.unwrap());
            complete(&before, &held[..2]).await;
            while let leases @ [_, ..] = &*queue.lease(100, Duration::ZERO).await.unwrap() {
                complete(&queue, leases).await;
            }
            let end = ledger(&queue).await;
            // One of the retractions is of a datum that another queue learned.
            assert_eq!((end.queued, end.processing, end.dead, end.retracted), (0, 0, 1, 3), "{end:?}");
            assert!(end.balances(), "{end:?}");
            assert!(queue.reconcile(&end, end.learned + 2, end.retracted).await.unwrap());
            assert_eq!(ledger(&queue).await.learned, end.learned + 2);
        }
    }
}
