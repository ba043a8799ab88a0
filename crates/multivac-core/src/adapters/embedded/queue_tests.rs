#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use rusqlite::Connection;

use super::super::Embedded;
use super::super::tests::submission;
use super::*;
use crate::queue::IdempotencyKey;

const LEASE: Duration = Duration::from_millis(60);

fn queue(max_attempts: u32, max_queued: u64) -> (tempfile::TempDir, Embedded, Arc<dyn QueueAdmin>) {
    let dir = tempfile::tempdir().unwrap();
    let embedded = Embedded::open(
        dir.path(),
        QueueSettings { lease: LEASE, max_attempts, max_queued, ..QueueSettings::default() },
    )
    .unwrap();
    let queue = embedded.queue();
    (dir, embedded, queue)
}

/// The ledger as the rows themselves have it; `accepted` and the counts of what is gone are not compared.
fn counts_of_rows(path: &std::path::Path) -> (u64, u64, u64) {
    let connection = Connection::open(path).unwrap();
    let count = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, u32>(0)).map(u64::from).unwrap();
    let processing = count("SELECT COUNT(*) FROM attempt WHERE due_ms >= 0");
    (count("SELECT COUNT(*) FROM job") - processing, processing, count("SELECT COUNT(*) FROM dead"))
}

#[tokio::test]
async fn a_job_whose_lease_runs_out_comes_again_without_polling_and_is_dead_in_the_end() {
    let (_dir, _embedded, queue) = queue(2, 9);
    let job = submission("poison");
    queue.accept(std::slice::from_ref(&job)).await.unwrap();
    for attempt in 1..=2 {
        let leases = queue.lease(9, Duration::from_secs(5)).await.unwrap();
        assert_eq!(leases.iter().map(|lease| lease.attempt).collect::<Vec<_>>(), [attempt]);
    }
    let exhausted = queue.lease(9, Duration::from_secs(5)).await.unwrap();
    assert_eq!(exhausted.iter().map(|lease| (lease.attempt, lease.exhausted)).collect::<Vec<_>>(), [(2, true)]);
    assert_eq!(queue.fail(&exhausted[0], "nobody has it", Duration::ZERO).await.unwrap(), Failure::Dead);
    assert_eq!(queue.job_state(job.job.id).await.unwrap(), Some(JobState::Dead));
    let letters = queue.dead_letters(None, 9).await.unwrap();
    assert_eq!((letters.len(), letters[0].id, letters[0].attempts), (1, job.job.id, 2));
    assert_eq!(letters[0].error, "nobody has it");
    assert!(queue.retry_dead(job.job.id).await.unwrap());
    assert_eq!(queue.lease(9, Duration::ZERO).await.unwrap()[0].attempt, 1);
}

#[tokio::test]
async fn a_stale_holder_changes_nothing_but_may_complete_once() {
    let (_dir, _embedded, queue) = queue(5, 9);
    queue.accept(&[submission("slow")]).await.unwrap();
    let stale = queue.lease(1, Duration::ZERO).await.unwrap();
    let fresh = queue.lease(1, 4 * LEASE).await.unwrap();
    queue.release(&stale).await.unwrap();
    assert_eq!(queue.fail(&stale[0], "late", Duration::ZERO).await.unwrap(), Failure::Retried);
    assert!(queue.lease(1, Duration::ZERO).await.unwrap().is_empty(), "it is still leased");
    for lease in [&stale[0], &fresh[0], &stale[0]] {
        queue.complete(&[(lease.clone(), Outcome::Learned)]).await.unwrap();
    }
    assert_eq!(queue.ledger().await.unwrap(), Ledger { accepted: 1, learned: 1, ..Ledger::default() });
}

#[tokio::test]
async fn a_caller_that_stops_waiting_for_a_lease_takes_no_job_along() {
    let dir = tempfile::tempdir().unwrap();
    // With leases that do not run out while this test does.
    let queue = Embedded::open(dir.path(), QueueSettings::default()).unwrap().queue();
    for n in 0..200 {
        queue.accept(&[submission("x")]).await.unwrap();
        let lease = queue.lease(1, Duration::from_secs(1));
        if let Ok(leases) = tokio::time::timeout(Duration::from_micros(10 * n), lease).await {
            queue.complete(&[(leases.unwrap().remove(0), Outcome::Learned)]).await.unwrap();
        }
    }
    while !queue.ledger().await.unwrap().is_quiet() {
        let left = queue.lease(1000, Duration::from_secs(1)).await.unwrap();
        assert!(!left.is_empty(), "one was taken along");
        assert!(left.iter().all(|lease| lease.attempt == 1), "no attempt was counted that was not made");
        let finished: Vec<_> = left.into_iter().map(|lease| (lease, Outcome::Learned)).collect();
        queue.complete(&finished).await.unwrap();
    }
    assert_eq!(queue.ledger().await.unwrap(), Ledger { accepted: 200, learned: 200, ..Ledger::default() });
}

