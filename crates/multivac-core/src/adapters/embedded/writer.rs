//! The one writer: a thread that owns the only writing connection, and shares each commit among all steps that wait.
//!
//! A durable commit costs an fsync, whatever is in it. So the writer takes every step that waits, runs them all in
//! one transaction, commits once, and then answers each. There is no timer: the steps that arrive during one commit
//! are the next group, so a single step waits for no other, and many steps share a commit.
//!
//! Each step runs in a savepoint of its own: one that fails is undone and answered, and the others go on.
//!
//! A step that panics is a fault in the code, after which no further write can be relied on. So its group is rolled back and
//! answered as not written, the thread ends, and the writer is [broken](Writer::broken), upon which the process is to be ended.

use std::cell::Cell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::error::DatabaseError;
use super::file;

/// How much text may wait for the writer, in KiB: 32 MiB. Further callers wait before they send their step, so memory
/// and the size of one transaction are bounded. Each step counts 1 KiB at least, which bounds their number.
const MAX_WAITING_KIB: u32 = 32 * 1024;

/// Owns the writer's thread. Dropped, it lets the thread finish all that waits and close the database.
pub(super) struct Writer {
    handle: Option<WriterHandle>,
    thread: Option<JoinHandle<()>>,
    broken: CancellationToken,
}

/// Sends steps to the writer.
#[derive(Clone)]
pub(super) struct WriterHandle {
    steps: mpsc::Sender<Box<dyn Step>>,
    waiting_kib: Arc<Semaphore>,
    signals: Arc<Signals>,
}

/// Wakes those who wait for what a commit brings. Sent after the commit, and before its steps are answered.
struct Signals {
    jobs: watch::Sender<()>,
    data: watch::Sender<()>,
}

/// What a step can use while it runs.
pub(super) struct WriteContext<'a> {
    /// In the group's transaction.
    pub(super) connection: &'a Connection,
    started: Instant,
    jobs_changed: Cell<bool>,
    data_changed: Cell<bool>,
}

impl WriteContext<'_> {
    /// Milliseconds on the clock by which leases run out. It starts with the process, as its leases do, and does not jump
    /// when somebody sets the wall clock.
    pub(super) fn now_ms(&self) -> i64 {
        i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    /// Says that there may be a job to lease now, or earlier than before.
    pub(super) fn jobs_changed(&self) {
        self.jobs_changed.set(true);
    }

    /// Says that the store has changed.
    pub(super) fn data_changed(&self) {
        self.data_changed.set(true);
    }
}

impl Writer {
    /// Starts the thread.
    pub(super) fn start(connection: Connection) -> io::Result<Self> {
        let (steps, receiver) = mpsc::channel();
        let broken = CancellationToken::new();
        let signals = Arc::new(Signals { jobs: watch::Sender::new(()), data: watch::Sender::new(()) });
        let handle = WriterHandle {
            steps,
            waiting_kib: Arc::new(Semaphore::new(MAX_WAITING_KIB as usize)),
            signals: Arc::clone(&signals),
        };
        let ended_by_panic = broken.clone();
        let thread = std::thread::Builder::new()
            .name("multivac-writer".into())
            .spawn(move || run(connection, receiver, &signals, &ended_by_panic))?;
        Ok(Self { handle: Some(handle), thread: Some(thread), broken })
    }

    /// Cancelled when the thread has ended by a panic, and nothing can be written any more.
    pub(super) fn broken(&self) -> &CancellationToken {
        &self.broken
    }

    /// Sends it steps.
    pub(super) fn handle(&self) -> &WriterHandle {
        self.handle.as_ref().expect("taken away only when the writer is dropped")
    }
}

impl Drop for Writer {
    /// Waits for the thread, which has a commit and a checkpoint to finish: the directory may be opened again right after.
    fn drop(&mut self) {
        self.handle = None;
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the writer catches every panic");
        }
    }
}

