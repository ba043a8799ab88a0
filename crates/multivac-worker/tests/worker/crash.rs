//! A worker is killed in the middle of its work.

use std::collections::HashSet;

use multivac_core::queue::Ledger;

use crate::test_worker::Servers;

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_workers_data_are_learned_by_others_and_none_twice() {
    const COUNT: usize = 20_000;
    let Some(servers) = Servers::find(&["--lease", "2s"]).await else { return };
    let accepted: HashSet<_> = servers.accept(COUNT).await.into_iter().collect();
    let victim = servers.worker();
    servers.until(|ledger| ledger.learned > 0 && ledger.processing > 0).await;
    // First held still, so that it is killed with leases in its hands: alone at work, only it can have them.
    let held = loop {
        victim.signal("STOP");
        let held = servers.until(|_| true).await;
        if held.processing > 0 {
            break held;
        }
        victim.signal("CONT");
        servers.until(|ledger| ledger.processing > 0).await;
    };
    assert!(held.queued > 0, "too late for the middle: {held:?}");
    let others = [servers.worker(), servers.worker()];
    victim.signal("KILL");
    assert_eq!(victim.wait().0, None);
    let end = servers.until(Ledger::is_quiet).await;
    assert_eq!(end, Ledger { accepted: 20_000, learned: 20_000, ..Ledger::default() });
    let stored = servers.stored().await;
    assert_eq!(stored.len(), COUNT, "each once");
    assert_eq!(stored.into_iter().collect::<HashSet<_>>(), accepted);
    for other in others {
        other.signal("TERM");
        let (code, said) = other.wait();
        assert_eq!(code, Some(0), "{said}");
    }
    servers.clean_up().await;
}
