//! How much memory a worker needs. What is under way has its full size after some 40 data of 1 MiB.

use multivac_core::queue::Ledger;
use multivac_testkit::environment::report;
use multivac_testkit::sample::submission;

use crate::test_worker::Servers;

/// What the compose file gives a worker.
const LIMIT_KIB: u64 = 512 << 10;

#[tokio::test(flavor = "multi_thread")]
async fn large_data_fit_in_the_memory_of_a_container_whatever_the_concurrency() {
    let Some(servers) = Servers::find(&["--concurrency", "16"]).await else { return };
    let sentence = "The light of a star that went out long ago is still on its way to us. ";
    let text = sentence.repeat((1 << 20) / sentence.len());
    for n in 0..12 {
        let submissions: Vec<_> = (0..8).map(|i| submission(&format!("{n}.{i} {text}"))).collect();
        servers.backends.queue.accept(&submissions).await.unwrap();
    }
    let worker = servers.worker();
    let end = servers.until(Ledger::is_quiet).await;
    assert_eq!(end, Ledger { accepted: 96, learned: 96, ..Ledger::default() });
    let peak = worker.peak_memory_kib();
    report(&format!("96 data of 1 MiB, 16 batches at once: {} MiB at the peak", peak >> 10));
    assert!(peak < LIMIT_KIB, "{peak} KiB");
    drop(worker);
    servers.clean_up().await;
}