#[tokio::test]
async fn an_undelivered_lease_is_released() {
    let (_dir, embedded, queue) = queue(5, 9);
    queue.accept(&[submission("x")]).await.unwrap();
    let leases = queue.lease(1, Duration::ZERO).await.unwrap();
    let writer = embedded.queue.writer().clone();
    drop(Undelivered { leases, writer });
    assert_eq!(queue.lease(1, Duration::ZERO).await.unwrap()[0].attempt, 1);
}

#[tokio::test]
async fn one_lease_is_bounded_in_text_and_goes_on_with_the_next() {
    let (_dir, _embedded, queue) = queue(5, 9);
    let jobs = [submission(&"x".repeat(9 << 20)), submission(&"x".repeat(5 << 20)), submission(&"x".repeat(4 << 20))];
    queue.accept(&jobs).await.unwrap();
    for job in &jobs {
        let leases = queue.lease(9, Duration::ZERO).await.unwrap();
        assert_eq!(leases.iter().map(|lease| lease.job.id).collect::<Vec<_>>(), [job.job.id]);
        queue.complete(&[(leases[0].clone(), Outcome::Learned)]).await.unwrap();
    }
}

#[tokio::test]
async fn keys_are_forgotten_after_their_time_and_not_before() {
    let (_dir, embedded, queue) = queue(5, 99);
    let keyed = |key| Submission { idempotency_key: Some(IdempotencyKey::anyones([key; 16])), ..submission("x") };
    let (first, other) = (keyed(1), keyed(1));
    let answers = queue.accept(&[first.clone(), other]).await.unwrap();
    assert_eq!(answers, [Acceptance::Accepted, Acceptance::AcceptedBefore(first.job.id)]);
    let expire = |context: &WriteContext<'_>| context.connection.execute("UPDATE idempotency SET expires_at = 1", []);
    embedded.queue.writer().write(0, expire).await.unwrap();
    assert_eq!(queue.accept(&[keyed(2)]).await.unwrap(), [Acceptance::Accepted]);
    let connection = Connection::open(embedded.path()).unwrap();
    let left: u32 = connection.query_row("SELECT COUNT(*) FROM idempotency", [], |row| row.get(0)).unwrap();
    assert_eq!(left, 1);
    assert_eq!(queue.accept(&[keyed(1)]).await.unwrap(), [Acceptance::Accepted]);
}

#[tokio::test]
async fn what_is_over_the_limit_is_refused_and_what_is_known_is_not() {
    let (_dir, _embedded, queue) = queue(5, 2);
    let batch = [submission("a"), submission("b"), submission("c")];
    let answers = [Acceptance::Accepted, Acceptance::Accepted, Acceptance::Full];
    assert_eq!(queue.accept(&batch).await.unwrap(), answers);
    assert_eq!(queue.accept(&batch).await.unwrap(), answers);
    assert_eq!(queue.ledger().await.unwrap(), Ledger { accepted: 2, queued: 2, ..Ledger::default() });
}

#[tokio::test]
async fn a_retraction_is_entered_once_whatever_comes_between() {
    let (_dir, _embedded, queue) = queue(1, 9);
    let retracted = |n| Ledger { accepted: n, retracted: n, ..Ledger::default() };
    // While it is processed.
    queue.accept(&[submission("a")]).await.unwrap();
    let lease = queue.lease(1, Duration::ZERO).await.unwrap().remove(0);
    queue.retract(lease.job.id, true).await.unwrap();
    queue.complete(&[(lease.clone(), Outcome::Learned)]).await.unwrap();
    queue.retract(lease.job.id, true).await.unwrap();
    assert_eq!(queue.ledger().await.unwrap(), retracted(1));
    // After it was learned.
    queue.accept(&[submission("b")]).await.unwrap();
    let lease = queue.lease(1, Duration::ZERO).await.unwrap().remove(0);
    queue.complete(&[(lease.clone(), Outcome::Learned)]).await.unwrap();
    queue.retract(lease.job.id, false).await.unwrap();
    queue.retract(lease.job.id, true).await.unwrap();
    queue.retract(lease.job.id, true).await.unwrap();
    assert_eq!(queue.ledger().await.unwrap(), retracted(2));
    // When it fails for good after it was retracted, and when it was dead before.
    for early in [true, false] {
        queue.accept(&[submission("c")]).await.unwrap();
        let lease = queue.lease(1, Duration::ZERO).await.unwrap().remove(0);
        if early {
            queue.retract(lease.job.id, false).await.unwrap();
        }
        assert_eq!(queue.fail(&lease, "no", Duration::ZERO).await.unwrap(), Failure::Dead);
        queue.retract(lease.job.id, false).await.unwrap();
        assert_eq!(queue.job_state(lease.job.id).await.unwrap(), None);
    }
    assert_eq!(queue.ledger().await.unwrap(), retracted(4));
}

