use tokio_util::sync::CancellationToken;

use super::*;
use crate::queue::panicking::PanickingQueue;

#[tokio::test]
async fn a_reply_that_is_dropped_does_not_say_that_nothing_was_accepted() {
    let acceptor = Acceptor::new(Arc::new(PanickingQueue), &Supervisor::new(CancellationToken::new()));
    for _ in 0..2 * CONCURRENT_STEPS {
        let datum = Datum::new("Entropy was reversed.", 100).expect("a datum");
        let refused = acceptor.accept(AcceptRequest { datum, key: None }).await;
        let error = refused.expect_err("it panicked");
        assert!(matches!(error, AcceptError::OutcomeUnknown { id: Some(_), .. }), "{error}");
        assert!(error.to_string().contains("may be accepted"), "{error}");
    }
}
