//! A worker is asked to stop in the middle of its work.

use multivac_core::queue::Ledger;

use crate::test_worker::Servers;

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_worker_leaves_nothing_leased_behind() {
    // A lease that outlasts the test: what is not released stays leased.
    let Some(servers) = Servers::find(&["--lease", "1h"]).await else { return };
    servers.accept(20_000).await;
    let worker = servers.worker();
    servers.until(|ledger| ledger.learned > 0).await;
    worker.signal("TERM");
    let exit = worker.wait();
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    let left = servers.until(|_| true).await;
    assert_eq!(left.processing, 0, "{left:?}");
    assert!(left.queued > 0, "too late for the middle: {left:?}");

    let another = servers.worker();
    let end = servers.until(Ledger::is_quiet).await;
    assert_eq!(end, Ledger { accepted: 20_000, learned: 20_000, ..Ledger::default() });
    // It also stops when it has nothing to do.
    another.signal("INT");
    assert_eq!(another.wait().code, Some(0));
    servers.clean_up().await;
}
