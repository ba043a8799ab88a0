//! A worker is killed while it holds leases: how long until others have its jobs, and until all is learned.

use std::time::{Duration, Instant};

use crate::TEST_TIMEOUT;
use crate::load::Load;
use crate::report::Report;
use crate::system::{Plan, System};

/// What was measured.
pub struct TakeOver {
    /// Jobs that the worker held when it was killed.
    pub held: u64,
    /// From the kill until the last of them was leased by another.
    pub taken_over: Duration,
    /// From the kill until nothing was unfinished.
    pub learned: Duration,
    /// What the system held in the end.
    pub report: Report,
}

/// Feeds `count` data, kills a worker in the middle of them, and leaves the rest to two others. Where the servers'
/// programs are not there, the test is skipped.
pub async fn take_over(worker_program: &'static str, lease: &'static str, count: u64) -> Option<TakeOver> {
    let mut system = System::start(Plan { workers: 0, lease, ..Plan::new(worker_program) }).await?;
    let load = Load::feed(&system, count).await;
    system.add_worker();
    // It is paused first, so that it is killed while it holds leases: no other works yet, so all leases are its own.
    let deadline = Instant::now() + TEST_TIMEOUT;
    let (killed_worker, held) = loop {
        assert!(Instant::now() < deadline, "it leases nothing\n{}", system.log_tails());
        tokio::time::sleep(Duration::from_millis(5)).await;
        let learned = system.until(0, "/multivac/stats", |_| true).await["learned"].as_u64();
        if learned == Some(0) || !system.consumers().await.iter().any(|(_, held)| *held > 0) {
            continue;
        }
        system.workers[0].pause();
        match system.consumers().await.into_iter().find(|(_, held)| *held > 0) {
            Some(worker) => break worker,
            None => system.workers[0].resume(),
        }
    };
    let stats = system.until(0, "/multivac/stats", |_| true).await;
    assert!(stats["queued"].as_u64() > Some(0), "too late for the middle: {stats}");
    system.add_worker();
    system.add_worker();
    system.workers[0].kill();
    let killed = Instant::now();
    while system.consumers().await.iter().any(|(name, held)| *name == killed_worker && *held > 0) {
        assert!(killed.elapsed() < 2 * TEST_TIMEOUT, "{held} jobs stay with the killed worker");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let taken_over = killed.elapsed();
    system.until_quiet().await;
    let learned = killed.elapsed();
    let report = load.finish(&system).await;
    system.clean_up().await;
    Some(TakeOver { held, taken_over, learned, report })
}
