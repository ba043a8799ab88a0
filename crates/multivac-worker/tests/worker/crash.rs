//! A worker is killed in the middle of its work.

use std::time::Duration;

use multivac_testkit::take_over::take_over;

use crate::test_worker::PROGRAM;

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_workers_data_are_learned_by_others_and_none_twice() {
    const LEASE: Duration = Duration::from_secs(2);
    let Some(seen) = take_over(PROGRAM, "2s", 20_000).await else { return };
    seen.report.assert_all_is_there();
    assert_eq!(seen.report.ledger.learned, 20_000);
    assert!(seen.held > 0);
    assert!(seen.taken_over < LEASE + Duration::from_secs(5), "taken over after {:?}", seen.taken_over);
    assert!(seen.learned < Duration::from_secs(45), "all was learned after {:?}", seen.learned);
}
