//! Tasks that must not end by themselves.
//!
//! A background task that panics, or returns before the process is stopped, would leave a process that looks alive and
//! does half of its work. A [`Supervisor`] starts such tasks and remembers the first that ended unasked; the program
//! waits for that beside its stop signal, logs it, and ends with a status that is not 0, so that whoever runs it starts
//! it again. Work that can go on after a panic (following the store, say) restarts itself instead, and counts that.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// A task that ended although nobody had stopped it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{task} {how}; the process cannot go on without it")]
pub struct TaskEnded {
    /// Which, as an operator knows it: "the consumer".
    pub task: &'static str,
    /// What happened to it.
    pub how: &'static str,
}

/// Starts tasks and tells when one of them ends unasked. Cheap to clone.
#[derive(Clone)]
pub struct Supervisor {
    stop: CancellationToken,
    first: Arc<watch::Sender<Option<TaskEnded>>>,
}

impl Supervisor {
    /// A supervisor whose tasks may end once `stop` is cancelled, and not before.
    #[must_use]
    pub fn new(stop: CancellationToken) -> Self {
        Self { stop, first: Arc::new(watch::Sender::new(None)) }
    }

    /// What tells its tasks to end.
    #[must_use]
    pub fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// Starts a task that runs until the process stops.
    pub fn spawn(
        &self,
        task: &'static str,
        future: impl Future<Output = ()> + Send + 'static,
    ) -> tokio::task::JoinHandle<()> {
        let supervisor = self.clone();
        tokio::spawn(async move {
            match AssertUnwindSafe(future).catch_unwind().await {
                Ok(()) if supervisor.stop.is_cancelled() => {}
                Ok(()) => supervisor.report(TaskEnded { task, how: "ended by itself" }),
                // The panic hook has logged where and why.
                Err(_) => supervisor.report(TaskEnded { task, how: "panicked" }),
            }
        })
    }

    /// Notes that something ended which the supervisor did not start, such as a thread.
    pub fn report(&self, ended: TaskEnded) {
        self.first.send_if_modified(|first| {
            let new = first.is_none();
            if new {
                *first = Some(ended);
            }
            new
        });
    }

    /// Waits for the first task that ends unasked; for ever where none does.
    pub async fn failed(&self) -> TaskEnded {
        let mut first = self.first.subscribe();
        match first.wait_for(Option::is_some).await {
            Ok(ended) => ended.clone().expect("it was waited for"),
            // Its sender lives as long as `self`.
            Err(_) => std::future::pending().await,
        }
    }
}

/// What a panic said, where it is text. Not for the log: it may quote what was fed.
#[must_use]
pub fn panic_message(panic: &(dyn Any + Send)) -> Option<&str> {
    panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_ends_or_panics_unasked_is_named_once() {
        for (how, panics) in [("panicked", true), ("ended by itself", false)] {
            let supervisor = Supervisor::new(CancellationToken::new());
            let task = async move { assert!(!panics, "on purpose") };
            supervisor.spawn("a task", task).await.expect("its panic was caught");
            supervisor.spawn("another task", async {}).await.expect("it ends");
            assert_eq!(supervisor.failed().await, TaskEnded { task: "a task", how });
        }
    }

    #[tokio::test]
    async fn a_task_that_was_stopped_may_end() {
        let stop = CancellationToken::new();
        let supervisor = Supervisor::new(stop.clone());
        let stopped = stop.clone();
        let task = supervisor.spawn("a task", async move { stopped.cancelled().await });
        stop.cancel();
        task.await.expect("it ends");
        assert!(supervisor.failed().now_or_never().is_none());
    }
}
