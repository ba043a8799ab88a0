use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::queue::fake::FakeQueue;

fn request(text: &str) -> AcceptRequest {
    AcceptRequest { datum: Datum::new(text, 100).expect("a datum"), key: None }
}

#[tokio::test]
async fn a_reply_that_is_dropped_does_not_say_that_nothing_was_accepted() {
    let acceptor = Acceptor::new(Arc::new(FakeQueue::panicking()), &Supervisor::new(CancellationToken::new()));
    for _ in 0..2 * CONCURRENT_STEPS {
        let refused = acceptor.accept(request("Entropy was reversed.")).await;
        let error = refused.expect_err("it panicked");
        assert!(matches!(error, AcceptError::OutcomeUnknown { id: Some(_), .. }), "{error}");
        assert!(error.to_string().contains("may be accepted"), "{error}");
    }
}

#[tokio::test]
async fn what_comes_while_a_step_runs_is_in_the_next_and_each_has_its_own_outcome() {
    let (begun, mut steps) = mpsc::unbounded_channel();
    let go_on = Arc::new(Semaphore::new(0));
    let may_go_on = Arc::clone(&go_on);
    let queue = FakeQueue(Box::new(move |submissions| {
        let acceptance = |submission: &Submission| match submission.job.datum.as_str() {
            "one too many" => Acceptance::Full,
            "of a key with another text" => Acceptance::KeyOfOtherText,
            "not on the disk" => Acceptance::NotDurable { rolled_back: true },
            _ => Acceptance::Accepted,
        };
        let acceptances: Vec<Acceptance> = submissions.iter().map(acceptance).collect();
        begun.send(acceptances.len()).expect("the test waits for it");
        let may_go_on = Arc::clone(&may_go_on);
        async move {
            may_go_on.acquire().await.expect("it is open").forget();
            acceptances
        }
        .boxed()
    }));
    let acceptor = Acceptor::new(Arc::new(queue), &Supervisor::new(CancellationToken::new()));
    let accept = |text: &'static str| {
        let acceptor = acceptor.clone();
        tokio::spawn(async move { acceptor.accept(request(text)).await })
    };
    // While nothing is under way, each is sent at once.
    let mut firsts = Vec::new();
    for _ in 0..CONCURRENT_STEPS {
        firsts.push(accept("the first"));
        assert_eq!(steps.recv().await, Some(1));
    }
    let texts = ["one too many", "of a key with another text", "not on the disk", "of a client that leaves"];
    let texts = texts.into_iter().chain(std::iter::repeat_n("another", STEP_SIZE + 10 - texts.len()));
    let mut waiting: Vec<_> = texts.map(accept).collect();
    while acceptor.waiting.capacity() > WAITING_DATA - waiting.len() {
        tokio::task::yield_now().await;
    }
    waiting.remove(3).abort();
    // One step ends: the next has all that wait, up to its size, whoever waits for them.
    go_on.add_permits(1);
    assert_eq!(steps.recv().await, Some(STEP_SIZE));
    go_on.add_permits(1);
    assert_eq!(steps.recv().await, Some(10));
    go_on.add_permits(CONCURRENT_STEPS);
    let mut outcomes = Vec::new();
    for waiting in waiting {
        outcomes.push(waiting.await.expect("no panic"));
    }
    assert!(matches!(outcomes[0], Err(AcceptError::Full { .. })));
    assert!(matches!(outcomes[1], Err(AcceptError::KeyOfOtherText)));
    assert!(matches!(outcomes[2], Err(AcceptError::NotDurable { rolled_back: true, .. })));
    assert!(outcomes[3..].iter().all(Result::is_ok));
    for first in firsts {
        assert!(first.await.expect("no panic").is_ok());
    }
}
