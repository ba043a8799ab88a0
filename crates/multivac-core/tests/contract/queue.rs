//! What every [`Queue`] owes.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use deadpool_redis::redis::cmd;
use fastrand::Rng;
use futures_util::future::join_all;
use multivac_core::accept::{AcceptRequest, Acceptor};
use multivac_core::datum::{Datum, DatumId, Timestamp};
use multivac_core::dead_letters::retry_all;
use multivac_core::queue::{
    Acceptance, Failure, IdempotencyKey, Job, JobState, Lease, Ledger, Outcome, Partition, QueueAdmin, QueueError,
    QueueSettings, Submission,
};
use multivac_core::runtime::supervise::Supervisor;
use multivac_testkit::proxy::Proxy;
use multivac_testkit::sample::{job, submission, submission_of};
use secrecy::ExposeSecret;
use tokio_util::sync::CancellationToken;

use crate::backends::{self, Backend};

/// Expands all cases for one backend.
macro_rules! contract {
    ($backend:ident: $make:expr) => {
        contract! { $backend: $make =>
            jobs_come_out_byte_for_byte,
            a_batch_comes_out_in_its_order,
            a_lease_brings_a_bounded_amount_of_text,
            a_waiting_lease_wakes_when_a_job_is_accepted,
            a_waiting_lease_wakes_when_a_job_is_released,
            a_wait_that_is_cut_off_loses_no_job,
            a_lease_hides_a_job_from_other_consumers,
            a_lease_that_ran_out_passes_to_one_other_consumer,
            a_job_counts_once_whoever_completes_it,
            a_released_job_comes_at_once_and_its_attempt_does_not_count,
            an_extended_lease_does_not_run_out,
            extending_takes_nothing_from_the_next_holder,
            a_failed_job_comes_again_and_is_a_dead_letter_after_its_last_attempt,
            a_job_that_is_always_abandoned_is_exhausted,
            the_fewer_attempts_are_left_the_fewer_jobs_come_together,
            dead_letters_are_listed_in_pages_and_retried,
            pages_of_dead_letters_go_on_where_they_ended_though_the_last_is_gone,
            all_dead_letters_are_retried_once_each_though_they_die_again,
            a_retraction_enters_the_ledger_once_wherever_the_job_stands,
            a_retracted_job_that_uses_up_its_attempts_is_no_dead_letter,
            an_idempotency_key_is_one_datum,
            an_idempotency_key_is_of_one_text_and_of_one_user,
            accepting_again_adds_nothing,
            a_full_queue_refuses_and_adds_nothing,
            a_queue_full_of_text_refuses_and_adds_nothing,
            what_is_held_and_what_has_left_is_reported,
            a_job_is_found_where_it_stands,
            whoever_asks_for_jobs_is_listed_with_its_version,
            reconciling_brings_the_ledger_up_to_the_store_and_never_down,
            the_ledger_follows_a_random_walk,
        }
    };
    ($backend:ident: $make:expr => $($case:ident,)*) => {
        mod $backend {
            $(
                #[tokio::test]
                async fn $case() {
                    crate::backends::run($make, super::$case).await;
                }
            )*
        }
    };
}

contract!(redis: crate::backends::redis(1));
contract!(redis_in_3_partitions: crate::backends::redis(3));
contract!(embedded: crate::backends::embedded());

/// Redis came back empty, or without its group: nothing is restarted, and work resumes.
#[tokio::test]
async fn redis_may_lose_its_group_and_its_stream() {
    let Some(redis) = backends::redis(1) else { return };
    let raw = redis.clone();
    backends::run(Some(redis), async move |backend| {
        let stream = format!("{}:{{0}}:stream", raw.0.namespace);
        let queue = backend.queue(long_lease()).await;
        let job = accept(&queue, "survives its group").await;
        raw.command(cmd("XGROUP").arg("DESTROY").arg(&stream).arg("workers")).await;
        let leases = lease(&queue, 1).await;
        assert_eq!(leases[0].job, job);
        complete(&queue, &leases).await;

        let waiting = tokio::spawn({
            let queue = Arc::clone(&queue);
            async move { lease(&queue, 1).await }
        });
        raw.command(cmd("DEL").arg(&stream)).await;
        let job = accept(&queue, "after the loss").await;
        let leases = waiting.await.unwrap();
        assert_eq!(leases[0].job, job);
        complete(&queue, &leases).await;
        assert_eq!(ledger(&queue).await.learned, 2);
    })
    .await;
}

/// Clients of Redis may repeat a call when a connection breaks, and the adapter does.
#[tokio::test]
async fn a_call_of_accept_that_is_repeated_after_its_jobs_are_finished_adds_nothing_to_redis() {
    for partitions in [1, 3] {
        backends::run(backends::redis(partitions), async |backend| {
            let keyed =
                |key: u8| Submission { job: job("keyed"), idempotency_key: Some(IdempotencyKey::anyones([key; 16])) };
            let queue = backend.queue(QueueSettings { max_queued: 2 * backend.partitions(), ..long_lease() }).await;
            let batch = [keyed(1), keyed(1), keyed(1), submission("one"), submission("two")];
            let first = queue.accept(&batch).await.unwrap();
            let leases = lease(&queue, first.iter().filter(|answer| **answer == Acceptance::Accepted).count()).await;
            complete(&queue, &leases).await;
            let before = ledger(&queue).await;
            assert_eq!(queue.accept(&batch).await.unwrap(), first);
            assert_eq!(ledger(&queue).await, before);
        })
        .await;
    }
}

/// A call whose reply is lost is repeated, so that a client gets no error for a datum that was accepted and feeds it twice.
#[tokio::test]
async fn a_call_whose_reply_is_lost_is_repeated() {
    let Some(mut redis) = backends::redis(1) else { return };
    let url = redis.0.urls[0].expose_secret();
    let plain = redis.0.urls.len() == 1 && url.starts_with("redis://") && !url.contains('@');
    assert!(plain, "this test puts a proxy before one plain Redis");
    let server = url.trim_start_matches("redis://").split('/').next().unwrap().to_owned();
    let proxy = Proxy::start_dropping_replies(server, "lost on the way", 2).await;
    redis.0.urls = vec![format!("redis://{}", proxy.address).into()];
    backends::run(Some(redis), async |backend| {
        let queue = backend.queue(long_lease()).await;
        // From here on Redis knows the script: the reply that is lost is that of the script, not that it is unknown.
        accept(&queue, "arrives").await;
        let submissions = [submission("lost on the way")];
        let lost = queue.accept(&submissions).await;
        assert!(matches!(lost, Err(QueueError::OutcomeUnknown { .. })), "{lost:?}");
        let acceptor = Acceptor::new(queue.clone(), &Supervisor::new(CancellationToken::new()));
        let datum = Datum::accepted_before("lost on the way again");
        acceptor.accept(AcceptRequest { datum, key: None }).await.unwrap();
        assert_eq!(ledger(&queue).await, Ledger { accepted: 3, queued: 3, ..Ledger::default() });
    })
    .await;
}

