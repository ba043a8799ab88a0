//! The threads that answer questions.
//!
//! A question takes milliseconds of a processor, so it must not run on a thread that serves connections. There are as many
//! threads as cores, and what waits for them is bounded by the connections, each of which serves one request at a time.

use std::io;

use multivac_core::observe::spans;
use opentelemetry::Context;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

/// A question's work panicked; the panic hook has logged where and why.
#[derive(Debug, thiserror::Error)]
#[error("answering a question panicked")]
pub(crate) struct AnswerPanicked;

/// Threads of their own for questions: the blocking threads of a runtime that does nothing else. (A pool of rayon's, whose
/// idle threads look for work for a while, made questions 3 % slower on two cores, measured 2026-11-25.)
pub(crate) struct AnswerThreads(Option<Runtime>);

impl AnswerThreads {
    /// As many threads as cores: with more, the questions of a moment would slow each other down, and each would take as
    /// long as all of them.
    ///
    /// # Errors
    /// When the system cannot make the runtime.
    pub(crate) fn start(threads: usize) -> io::Result<Self> {
        let runtime =
            Builder::new_current_thread().max_blocking_threads(threads).thread_name("multivac-answer").build()?;
        Ok(Self(Some(runtime)))
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
        let (request, waiting) = (Context::current(), spans::inside("wait for a thread"));
        let runtime = self.0.as_ref().expect("taken only when it is dropped");
        // Its handle is not awaited: a panic drops `reply` without a value.
        runtime.spawn_blocking(move || {
            // The client hung up while the question waited.
            if reply.is_closed() {
                return;
            }
            let _in_request = request.attach();
            spans::end(&waiting);
            let answering = spans::inside("answer");
            let result = {
                let _in_span = answering.clone().attach();
                work()
            };
            spans::end(&answering);
            let _ = reply.send(result);
        });
        answer.await.map_err(|_| AnswerPanicked)
    }
}

impl Drop for AnswerThreads {
    /// Without waiting, which async code must not do; what is still under way has no client any more.
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
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