impl WriterHandle {
    /// Runs `work` in the next group and returns what it returned, when that is durable. `size_bytes` is about the
    /// text it carries.
    ///
    /// Dropping the future does not cancel a step that was sent.
    pub(super) async fn write<T, F>(&self, size_bytes: usize, work: F) -> Result<T, DatabaseError>
    where
        T: Send + 'static,
        F: FnOnce(&WriteContext<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        let kib = u32::try_from(size_bytes / 1024).unwrap_or(u32::MAX).saturating_add(1).min(MAX_WAITING_KIB);
        let permit =
            Arc::clone(&self.waiting_kib).acquire_many_owned(kib).await.map_err(|_| DatabaseError::WriterEnded)?;
        let (reply, answer) = oneshot::channel();
        let step = PendingStep { work: Some(work), result: None, reply: Some(reply), _permit: Some(permit) };
        self.steps.send(Box::new(step)).map_err(|_| DatabaseError::WriterEnded)?;
        answer.await.map_err(|_| DatabaseError::OutcomeUnknown)?
    }

    /// Runs `work` in the next group, without waiting for it.
    pub(super) fn post<F>(&self, work: F)
    where
        F: FnOnce(&WriteContext<'_>) -> rusqlite::Result<()> + Send + 'static,
    {
        let step = PendingStep { work: Some(work), result: None, reply: None, _permit: None };
        // Without a writer nothing can be written; the callers that wait for theirs find out.
        let _ = self.steps.send(Box::new(step));
    }

    /// Wakes when [`WriteContext::jobs_changed`] was called, from now on.
    pub(super) fn watch_jobs(&self) -> watch::Receiver<()> {
        self.signals.jobs.subscribe()
    }

    /// Wakes when [`WriteContext::data_changed`] was called, from now on.
    pub(super) fn watch_data(&self) -> watch::Receiver<()> {
        self.signals.data.subscribe()
    }
}

/// A step, whatever its result's type.
trait Step: Send {
    /// Runs it, and keeps the result.
    fn run(&mut self, context: &WriteContext<'_>) -> Result<(), DatabaseError>;
    /// Replies to the caller, once the group is committed or rolled back.
    fn answer(self: Box<Self>, committed: Result<(), DatabaseError>);
}

struct PendingStep<T, F> {
    /// Until it runs.
    work: Option<F>,
    /// From then until it is answered.
    result: Option<Result<T, DatabaseError>>,
    /// Until it is answered; `None` from the start where nobody waits.
    reply: Option<oneshot::Sender<Result<T, DatabaseError>>>,
    /// Its share of [`MAX_WAITING_KIB`], until it is answered.
    _permit: Option<OwnedSemaphorePermit>,
}

impl<T, F> PendingStep<T, F> {
    fn reply(&mut self, result: Result<T, DatabaseError>) {
        if let Some(reply) = self.reply.take() {
            // The caller may have stopped waiting; what was committed stays.
            let _ = reply.send(result);
        }
    }
}

impl<T, F> Step for PendingStep<T, F>
where
    T: Send,
    F: FnOnce(&WriteContext<'_>) -> rusqlite::Result<T> + Send,
{
    fn run(&mut self, context: &WriteContext<'_>) -> Result<(), DatabaseError> {
        let work = self.work.take().expect("a step is in one group, which runs it once");
        let result = in_savepoint(context, work).map_err(DatabaseError::from);
        let error = result.as_ref().err().cloned();
        self.result = Some(result);
        error.map_or(Ok(()), Err)
    }

    fn answer(mut self: Box<Self>, committed: Result<(), DatabaseError>) {
        let result = self.result.take().unwrap_or(Err(DatabaseError::WriterEnded));
        self.reply(committed.and(result));
    }
}

impl<T, F> Drop for PendingStep<T, F> {
    /// Only a panic drops a step unanswered: one that has not run was not written; of one that has run it is not known
    /// whether its group was committed.
    fn drop(&mut self) {
        let not_run = self.work.is_some();
        self.reply(Err(if not_run { DatabaseError::WriterEnded } else { DatabaseError::OutcomeUnknown }));
    }
}

/// The thread: runs groups until the [`Writer`] is dropped or something panics, then closes the database.
fn run(
    connection: Connection,
    steps: mpsc::Receiver<Box<dyn Step>>,
    signals: &Signals,
    ended_by_panic: &CancellationToken,
) {
    // After a panic the connection is closed, which rolls back what was open, and nothing else is used again.
    if catch_unwind(AssertUnwindSafe(|| run_groups(&connection, &steps, signals))).is_err() {
        // What panicked, and where, is in the log already (`observe/logs.rs`).
        tracing::error!(
            "the embedded database's writer has ended after a panic: nothing is written until the process is restarted"
        );
        ended_by_panic.cancel();
    }
    // Answers the steps that still wait, and fails the sending of others.
    drop(steps);
    // The last connection to close writes the log back into the file and removes it.
    if let Err((_, error)) = connection.close() {
        tracing::warn!(error = %error, "the embedded database did not close cleanly; the next start recovers it");
    }
}

fn run_groups(connection: &Connection, steps: &mpsc::Receiver<Box<dyn Step>>, signals: &Signals) {
    let started = Instant::now();
    let path = connection.path().filter(|path| !path.is_empty()).map(PathBuf::from);
    let file = path.as_deref().and_then(file::identity);
    let is_there = || path.as_deref().is_none_or(|path| file::identity(path) == file);
    let mut failures = FailureLog::default();
    while let Ok(first) = steps.recv() {
        let mut group: Vec<_> = std::iter::once(first).chain(steps.try_iter()).collect();
        let context =
            WriteContext { connection, started, jobs_changed: Cell::new(false), data_changed: Cell::new(false) };
        let before = connection.total_changes();
        let ran = catch_unwind(AssertUnwindSafe(|| run_steps(&context, &mut group)));
        let committed = match &ran {
            Ok(Ok(())) if !is_there() => Err(DatabaseError::FileRemoved),
            Ok(Ok(())) => execute(connection, "COMMIT").map_err(DatabaseError::from),
            Ok(Err(error)) => Err(error.clone()),
            Err(_) => Err(DatabaseError::WriterEnded),
        };
        if committed.is_err() && !connection.is_autocommit() {
            // This fails only where SQLite has rolled back by itself.
            let _ = connection.execute_batch("ROLLBACK");
        }
        if let Err(panic) = ran {
            for step in group {
                step.answer(committed.clone());
            }
            resume_unwind(panic);
        }
        failures.note(connection, &committed, connection.total_changes() > before);
        if context.jobs_changed.get() {
            signals.jobs.send_replace(());
        }
        if context.data_changed.get() {
            signals.data.send_replace(());
        }
        for step in group {
            step.answer(committed.clone());
        }
    }
}

/// Runs a group's steps in one transaction, which is left open. After an error none of them may be committed.
fn run_steps(context: &WriteContext<'_>, group: &mut [Box<dyn Step>]) -> Result<(), DatabaseError> {
    execute(context.connection, "BEGIN IMMEDIATE")?;
    for step in group {
        if let Err(error) = step.run(context)
            // A failing disk concerns every step; and SQLite may have rolled back the whole transaction.
            && (error.is_disk_failure() || context.connection.is_autocommit())
        {
            return Err(error);
        }
    }
    Ok(())
}

/// Logs when groups begin to fail and when they succeed again, rather than each group that fails.
#[derive(Default)]
struct FailureLog {
    failing: bool,
    last_logged: Option<Instant>,
}

/// How often a failure is logged at most: a disk that is almost full takes one group and refuses the next, over and over.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

impl FailureLog {
    /// `wrote`: whether the group had anything to write; one that had not succeeds on a full disk too.
    fn note(&mut self, connection: &Connection, committed: &Result<(), DatabaseError>, wrote: bool) {
        match committed {
            Ok(()) if self.failing && wrote => {
                self.failing = false;
                tracing::info!("the data directory can be written again");
            }
            Ok(()) => {}
            Err(error) => {
                let is_new = !std::mem::replace(&mut self.failing, true);
                if is_new && self.last_logged.is_none_or(|last| last.elapsed() > LOG_INTERVAL) {
                    self.last_logged = Some(Instant::now());
                    let problem = error.message();
                    tracing::error!(%error, "{problem}; what is fed is refused until that is mended");
                }
                // What can be moved from the log into the file makes room in the log without making the file grow.
                // PASSIVE does not wait for readers.
                let _ = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
            }
        }
    }
}

fn in_savepoint<T>(
    context: &WriteContext<'_>,
    work: impl FnOnce(&WriteContext<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    execute(context.connection, "SAVEPOINT step")?;
    let outcome = work(context);
    if outcome.is_ok() {
        execute(context.connection, "RELEASE step")?;
    } else if !context.connection.is_autocommit() {
        execute(context.connection, "ROLLBACK TO step")?;
        execute(context.connection, "RELEASE step")?;
    }
    outcome
}

fn execute(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.execute([]).map(|_| ())
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
