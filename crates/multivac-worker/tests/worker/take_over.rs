//! A worker is killed with leases in its hands: how long until others have them, and until all is learned.

use std::time::{Duration, Instant};

use crate::load::{Load, Report};
use crate::process::PATIENCE;
use crate::system::{Plan, System};

/// What was seen.
pub(crate) struct TakeOver {
    /// Jobs that the worker held when it was killed.
    pub(crate) held: u64,
    /// From the kill until the last of them was leased by another.
    pub(crate) taken_over: Duration,
    /// From the kill until nothing was unfinished.
    pub(crate) learned: Duration,
    pub(crate) report: Report,
}

/// Feeds `count` data, kills a worker in the middle of them, and leaves the rest to two others. `None`, aloud, where the
/// servers are not there.
pub(crate) async fn take_over(lease: &'static str, count: u64) -> Option<TakeOver> {
    let mut system = System::start(Plan { workers: 0, lease, ..Plan::default() }).await?;
    let load = Load::feed(&system, count).await;
    system.add_worker();
    // Held still, so that it is killed with leases in its hands: alone at work, only it can have them.
    let deadline = Instant::now() + PATIENCE;
    let (victim, held) = loop {
        assert!(Instant::now() < deadline, "it leases nothing\n{}", system.said());
        tokio::time::sleep(Duration::from_millis(5)).await;
        let learned = system.until(0, "/multivac/stats", |_| true).await["learned"].as_u64();
        if learned == Some(0) || !system.consumers().await.iter().any(|(_, held)| *held > 0) {
            continue;
        }
        system.workers[0].signal("STOP");
        match system.consumers().await.into_iter().find(|(_, held)| *held > 0) {
            Some(victim) => break victim,
            None => system.workers[0].signal("CONT"),
        }
    };
    let stats = system.until(0, "/multivac/stats", |_| true).await;
    assert!(stats["queued"].as_u64() > Some(0), "too late for the middle: {stats}");
    system.add_worker();
    system.add_worker();
    system.workers[0].kill();
    let killed = Instant::now();
    while system.consumers().await.iter().any(|(name, held)| *name == victim && *held > 0) {
        assert!(killed.elapsed() < 2 * PATIENCE, "{held} jobs stay with the dead");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let taken_over = killed.elapsed();
    system.until_quiet().await;
    let learned = killed.elapsed();
    let report = load.finish(&system).await;
    system.clean_up().await;
    Some(TakeOver { held, taken_over, learned, report })
}