/// Leases that do not run out in a test.
pub(crate) fn long_lease() -> QueueSettings {
    QueueSettings { lease: Duration::from_secs(60), ..QueueSettings::default() }
}

fn short_lease(lease_ms: u64) -> QueueSettings {
    QueueSettings { lease: Duration::from_millis(lease_ms), ..QueueSettings::default() }
}

pub(crate) async fn accept(queue: &Arc<dyn QueueAdmin>, text: &str) -> Job {
    accept_all(queue, &[text]).await.remove(0)
}

async fn accept_all(queue: &Arc<dyn QueueAdmin>, texts: &[&str]) -> Vec<Job> {
    let jobs: Vec<Job> = texts.iter().map(|text| job(text)).collect();
    let submissions: Vec<_> = jobs.iter().map(submission_of).collect();
    assert_eq!(queue.accept(&submissions).await.unwrap(), vec![Acceptance::Accepted; jobs.len()]);
    jobs
}

/// Leases exactly so many, within 10 s.
pub(crate) async fn lease(queue: &Arc<dyn QueueAdmin>, count: usize) -> Vec<Lease> {
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut leases = Vec::new();
    while leases.len() < count {
        assert!(Instant::now() < deadline, "only {} of {count} jobs came", leases.len());
        leases.extend(queue.lease(count - leases.len(), Duration::from_millis(500)).await.unwrap());
    }
    leases
}

async fn nothing_to_lease(queue: &Arc<dyn QueueAdmin>) {
    let leases = queue.lease(10, Duration::ZERO).await.unwrap();
    assert!(leases.is_empty(), "{leases:?}");
}

pub(crate) async fn complete(queue: &Arc<dyn QueueAdmin>, leases: &[Lease]) {
    let finished: Vec<_> = leases.iter().map(|lease| (lease.clone(), Outcome::Learned)).collect();
    queue.complete(&finished).await.unwrap();
}

pub(crate) async fn ledger(queue: &Arc<dyn QueueAdmin>) -> Ledger {
    let ledger = queue.ledger().await.unwrap();
    assert!(ledger.balances(), "{ledger:?}");
    ledger
}

/// Waits until the clock has moved on, so that what happens next has a later time.
fn tick() {
    let now = Timestamp::now();
    while Timestamp::now() <= now {
        std::thread::yield_now();
    }
}

async fn jobs_come_out_byte_for_byte(backend: Arc<dyn Backend>) {
    let queue = backend.queue(long_lease()).await;
    let large = "entropy é ".repeat(95_326);
    assert!(large.len() > 1 << 20);
    let texts = ["plain", "with\0NUL\r\n\tand more", "🌌 Ωμέγα \u{feff}", " spaces ", large.as_str()];
    let mut jobs: Vec<Job> = texts.into_iter().map(job).collect();
    jobs[1].trace = Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned());
    let submissions: Vec<_> = jobs.iter().map(submission_of).collect();
    assert_eq!(queue.accept(&submissions).await.unwrap(), vec![Acceptance::Accepted; 5]);
    assert_eq!(ledger(&queue).await, Ledger { accepted: 5, queued: 5, ..Ledger::default() });

    let leases = lease(&queue, 5).await;
    let came: Vec<_> = leases.iter().map(|lease| lease.job.clone()).collect();
    assert!(came == jobs, "the jobs came back changed");
    assert!(leases.iter().all(|lease| lease.attempt == 1));
    assert_eq!(ledger(&queue).await, Ledger { accepted: 5, processing: 5, ..Ledger::default() });

    complete(&queue, &leases).await;
    nothing_to_lease(&queue).await;
    assert_eq!(ledger(&queue).await, Ledger { accepted: 5, learned: 5, ..Ledger::default() });
}

