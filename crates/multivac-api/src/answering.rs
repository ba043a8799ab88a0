//! The threads that answer questions.
//!
//! A question takes milliseconds of a processor, so it must not run on a thread that serves connections. There are as many
//! threads as cores, and what waits for them is bounded by the connections, each of which serves one request at a time.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};
use tokio::sync::oneshot;
use tracing::Span;

/// A question's work panicked; the panic hook has logged where and why.
#[derive(Debug, thiserror::Error)]
#[error("answering a question panicked")]
pub(crate) struct AnswerPanicked;

/// Threads of their own for questions.
pub(crate) struct AnswerThreads(ThreadPool);

impl AnswerThreads {
    /// As many threads as cores: with more, the questions of a moment would slow each other down, and each would take as
    /// long as all of them.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub(crate) fn start(threads: usize) -> Result<Self, ThreadPoolBuildError> {
        let pool = ThreadPoolBuilder::new().num_threads(threads).thread_name(|_| "multivac-answer".to_owned());
        pool.build().map(Self)
    }

    /// Does the work on one of the threads. It must not wait for other work of these threads, which may be queued behind it.
    ///
    /// # Errors
    /// When it panicked; the thread goes on with the next.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, AnswerPanicked> {
        let (reply, answer) = oneshot::channel();
        let span = Span::current();
        self.0.spawn(move || {
            // The client hung up while the question waited.
            if reply.is_closed() {
                return;
            }
            // A panic that reached the pool would abort the process. Then `reply` is dropped without a value.
            if let Ok(done) = catch_unwind(AssertUnwindSafe(|| span.in_scope(work))) {
                let _ = reply.send(done);
            }
        });
        answer.await.map_err(|_| AnswerPanicked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_fails_one_question_and_the_thread_goes_on() {
        let threads = AnswerThreads::start(1).expect("a thread");
        let name = || std::thread::current().name().map(str::to_owned);
        assert!(threads.run(|| panic!("on purpose")).await.is_err());
        assert_eq!(threads.run(name).await.expect("no panic").as_deref(), Some("multivac-answer"));
    }

    #[tokio::test]
    async fn a_question_that_nobody_waits_for_any_more_is_not_answered() {
        let threads = AnswerThreads::start(1).expect("a thread");
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let busy = threads.run(move || wait.recv());
        tokio::pin!(busy);
        assert!(futures_util::poll!(&mut busy).is_pending());
        let ran = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        {
            let ran = std::sync::Arc::clone(&ran);
            let dropped = threads.run(move || ran.store(true, std::sync::atomic::Ordering::SeqCst));
            tokio::pin!(dropped);
            assert!(futures_util::poll!(&mut dropped).is_pending());
        }
        go.send(()).expect("it waits");
        busy.await.expect("no panic").expect("it was sent");
        threads.run(|| ()).await.expect("no panic");
        assert!(!ran.load(std::sync::atomic::Ordering::SeqCst));
    }
}