#[derive(Debug, Clone)]
enum Call {
    Accept(usize),
    Lease(usize),
    Complete(usize, bool),
    Fail(usize),
    Release(usize),
    Retract(usize, bool),
    RetryDead(usize),
    Reconcile(u64, u64),
    Reopen,
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let any_index = 0..1000_usize;
    let call = prop_oneof![
        4 => (1..4_usize).prop_map(Call::Accept),
        4 => (1..4_usize).prop_map(Call::Lease),
        3 => (any_index.clone(), any::<bool>()).prop_map(|(n, learned)| Call::Complete(n, learned)),
        3 => any_index.clone().prop_map(Call::Fail),
        2 => any_index.clone().prop_map(Call::Release),
        2 => (any_index.clone(), any::<bool>()).prop_map(|(n, learned)| Call::Retract(n, learned)),
        2 => any_index.prop_map(Call::RetryDead),
        1 => (0..5_u64, 0..5_u64).prop_map(|(learned, retracted)| Call::Reconcile(learned, retracted)),
        1 => Just(Call::Reopen),
    ];
    proptest::collection::vec(call, 1..60)
}

async fn run(calls: Vec<Call>) {
    let (dir, mut embedded, mut queue) = queue(2, 20);
    let (mut ids, mut leases) = (Vec::new(), Vec::new());
    for call in calls {
        let lease = |n: usize| leases.get(n % leases.len().max(1)).cloned();
        let id = |n: usize| ids.get(n % ids.len().max(1)).copied();
        match call {
            Call::Accept(n) => {
                let new: Vec<_> = (0..n).map(|_| submission("x")).collect();
                queue.accept(&new).await.unwrap();
                ids.extend(new.iter().map(|submission| submission.job.id));
            }
            Call::Lease(n) => leases.extend(queue.lease(n, Duration::ZERO).await.unwrap()),
            Call::Complete(n, learned) => {
                let outcome = if learned { Outcome::Learned } else { Outcome::Retracted };
                let finished: Vec<_> = lease(n).into_iter().map(|lease| (lease, outcome)).collect();
                queue.complete(&finished).await.unwrap();
            }
            Call::Fail(n) => {
                if let Some(lease) = lease(n) {
                    queue.fail(&lease, "no", Duration::ZERO).await.unwrap();
                }
            }
            Call::Release(n) => queue.release(lease(n).as_slice()).await.unwrap(),
            Call::Retract(n, learned) => {
                if let Some(id) = id(n) {
                    queue.retract(id, learned).await.unwrap();
                }
            }
            Call::RetryDead(n) => {
                if let Some(id) = id(n) {
                    queue.retry_dead(id).await.unwrap();
                }
            }
            Call::Reconcile(learned, retracted) => {
                let seen = queue.ledger().await.unwrap();
                let reconciled = queue.reconcile(&seen, learned, retracted).await.unwrap();
                assert_eq!(reconciled, learned + retracted >= seen.learned + seen.retracted);
            }
            Call::Reopen => {
                drop((embedded, queue));
                let settings =
                    QueueSettings { lease: LEASE, max_attempts: 2, max_queued: 20, ..QueueSettings::default() };
                embedded = Embedded::open(dir.path(), settings).unwrap();
                queue = embedded.queue();
            }
        }
        let ledger = queue.ledger().await.unwrap();
        assert!(ledger.balances(), "{ledger:?}");
        assert_eq!((ledger.queued, ledger.processing, ledger.dead), counts_of_rows(embedded.path()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn the_ledger_is_what_the_tables_hold_after_any_walk(calls in calls()) {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(run(calls));
    }
}