async fn a_batch_comes_out_in_its_order(backend: Arc<dyn Backend>) {
    let queue = backend.queue(long_lease()).await;
    let texts: Vec<String> = (0..1_200).map(|i| format!("number {i}")).collect();
    let jobs = accept_all(&queue, &texts.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let mut came = Vec::new();
    while came.len() < jobs.len() {
        came.extend(queue.lease(500, Duration::ZERO).await.unwrap().into_iter().map(|lease| lease.job));
    }
    assert_eq!(came, jobs);
}

async fn a_lease_brings_a_bounded_amount_of_text(backend: Arc<dyn Backend>) {
    let queue = backend.queue(long_lease()).await;
    let text = "x".repeat(1 << 20);
    accept_all(&queue, &vec![text.as_str(); 20]).await;
    let mut left = 20;
    while left > 0 {
        let leases = queue.lease(100, Duration::from_secs(5)).await.unwrap();
        assert!((1..=12).contains(&leases.len()), "{} MiB came at once", leases.len());
        left -= leases.len();
    }
}

pub(crate) async fn a_waiting_lease_wakes_when_a_job_is_accepted(backend: Arc<dyn Backend>) {
    let queue = backend.queue(long_lease()).await;
    let waker = backend.queue(long_lease()).await;
    let mut waited = Duration::ZERO;
    for _ in 0..10 {
        let waiting = tokio::spawn({
            let queue = Arc::clone(&queue);
            async move { queue.lease(5, Duration::from_secs(20)).await.unwrap() }
        });
        // Time to begin waiting; the test holds without it.
        tokio::time::sleep(Duration::from_millis(30)).await;
        let start = Instant::now();
        let job = accept(&waker, "wake up").await;
        let leases = waiting.await.unwrap();
        waited += start.elapsed();
        assert_eq!(leases[0].job, job);
        complete(&queue, &leases).await;
    }
    assert!(waited < Duration::from_secs(2), "ten jobs waited {waited:?}: the consumer polls");
}

async fn a_waiting_lease_wakes_when_a_job_is_released(backend: Arc<dyn Backend>) {
    let (a, b) = (backend.queue(long_lease()).await, backend.queue(long_lease()).await);
    let job = accept(&a, "passed on").await;
    let leases = lease(&a, 1).await;
    let waiting = tokio::spawn(async move { b.lease(1, Duration::from_secs(20)).await.unwrap() });
    a.release(&leases).await.unwrap();
    assert_eq!(waiting.await.unwrap()[0].job, job);
}

async fn a_wait_that_is_cut_off_loses_no_job(backend: Arc<dyn Backend>) {
    let queue = backend.queue(short_lease(300)).await;
    let mut accepted = HashSet::new();
    for i in 0..20 {
        let waiting = tokio::spawn({
            let queue = Arc::clone(&queue);
            async move { queue.lease(1, Duration::from_secs(20)).await.unwrap() }
        });
        tokio::time::sleep(Duration::from_millis(i)).await;
        accepted.insert(accept(&queue, "in the way").await.id);
        waiting.abort();
        if let Ok(leases) = waiting.await {
            complete(&queue, &leases).await;
        }
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    while ledger(&queue).await.learned < 20 {
        assert!(Instant::now() < deadline, "{:?}", ledger(&queue).await);
        let leases = queue.lease(20, Duration::from_millis(100)).await.unwrap();
        assert!(leases.iter().all(|lease| accepted.contains(&lease.job.id)));
        complete(&queue, &leases).await;
    }
}

async fn a_lease_hides_a_job_from_other_consumers(backend: Arc<dyn Backend>) {
    let (a, b) = (backend.queue(long_lease()).await, backend.queue(long_lease()).await);
    let jobs = accept_all(&a, &["first", "second"]).await;
    let leases = lease(&a, 1).await;
    assert_eq!(leases[0].job, jobs[0]);
    let others = b.lease(10, Duration::ZERO).await.unwrap();
    assert_eq!(others.iter().map(|lease| lease.job.id).collect::<Vec<_>>(), [jobs[1].id]);
    nothing_to_lease(&a).await;
    nothing_to_lease(&b).await;
}

pub(crate) async fn a_lease_that_ran_out_passes_to_one_other_consumer(backend: Arc<dyn Backend>) {
    let settings = short_lease(1_000);
    let (a, b) = (backend.queue(settings.clone()).await, backend.queue(settings.clone()).await);
    let c = backend.queue(settings).await;
    let job = accept(&a, "abandoned").await;
    assert_eq!(lease(&a, 1).await[0].attempt, 1);
    let start = Instant::now();
    let (by_b, by_c) = loop {
        let both = tokio::join!(b.lease(1, Duration::from_millis(100)), c.lease(1, Duration::from_millis(100)));
        let (by_b, by_c) = (both.0.unwrap(), both.1.unwrap());
        if by_b.len() + by_c.len() > 0 {
            break (by_b, by_c);
        }
        assert!(start.elapsed() < Duration::from_secs(10), "the lease did not run out");
    };
    assert!(start.elapsed() >= Duration::from_millis(900), "the lease ran out too early");
    assert_eq!(by_b.len() + by_c.len(), 1, "two consumers have the job");
    let passed = by_b.into_iter().chain(by_c).next().unwrap();
    assert_eq!((passed.job, passed.attempt), (job, 2));
}

async fn a_job_counts_once_whoever_completes_it(backend: Arc<dyn Backend>) {
    let (a, b) = (backend.queue(short_lease(100)).await, backend.queue(short_lease(100)).await);
    accept(&a, "finished twice").await;
    let first = lease(&a, 1).await;
    let second = lease(&b, 1).await;
    assert_eq!(second[0].attempt, 2);
    for _ in 0..2 {
        complete(&a, &first).await;
        complete(&b, &second).await;
        assert_eq!(ledger(&a).await, Ledger { accepted: 1, learned: 1, ..Ledger::default() });
    }
    nothing_to_lease(&a).await;
}

async fn a_released_job_comes_at_once_and_its_attempt_does_not_count(backend: Arc<dyn Backend>) {
    let (a, b) = (backend.queue(long_lease()).await, backend.queue(long_lease()).await);
    let job = accept(&a, "not now").await;
    let first = lease(&a, 1).await;
    for _ in 0..2 {
        a.release(&first).await.unwrap();
        assert_eq!(ledger(&a).await, Ledger { accepted: 1, queued: 1, ..Ledger::default() });
    }
    let second = b.lease(5, Duration::ZERO).await.unwrap();
    assert_eq!(second.len(), 1);
    assert_eq!((&second[0].job, second[0].attempt), (&job, 1));
    a.release(&first).await.unwrap();
    assert_eq!(ledger(&a).await, Ledger { accepted: 1, processing: 1, ..Ledger::default() });
    complete(&b, &second).await;
    assert_eq!(ledger(&a).await, Ledger { accepted: 1, learned: 1, ..Ledger::default() });
}

async fn an_extended_lease_does_not_run_out(backend: Arc<dyn Backend>) {
    let (a, b) = (backend.queue(short_lease(1_000)).await, backend.queue(short_lease(1_000)).await);
    accept(&a, "a long one").await;
    let leases = lease(&a, 1).await;
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(2_500) {
        a.extend(&leases).await.unwrap();
        assert!(b.lease(1, Duration::from_millis(200)).await.unwrap().is_empty());
    }
    complete(&a, &leases).await;
    assert_eq!(ledger(&a).await.learned, 1);
}

async fn extending_takes_nothing_from_the_next_holder(backend: Arc<dyn Backend>) {
    let settings = QueueSettings { max_attempts: 2, ..short_lease(500) };
    let (a, b) = (backend.queue(settings.clone()).await, backend.queue(settings).await);
    accept(&a, "taken over").await;
    let first = lease(&a, 1).await;
    let second = lease(&b, 1).await;
    a.extend(&first).await.unwrap();
    a.release(&first).await.unwrap();
    assert_eq!(a.fail(&first[0], "too late", Duration::ZERO).await.unwrap(), Failure::Retried);
    assert_eq!(ledger(&a).await.processing, 1);
    assert_eq!(b.fail(&second[0], "in time", Duration::ZERO).await.unwrap(), Failure::Dead);
}

async fn a_failed_job_comes_again_and_is_a_dead_letter_after_its_last_attempt(backend: Arc<dyn Backend>) {
    let queue = backend.queue(QueueSettings { max_attempts: 2, ..long_lease() }).await;
    let job = accept(&queue, "unprocessable \0 ☠").await;
    let first = lease(&queue, 1).await.remove(0);
    let delay = Duration::from_millis(400);
    let start = Instant::now();
    assert_eq!(queue.fail(&first, "once", delay).await.unwrap(), Failure::Retried);
    assert_eq!(queue.job_state(job.id).await.unwrap(), Some(JobState::Processing));

    let second = lease(&queue, 1).await.remove(0);
    assert!(start.elapsed() >= delay - Duration::from_millis(5), "it came after {:?}", start.elapsed());
    assert_eq!((&second.job, second.attempt), (&job, 2));
    for _ in 0..2 {
        assert_eq!(queue.fail(&second, "twice: é", Duration::ZERO).await.unwrap(), Failure::Dead);
        assert_eq!(ledger(&queue).await, Ledger { accepted: 1, dead: 1, ..Ledger::default() });
    }
    let letters = queue.dead_letters(None, 10).await.unwrap();
    assert_eq!(letters.len(), 1);
    assert_eq!((letters[0].id, letters[0].attempts, letters[0].error.as_str()), (job.id, 2, "twice: é"));
    let size_bytes = job.datum.as_str().len() as u64;
    assert_eq!((letters[0].received_at, letters[0].size_bytes), (job.received_at, size_bytes));
    assert_eq!(queue.dead_letter(job.id).await.unwrap().unwrap().job, job);
    assert!(letters[0].died_at >= job.received_at && letters[0].died_at <= Timestamp::now());
    nothing_to_lease(&queue).await;
    // Another worker has stored it after all.
    for _ in 0..2 {
        complete(&queue, std::slice::from_ref(&second)).await;
        assert_eq!(ledger(&queue).await, Ledger { accepted: 1, learned: 1, ..Ledger::default() });
    }
    assert_eq!(queue.dead_letters(None, 10).await.unwrap(), []);
    assert_eq!(queue.job_state(job.id).await.unwrap(), None);
}

async fn a_job_that_is_always_abandoned_is_exhausted(backend: Arc<dyn Backend>) {
    let queue = backend.queue(QueueSettings { max_attempts: 3, ..short_lease(50) }).await;
    let job = accept(&queue, "kills its worker").await;
    for (attempt, exhausted) in [(1, false), (2, false), (3, false), (3, true), (3, true)] {
        let leases = lease(&queue, 1).await;
        assert_eq!((leases[0].attempt, leases[0].exhausted), (attempt, exhausted));
    }
    let last = lease(&queue, 1).await;
    queue.release(&last).await.unwrap();
    let last = lease(&queue, 1).await;
    assert!(last[0].exhausted, "it may be tried again");
    assert_eq!(queue.fail(&last[0], "it was not stored", Duration::ZERO).await.unwrap(), Failure::Dead);
    let letters = queue.dead_letters(None, 10).await.unwrap();
    assert_eq!((letters[0].id, letters[0].attempts), (job.id, 3));
    assert_eq!(letters[0].error, "it was not stored");
    assert_eq!(ledger(&queue).await, Ledger { accepted: 1, dead: 1, ..Ledger::default() });
}

/// A job that kills its worker every time costs few other jobs an attempt.
async fn the_fewer_attempts_are_left_the_fewer_jobs_come_together(backend: Arc<dyn Backend>) {
    let queue = backend.queue(QueueSettings { max_attempts: 4, ..short_lease(50) }).await;
    accept_all(&queue, &vec!["one of many"; 250]).await;
    let most = [250, 100, 10, 1];
    let mut seen = [0; 4];
    let deadline = Instant::now() + Duration::from_secs(20);
    while seen[3] < 20 {
        assert!(Instant::now() < deadline, "{seen:?}");
        // Never completed: each comes again.
        let leases = queue.lease(1_000, Duration::from_millis(100)).await.unwrap();
        for lease in leases.iter().filter(|lease| !lease.exhausted) {
            let attempt = lease.attempt as usize - 1;
            assert!(leases.len() <= most[attempt], "{} come with one on attempt {}", leases.len(), attempt + 1);
            seen[attempt] += 1;
        }
        for lease in leases.iter().filter(|lease| lease.exhausted) {
            queue.fail(lease, "it was not stored", Duration::ZERO).await.unwrap();
        }
    }
    assert!(seen[..3].iter().all(|seen| *seen > 0), "{seen:?}");
}

pub(crate) async fn dead_letters_are_listed_in_pages_and_retried(backend: Arc<dyn Backend>) {
    let queue = backend.queue(QueueSettings { max_attempts: 1, ..long_lease() }).await;
    let mut ids = Vec::new();
    for i in 0..5 {
        tick();
        ids.push(accept(&queue, &format!("number {i}")).await.id);
        let leases = lease(&queue, 1).await;
        assert_eq!(queue.fail(&leases[0], "bad", Duration::ZERO).await.unwrap(), Failure::Dead);
    }
    let page = async |after, max| -> Vec<DatumId> {
        let after = match after {
            Some(id) => queue.dead_letter_place(id).await.unwrap(),
            None => None,
        };
        queue.dead_letters(after, max).await.unwrap().iter().map(|letter| letter.id).collect()
    };
    assert_eq!(page(None, 10).await, ids);
    assert_eq!(page(None, 2).await, ids[..2]);
    assert_eq!(page(Some(ids[1]), 2).await, ids[2..4]);
    assert_eq!(page(Some(ids[3]), 2).await, ids[4..]);
    assert_eq!(page(Some(ids[4]), 2).await, []);
    let letter = queue.dead_letter(ids[2]).await.unwrap().unwrap();
    assert_eq!((letter.job.id, letter.job.datum.as_str(), letter.error.as_str()), (ids[2], "number 2", "bad"));
    assert_eq!(queue.dead_letter(DatumId::generate()).await.unwrap(), None);

    assert!(queue.retry_dead(ids[2]).await.unwrap());
    assert!(!queue.retry_dead(ids[2]).await.unwrap());
    assert_eq!(queue.dead_letter(ids[2]).await.unwrap(), None);
    assert!(!queue.retry_dead(DatumId::generate()).await.unwrap());
    assert_eq!(ledger(&queue).await, Ledger { accepted: 5, queued: 1, dead: 4, ..Ledger::default() });
    let again = lease(&queue, 1).await;
    assert_eq!((again[0].job.id, again[0].attempt), (ids[2], 1));
    assert_eq!(again[0].job.datum.as_str(), "number 2");
    complete(&queue, &again).await;
    queue.retract(ids[0], false).await.unwrap();
    assert_eq!(page(None, 10).await, [ids[1], ids[3], ids[4]]);
    assert_eq!(ledger(&queue).await, Ledger { accepted: 5, learned: 1, retracted: 1, dead: 3, ..Ledger::default() });
}

pub(crate) async fn whoever_asks_for_jobs_is_listed_with_its_version(backend: Arc<dyn Backend>) {
    let one = backend.queue(long_lease()).await;
    accept(&one, "it is not leased yet").await;
    assert_eq!(one.consumers().await.unwrap(), []);
    // With a job, and without one.
    assert_eq!(lease(&one, 1).await.len(), 1);
    let two = backend.queue(long_lease()).await;
    nothing_to_lease(&two).await;
    let listed = two.consumers().await.unwrap();
    assert_eq!(listed.len(), if Arc::ptr_eq(&one, &two) { 1 } else { 2 }, "{listed:?}");
    for consumer in &listed {
        assert_eq!(consumer.version.as_deref(), Some(env!("CARGO_PKG_VERSION")));
        assert!(!consumer.name.is_empty() && consumer.idle < Duration::from_secs(5), "{consumer:?}");
    }
    let names: HashSet<&str> = listed.iter().map(|consumer| consumer.name.as_str()).collect();
    assert_eq!(names.len(), listed.len());
}

/// Accepts this many jobs, and has each fail its only attempt; several at a time, so that they die at the same millisecond.
async fn dead_letter_many(queue: &Arc<dyn QueueAdmin>, count: usize) -> HashSet<DatumId> {
    let jobs = accept_all(queue, &vec!["it cannot be learned"; count]).await;
    for _ in 0..count.div_ceil(10) {
        let leases = lease(queue, count.min(10)).await;
        let failing = leases.iter().map(|lease| queue.fail(lease, "bad", Duration::ZERO));
        assert!(join_all(failing).await.into_iter().all(|failed| failed.unwrap() == Failure::Dead));
    }
    jobs.iter().map(|job| job.id).collect()
}

pub(crate) async fn pages_of_dead_letters_go_on_where_they_ended_though_the_last_is_gone(backend: Arc<dyn Backend>) {
    let queue = backend.queue(QueueSettings { max_attempts: 1, ..long_lease() }).await;
    let ids = dead_letter_many(&queue, 50).await;
    let whole: Vec<DatumId> = queue.dead_letters(None, 100).await.unwrap().iter().map(|letter| letter.id).collect();
    assert_eq!((whole.len(), whole.iter().copied().collect::<HashSet<_>>()), (50, ids));
    let (mut listed, mut after) = (Vec::new(), None);
    loop {
        let page = queue.dead_letters(after, 7).await.unwrap();
        let Some(last) = page.last() else { break };
        if listed.len() % 2 == 0 {
            assert!(queue.retry_dead(last.id).await.unwrap());
        } else {
            queue.retract(last.id, false).await.unwrap();
        }
        listed.extend(page.iter().map(|letter| letter.id));
        after = queue.dead_letter_place(last.id).await.unwrap();
        assert_eq!(after.as_ref(), Some(&last.place));
    }
    assert_eq!(listed, whole);
}

pub(crate) async fn all_dead_letters_are_retried_once_each_though_they_die_again(backend: Arc<dyn Backend>) {
    let queue = backend.queue(QueueSettings { max_attempts: 1, ..long_lease() }).await;
    let ids = dead_letter_many(&queue, 250).await;
    let stop = CancellationToken::new();
    let (killing, stopped) = (Arc::clone(&queue), stop.clone());
    let killer = tokio::spawn(async move {
        while !stopped.is_cancelled() {
            for lease in killing.lease(10, Duration::from_millis(50)).await.unwrap() {
                killing.fail(&lease, "bad", Duration::ZERO).await.unwrap();
            }
        }
    });
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    let outcome = retry_all(&*queue, deadline).await;
    assert!(outcome.failed.is_none() && outcome.left.is_none(), "{outcome:?}");
    assert_eq!(outcome.retried, 250);
    stop.cancel();
    killer.await.unwrap();
    let ledger = ledger(&queue).await;
    assert!(ledger.balances() && ledger.queued + ledger.processing + ledger.dead == 250, "{ledger:?}");

    // No time: a page, and it says that there are more.
    for lease in lease(&queue, usize::try_from(ledger.queued).unwrap()).await {
        queue.fail(&lease, "bad", Duration::ZERO).await.unwrap();
    }
    let outcome = retry_all(&*queue, tokio::time::Instant::now()).await;
    assert!(outcome.retried > 0 && outcome.left == Some(250 - outcome.retried), "{outcome:?}");
    let known: HashSet<DatumId> =
        queue.dead_letters(None, 1_000).await.unwrap().iter().map(|letter| letter.id).collect();
    assert!(known.is_subset(&ids) && known.len() as u64 == 250 - outcome.retried, "{outcome:?}");
}

pub(crate) async fn a_retraction_enters_the_ledger_once_wherever_the_job_stands(backend: Arc<dyn Backend>) {
    let queue = backend.queue(QueueSettings { max_attempts: 1, ..long_lease() }).await;
    let twice = async |id, was_learned, expected: Ledger| {
        for _ in 0..2 {
            queue.retract(id, was_learned).await.unwrap();
            assert_eq!(ledger(&queue).await, expected);
        }
    };

    let queued = accept(&queue, "queued").await;
    twice(queued.id, false, Ledger { accepted: 1, queued: 1, ..Ledger::default() }).await;
    let leases = lease(&queue, 1).await;
    complete(&queue, &leases).await;
    twice(queued.id, false, Ledger { accepted: 1, retracted: 1, ..Ledger::default() }).await;

    let processing = accept(&queue, "processing").await;
    let leases = lease(&queue, 1).await;
    twice(processing.id, true, Ledger { accepted: 2, processing: 1, retracted: 1, ..Ledger::default() }).await;
    queue.complete(&[(leases[0].clone(), Outcome::Retracted)]).await.unwrap();
    twice(processing.id, true, Ledger { accepted: 2, retracted: 2, ..Ledger::default() }).await;

    let learned = accept(&queue, "learned").await;
    let leases = lease(&queue, 1).await;
    complete(&queue, &leases).await;
    assert_eq!(ledger(&queue).await, Ledger { accepted: 3, learned: 1, retracted: 2, ..Ledger::default() });
    twice(learned.id, true, Ledger { accepted: 3, retracted: 3, ..Ledger::default() }).await;

    let dead = accept(&queue, "dead").await;
    let leases = lease(&queue, 1).await;
    queue.fail(&leases[0], "bad", Duration::ZERO).await.unwrap();
    twice(dead.id, false, Ledger { accepted: 4, retracted: 4, ..Ledger::default() }).await;
    assert_eq!(queue.dead_letters(None, 10).await.unwrap(), []);
    assert_eq!(queue.job_state(dead.id).await.unwrap(), None);

    // Neither the store nor the queue ever had it.
    twice(DatumId::generate(), false, Ledger { accepted: 4, retracted: 4, ..Ledger::default() }).await;
}

async fn a_retracted_job_that_uses_up_its_attempts_is_no_dead_letter(backend: Arc<dyn Backend>) {
    let queue = backend.queue(QueueSettings { max_attempts: 1, ..long_lease() }).await;
    let job = accept(&queue, "better forgotten").await;
    let leases = lease(&queue, 1).await;
    queue.retract(job.id, false).await.unwrap();
    queue.fail(&leases[0], "bad", Duration::ZERO).await.unwrap();
    assert_eq!(queue.dead_letters(None, 10).await.unwrap(), []);
    assert_eq!(ledger(&queue).await, Ledger { accepted: 1, retracted: 1, ..Ledger::default() });
}

pub(crate) async fn an_idempotency_key_is_one_datum(backend: Arc<dyn Backend>) {
    let queue = backend.queue(long_lease()).await;
    let keyed = |key: u8| Submission { job: job("again"), idempotency_key: Some(IdempotencyKey::anyones([key; 16])) };
    let first = [keyed(1), keyed(2), keyed(1), submission("no key"), keyed(2)];
    let (one, two) = (first[0].job.id, first[1].job.id);
    assert_eq!(
        queue.accept(&first).await.unwrap(),
        [
            Acceptance::Accepted,
            Acceptance::Accepted,
            Acceptance::AcceptedBefore(one),
            Acceptance::Accepted,
            Acceptance::AcceptedBefore(two)
        ]
    );
    let leases = lease(&queue, 3).await;
    complete(&queue, &leases).await;
    // Finished or not: the key stands for its first datum.
    assert_eq!(
        queue.accept(&[keyed(3), keyed(2)]).await.unwrap(),
        [Acceptance::Accepted, Acceptance::AcceptedBefore(two)]
    );
    assert_eq!(ledger(&queue).await, Ledger { accepted: 4, queued: 1, learned: 3, ..Ledger::default() });
}

pub(crate) async fn an_idempotency_key_is_of_one_text_and_of_one_user(backend: Arc<dyn Backend>) {
    let queue = backend.queue(long_lease()).await;
    let keyed = |user: Option<&str>, text: &str| {
        let key = IdempotencyKey::new(user.map(str::as_bytes), "a key", None);
        Submission { job: job(text), idempotency_key: Some(key) }
    };
    // Within a batch as between batches.
    let batch =
        [keyed(None, "x"), keyed(None, "y"), keyed(Some("one"), "y"), keyed(Some("two"), "x"), keyed(None, "x")];
    let ids = batch.each_ref().map(|submission| submission.job.id);
    let accepted = queue.accept(&batch).await.unwrap();
    let (new, other) = (Acceptance::Accepted, Acceptance::KeyOfOtherText);
    assert_eq!(accepted, [new, other, new, new, Acceptance::AcceptedBefore(ids[0])]);
    for (user, text, expected) in [
        (None, "x", Acceptance::AcceptedBefore(ids[0])),
        (None, "y", other),
        (Some("one"), "y", Acceptance::AcceptedBefore(ids[2])),
        (Some("one"), "x", other),
        (Some("two"), "x", Acceptance::AcceptedBefore(ids[3])),
        // Answered once as another text, and still the same.
        (Some("one"), "y", Acceptance::AcceptedBefore(ids[2])),
        (Some("three"), "z", new),
    ] {
        assert_eq!(queue.accept(&[keyed(user, text)]).await.unwrap(), [expected], "{user:?} {text}");
    }
    // At once: one text wins, and each of its calls gets the one id.
    let calls = ["p", "q", "p", "q"].map(|text| (text, Arc::clone(&queue), keyed(Some("four"), text)));
    let calls = calls.map(|(text, queue, submission)| {
        tokio::spawn(async move {
            let answer = queue.accept(std::slice::from_ref(&submission)).await.unwrap()[0];
            (text, submission.job.id, answer)
        })
    });
    let mut answers = Vec::new();
    for call in calls {
        answers.push(call.await.unwrap());
    }
    let (winner, id, _) = *answers.iter().find(|(.., answer)| *answer == new).unwrap();
    for (text, own_id, answer) in answers {
        let expected = match text {
            _ if own_id == id => new,
            text if text == winner => Acceptance::AcceptedBefore(id),
            _ => other,
        };
        assert_eq!(answer, expected, "{text}");
    }
    assert_eq!(ledger(&queue).await, Ledger { accepted: 5, queued: 5, ..Ledger::default() });
}

async fn accepting_again_adds_nothing(backend: Arc<dyn Backend>) {
    let queue = backend.queue(long_lease()).await;
    let batch: Vec<_> = (0..10).map(|i| submission(&format!("number {i}"))).collect();
    for _ in 0..2 {
        assert_eq!(queue.accept(&batch).await.unwrap(), vec![Acceptance::Accepted; 10]);
    }
    assert_eq!(ledger(&queue).await, Ledger { accepted: 10, queued: 10, ..Ledger::default() });
}

async fn a_full_queue_refuses_and_adds_nothing(backend: Arc<dyn Backend>) {
    // A batch stays in one partition, and each holds 3.
    let queue = backend.queue(QueueSettings { max_queued: 3 * backend.partitions(), ..long_lease() }).await;
    let five = || -> Vec<_> { (0..5).map(|i| submission(&format!("number {i}"))).collect() };
    let expected = [[Acceptance::Accepted; 3].as_slice(), &[Acceptance::Full; 2]].concat();
    let batch = five();
    assert_eq!(queue.accept(&batch).await.unwrap(), expected);
    assert_eq!(ledger(&queue).await, Ledger { accepted: 3, queued: 3, ..Ledger::default() });
    assert_eq!(queue.job_state(batch[4].job.id).await.unwrap(), None);

    // What is leased counts as well.
    let leases = lease(&queue, 3).await;
    assert_eq!(queue.accept(&batch).await.unwrap(), expected);
    assert_eq!(ledger(&queue).await, Ledger { accepted: 3, processing: 3, ..Ledger::default() });

    // What is completed makes room.
    complete(&queue, &leases).await;
    assert_eq!(queue.accept(&five()).await.unwrap(), expected);
    assert_eq!(ledger(&queue).await, Ledger { accepted: 6, queued: 3, learned: 3, ..Ledger::default() });
}

pub(crate) async fn a_queue_full_of_text_refuses_and_adds_nothing(backend: Arc<dyn Backend>) {
    // A batch stays in one partition, and each holds 1,000 bytes.
    let max_queued_bytes = 1_000 * backend.partitions();
    let queue = backend.queue(QueueSettings { max_queued_bytes, max_attempts: 1, ..long_lease() }).await;
    let held = async || queue.partitions().await.unwrap().iter().map(|p| p.size_bytes).sum::<u64>();
    // Two bytes a character: it is bytes that count.
    let batch: Vec<_> = [400, 400, 400, 200].map(|size| submission(&"é".repeat(size / 2))).to_vec();
    let expected = [Acceptance::Accepted, Acceptance::Accepted, Acceptance::Full, Acceptance::Accepted];
    for _ in 0..2 {
        assert_eq!(queue.accept(&batch).await.unwrap(), expected);
        assert_eq!(held().await, 1_000);
    }
    assert_eq!(ledger(&queue).await, Ledger { accepted: 3, queued: 3, ..Ledger::default() });
    assert_eq!(queue.job_state(batch[2].job.id).await.unwrap(), None);

    // What is leased counts, what is released counts once, and a dead letter does not count until it is retried.
    let leases = lease(&queue, 3).await;
    assert_eq!(held().await, 1_000);
    queue.release(&leases[1..]).await.unwrap();
    assert_eq!(held().await, 1_000);
    assert_eq!(queue.fail(&leases[0], "bad", Duration::ZERO).await.unwrap(), Failure::Dead);
    assert_eq!(held().await, 600);
    assert!(queue.retry_dead(leases[0].job.id).await.unwrap());
    assert_eq!(held().await, 1_000);
    let leases = lease(&queue, 3).await;
    for _ in 0..2 {
        complete(&queue, &leases).await;
        assert_eq!(held().await, 0);
    }
    let again: Vec<_> = [1_000, 1].map(|size| submission(&"x".repeat(size))).to_vec();
    assert_eq!(queue.accept(&again).await.unwrap(), [Acceptance::Accepted, Acceptance::Full]);
}

async fn what_is_held_and_what_has_left_is_reported(backend: Arc<dyn Backend>) {
    let queue = backend.queue(QueueSettings { max_attempts: 1, ..long_lease() }).await;
    // The partition that holds the batch: the only one that is not empty.
    let changed = async |before: Partition| {
        let partitions = queue.partitions().await.unwrap();
        assert_eq!(partitions.len() as u64, backend.partitions());
        partitions.into_iter().find(|partition| *partition != Partition::default()).unwrap_or(before)
    };
    assert_eq!(changed(Partition::default()).await, Partition::default());
    let jobs = accept_all(&queue, &["four", "six.six", "ten characters"]).await;
    let oldest = Some(jobs[0].received_at);
    let expected = Partition { queued: 3, size_bytes: 25, oldest, ..Partition::default() };
    assert_eq!(changed(expected).await, expected);
    let leases = lease(&queue, 2).await;
    queue.fail(&leases[0], "bad", Duration::ZERO).await.unwrap();
    let oldest = Some(jobs[1].received_at);
    let expected =
        Partition { queued: 1, processing: 1, dead: 1, size_bytes: 21, oldest, drained: 1, drained_bytes: 4 };
    assert_eq!(changed(expected).await, expected);
    complete(&queue, &leases[1..]).await;
    complete(&queue, &lease(&queue, 1).await).await;
    let expected = Partition { dead: 1, drained: 3, drained_bytes: 25, ..Partition::default() };
    assert_eq!(changed(expected).await, expected);
}

async fn a_job_is_found_where_it_stands(backend: Arc<dyn Backend>) {
    let queue = backend.queue(QueueSettings { max_attempts: 2, ..long_lease() }).await;
    assert_eq!(queue.job_state(DatumId::generate()).await.unwrap(), None);
    let id = accept(&queue, "on its way").await.id;
    let find = async || queue.job_state(id).await.unwrap();
    assert_eq!(find().await, Some(JobState::Queued));
    let leases = lease(&queue, 1).await;
    assert_eq!(find().await, Some(JobState::Processing));
    queue.release(&leases).await.unwrap();
    assert_eq!(find().await, Some(JobState::Queued));
    let leases = lease(&queue, 1).await;
    queue.fail(&leases[0], "bad", Duration::ZERO).await.unwrap();
    assert_eq!(find().await, Some(JobState::Processing));
    let leases = lease(&queue, 1).await;
    queue.fail(&leases[0], "bad", Duration::ZERO).await.unwrap();
    assert_eq!(find().await, Some(JobState::Dead));
    assert!(queue.retry_dead(id).await.unwrap());
    assert_eq!(find().await, Some(JobState::Queued));
    let leases = lease(&queue, 1).await;
    complete(&queue, &leases).await;
    assert_eq!(find().await, None);
}

pub(crate) async fn reconciling_brings_the_ledger_up_to_the_store_and_never_down(backend: Arc<dyn Backend>) {
    let queue = backend.queue(long_lease()).await;
    accept_all(&queue, &["one", "two"]).await;
    let leases = lease(&queue, 1).await;
    complete(&queue, &leases).await;
    let seen = ledger(&queue).await;

    assert!(queue.reconcile(&seen, 10, 3).await.unwrap());
    let reconciled = Ledger { accepted: 14, queued: 1, learned: 10, retracted: 3, ..Ledger::default() };
    assert_eq!(ledger(&queue).await, reconciled);
    assert!(!queue.reconcile(&seen, 20, 3).await.unwrap(), "it was reconciled from an outdated ledger");
    // Learned and retracted may be divided differently if their sum stays; a smaller sum would hide a loss.
    assert!(queue.reconcile(&reconciled, 9, 4).await.unwrap());
    let reconciled = Ledger { learned: 9, retracted: 4, ..reconciled };
    assert!(!queue.reconcile(&reconciled, 5, 4).await.unwrap());
    assert_eq!(ledger(&queue).await, reconciled);
    accept(&queue, "three").await;
    assert!(!queue.reconcile(&reconciled, 10, 4).await.unwrap());
}

/// The state of a job in the model.
#[derive(Debug, Clone)]
enum State {
    Queued,
    Leased(Lease),
    Waiting,
    Dead,
    Learned,
    Retracted,
}

#[derive(Debug, Clone)]
struct Modelled {
    state: State,
    used: u32,
    retracted: bool,
}

/// Takes random steps, and compares the ledger and a job with a simple model after each.
pub(crate) async fn the_ledger_follows_a_random_walk(backend: Arc<dyn Backend>) {
    const MAX_ATTEMPTS: u32 = 2;
    let settings = QueueSettings { max_attempts: MAX_ATTEMPTS, ..long_lease() };
    let consumers = [backend.queue(settings.clone()).await, backend.queue(settings).await];
    let mut rng = Rng::with_seed(2061);
    let mut random = move |below: usize| rng.usize(..below);
    let mut model: HashMap<DatumId, Modelled> = HashMap::new();
    let mut ids: Vec<DatumId> = Vec::new();

    for step in 0..600 {
        let consumer = random(2);
        let queue = &consumers[consumer];
        let pick = ids.get(random(ids.len().max(1))).copied();
        let picked = pick.and_then(|id| model.get_mut(&id).map(|job| (id, job)));
        match (random(8), picked) {
            (0, _) | (_, None) => {
                for job in accept_all(queue, &vec!["a step"; 1 + random(3)]).await {
                    ids.push(job.id);
                    model.insert(job.id, Modelled { state: State::Queued, used: 0, retracted: false });
                }
            }
            // More than once, since jobs on their last attempt come alone.
            (1 | 2, _) => {
                let mut leases = Vec::new();
                for _ in 0..3 {
                    leases.extend(queue.lease(1 + random(4), Duration::ZERO).await.unwrap());
                }
                for lease in leases {
                    let job = model.get_mut(&lease.job.id).unwrap();
                    assert!(matches!(job.state, State::Queued | State::Waiting), "step {step}: {job:?} was leased");
                    assert_eq!(lease.attempt, job.used + 1, "step {step}");
                    // Only its holder releases a lease, fails it or extends it.
                    job.state = State::Leased(lease);
                    job.used += 1;
                }
            }
            (3, Some((_, job))) => {
                if let State::Leased(lease) = &job.state {
                    let outcome = if random(4) == 0 { Outcome::Retracted } else { Outcome::Learned };
                    queue.complete(&[(lease.clone(), outcome)]).await.unwrap();
                    let retracted = job.retracted || outcome == Outcome::Retracted;
                    job.state = if retracted { State::Retracted } else { State::Learned };
                }
            }
            (4, Some((_, job))) => {
                if let State::Leased(lease) = &job.state {
                    // A consumer that does not hold it changes nothing.
                    for consumer in &consumers {
                        consumer.fail(lease, "a bad step", Duration::ZERO).await.unwrap();
                    }
                    job.state = match (job.used >= MAX_ATTEMPTS, job.retracted) {
                        (true, true) => State::Retracted,
                        (true, false) => State::Dead,
                        (false, _) => State::Waiting,
                    };
                }
            }
            (5, Some((_, job))) => {
                if let State::Leased(lease) = &job.state {
                    for consumer in &consumers {
                        consumer.extend(std::slice::from_ref(lease)).await.unwrap();
                        consumer.release(std::slice::from_ref(lease)).await.unwrap();
                    }
                    job.state = State::Queued;
                    job.used -= 1;
                }
            }
            (6, Some((id, job))) => {
                queue.retract(id, matches!(job.state, State::Learned)).await.unwrap();
                match job.state {
                    State::Dead | State::Learned => job.state = State::Retracted,
                    State::Queued | State::Leased(_) | State::Waiting => job.retracted = true,
                    State::Retracted => {}
                }
            }
            (_, Some((id, job))) => {
                let was_dead = matches!(job.state, State::Dead);
                assert_eq!(queue.retry_dead(id).await.unwrap(), was_dead, "step {step}");
                if was_dead {
                    job.state = State::Queued;
                    job.used = 0;
                }
            }
        }

        let mut expected = Ledger::default();
        for job in model.values() {
            expected.accepted += 1;
            *match job.state {
                State::Queued => &mut expected.queued,
                State::Leased(_) | State::Waiting => &mut expected.processing,
                State::Dead => &mut expected.dead,
                State::Learned => &mut expected.learned,
                State::Retracted => &mut expected.retracted,
            } += 1;
        }
        assert_eq!(ledger(queue).await, expected, "step {step}");
        let size_bytes: u64 = queue.partitions().await.unwrap().iter().map(|partition| partition.size_bytes).sum();
        assert_eq!(size_bytes, 6 * (expected.queued + expected.processing), "step {step}");
        if let Some(id) = pick {
            let state = match model[&id].state {
                State::Queued => Some(JobState::Queued),
                State::Leased(_) | State::Waiting => Some(JobState::Processing),
                State::Dead => Some(JobState::Dead),
                State::Learned | State::Retracted => None,
            };
            assert_eq!(queue.job_state(id).await.unwrap(), state, "step {step}");
        }
    }
    let end = ledger(&consumers[0]).await;
    assert!(end.learned > 0 && end.retracted > 0 && end.dead > 0, "the walk did not reach all states: {end:?}");
}
