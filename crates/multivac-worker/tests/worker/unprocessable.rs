//! Data that cannot be learned, however often it is tried.

use std::sync::Arc;
use std::time::Duration;

use multivac_core::consumer::Consumer;
use multivac_core::datum::{DatumId, Timestamp};
use multivac_core::process::process;
use multivac_core::queue::{Job, Ledger};
use multivac_core::store::StoredDatum;
use multivac_testkit::sample::{stored_datum, submission};
use tokio_util::sync::CancellationToken;

use crate::test_worker::Servers;

const PANICKING: &str = "panic\0 \r\n\t🌌 Ωμέγα";
const ENDLESS: &str = " endless é ";

/// Processes as usual, except for three texts: with one it panics, with one it never ends, and of one it makes a document
/// larger than the store takes.
fn fragile(job: &Job, now: Timestamp) -> StoredDatum {
    match job.datum.as_str() {
        PANICKING => panic!("at {PANICKING}"),
        ENDLESS => loop {
            std::thread::park();
        },
        text if text.len() > 1 << 20 => StoredDatum {
            id: job.id,
            text: text.to_owned(),
            passages: vec![text.to_owned()],
            received_at: job.received_at,
            ..stored_datum("")
        },
        _ => process(job, now),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn data_that_cannot_be_processed_become_dead_letters_and_all_others_are_learned() {
    let Some(servers) = Servers::find(&["--max-attempts", "3"]).await else { return };
    let too_large = "x".repeat(9 << 20);
    let unprocessable = [
        (PANICKING, "processing panicked: at panic"),
        (ENDLESS, "processing took longer than 1s"),
        (&too_large, "larger than MongoDB takes"),
    ];
    // Among others, so that they share batches with them.
    servers.accept(50).await;
    let submissions: Vec<_> = unprocessable.iter().map(|(text, _)| submission(text)).collect();
    servers.backends.queue.accept(&submissions).await.unwrap();
    servers.accept(50).await;
    let stop = CancellationToken::new();
    let consumer = Consumer {
        queue: servers.backends.queue.clone(),
        store: Arc::clone(&servers.backends.store),
        lease: Duration::from_secs(30),
        concurrency: 1,
        max_bytes_under_way: 8 << 20,
        process: fragile,
        process_timeout: Duration::from_secs(1),
    };
    let running = tokio::spawn(consumer.run(stop.clone()));

    let end = servers.until(Ledger::is_quiet).await;
    assert_eq!(end, Ledger { accepted: 103, learned: 100, dead: 3, ..Ledger::default() });
    for (submission, (text, error)) in submissions.iter().zip(unprocessable) {
        let letter = servers.backends.queue.dead_letter(submission.job.id).await.unwrap().unwrap();
        assert!(letter.job.datum.as_str() == text, "the text came back changed");
        assert_eq!(letter.attempts, 3);
        assert!(letter.error.contains(error), "{}", letter.error);
    }
    let stored = servers.stored().await;
    let dead: Vec<DatumId> = submissions.iter().map(|submission| submission.job.id).collect();
    assert!(stored.len() == 100 && dead.iter().all(|id| !stored.contains(id)));
    // The thread that never ends does not keep the consumer from ending.
    stop.cancel();
    running.await.unwrap().unwrap();
    servers.clean_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_datum_that_was_stored_by_a_worker_that_died_is_learned() {
    let Some(servers) = Servers::find(&["--max-attempts", "1", "--lease", "200ms"]).await else { return };
    let (queue, store) = (&servers.backends.queue, &servers.backends.store);
    // Two are leased for their only attempt and one of them is stored; then the test does what a dead worker does: nothing.
    servers.accept(2).await;
    let mut leases = Vec::new();
    while leases.len() < 2 {
        leases.extend(queue.lease(2, Duration::from_secs(1)).await.unwrap());
    }
    store.put(&[process(&leases[0].job, Timestamp::now())]).await.unwrap();
    let worker = servers.worker();
    let end = servers.until(Ledger::is_quiet).await;
    assert_eq!(end, Ledger { accepted: 2, learned: 1, dead: 1, ..Ledger::default() });
    let letters = queue.dead_letters(None, 9).await.unwrap();
    assert_eq!((letters[0].id, letters[0].attempts), (leases[1].job.id, 1));
    assert!(letters[0].error.contains("its worker died"), "{}", letters[0].error);
    assert_eq!(servers.stored().await, [leases[0].job.id]);
    drop(worker);
    servers.clean_up().await;
}
