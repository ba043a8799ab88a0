//! The one writer: a thread that owns the only writing connection, and shares each commit among all who wait.
//!
//! A durable commit costs an fsync, whatever is in it. So the writer takes every step that waits, runs them all in
//! one transaction, commits once, and then answers each. There is no timer: the steps that arrive during one commit
//! are the next group, so one step alone waits for nobody and many share.
//!
//! Each step runs in a savepoint of its own: one that fails is undone and answered, and the others go on.

use std::cell::Cell;
use std::io;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

use super::error::Fault;

/// Text that may wait for the writer, in KiB: 32 MiB. Whoever brings more waits until there is room, so memory and the
/// size of one transaction are bounded. Each step counts 1 KiB at least, which bounds their number.
const ROOM_KIB: u32 = 32 * 1024;

/// Owns the writer's thread. Dropped, it lets the thread finish all that waits and close the database.
pub(super) struct Writer {
    handle: Option<WriterHandle>,
    thread: Option<JoinHandle<()>>,
}

/// Sends steps to the writer.
#[derive(Clone)]
pub(super) struct WriterHandle {
    steps: mpsc::Sender<Box<dyn Step>>,
    room: Arc<Semaphore>,
    signals: Arc<Signals>,
}

/// Wakes whoever waits for what a commit brought; sent after the commit, and before its steps are answered.
struct Signals {
    jobs: watch::Sender<()>,
    data: watch::Sender<()>,
}

/// What a step has at hand while it runs.
pub(super) struct Write<'a> {
    /// In the group's transaction.
    pub(super) connection: &'a Connection,
    started: Instant,
    jobs_changed: Cell<bool>,
    data_changed: Cell<bool>,
}

impl Write<'_> {
    /// Milliseconds on the clock by which leases run out. It starts with the process, as its leases do, so that
    /// nobody who sets the wall clock ends them.
    pub(super) fn now_ms(&self) -> i64 {
        i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    /// There may be a job to lease now, or earlier than before.
    pub(super) fn jobs_changed(&self) {
        self.jobs_changed.set(true);
    }

    /// There is a change in the store to follow.
    pub(super) fn data_changed(&self) {
        self.data_changed.set(true);
    }
}

impl Writer {
    /// Starts the thread.
    pub(super) fn start(connection: Connection) -> io::Result<Self> {
        let (steps, waiting) = mpsc::channel();
        let signals = Arc::new(Signals { jobs: watch::Sender::new(()), data: watch::Sender::new(()) });
        let handle =
            WriterHandle { steps, room: Arc::new(Semaphore::new(ROOM_KIB as usize)), signals: Arc::clone(&signals) };
        let thread = std::thread::Builder::new()
            .name("multivac-writer".into())
            .spawn(move || run(connection, &waiting, &signals))?;
        Ok(Self { handle: Some(handle), thread: Some(thread) })
    }

    /// A way to send it steps.
    pub(super) fn handle(&self) -> &WriterHandle {
        self.handle.as_ref().expect("taken away only when the writer is dropped")
    }
}

impl Drop for Writer {
    /// Waits for the thread, which has a commit and a checkpoint to finish, so that the directory is free for the next
    /// who opens it.
    fn drop(&mut self) {
        self.handle = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the embedded database's writer had panicked; what it had not answered was not written");
        }
    }
}

impl WriterHandle {
    /// Runs `work` in the next group and returns what it returned, when that is durable. `size_bytes` is about the
    /// text it carries.
    ///
    /// A caller who goes away while the step waits does not take it back.
    pub(super) async fn write<T, F>(&self, size_bytes: usize, work: F) -> Result<T, Fault>
    where
        T: Send + 'static,
        F: FnOnce(&Write<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        let kib = u32::try_from(size_bytes / 1024).unwrap_or(u32::MAX).saturating_add(1).min(ROOM_KIB);
        let room = Arc::clone(&self.room).acquire_many_owned(kib).await.map_err(|_| Fault::Stopped)?;
        let (reply, answer) = oneshot::channel();
        let step = Waiting { work: Some(work), outcome: None, reply, _room: Some(room) };
        self.steps.send(Box::new(step)).map_err(|_| Fault::Stopped)?;
        answer.await.map_err(|_| Fault::Stopped)?
    }

    /// Runs `work` in the next group; nobody waits for it.
    pub(super) fn post<F>(&self, work: F)
    where
        F: FnOnce(&Write<'_>) -> rusqlite::Result<()> + Send + 'static,
    {
        let step = Waiting { work: Some(work), outcome: None, reply: oneshot::channel().0, _room: None };
        // With the writer gone there is nothing left to do it to.
        let _ = self.steps.send(Box::new(step));
    }

    /// Wakes when [`Write::jobs_changed`] was called, from now on.
    pub(super) fn watch_jobs(&self) -> watch::Receiver<()> {
        self.signals.jobs.subscribe()
    }

    /// Wakes when [`Write::data_changed`] was called, from now on.
    pub(super) fn watch_data(&self) -> watch::Receiver<()> {
        self.signals.data.subscribe()
    }
}

/// A step of any type, on its way through a group.
trait Step: Send {
    /// Runs it, and keeps what came of it.
    fn run(&mut self, write: &Write<'_>) -> Result<(), Fault>;
    /// Tells whoever asked, now that the group is committed or lost.
    fn answer(self: Box<Self>, committed: Result<(), Fault>);
}

struct Waiting<T, F> {
    work: Option<F>,
    outcome: Option<Result<T, Fault>>,
    reply: oneshot::Sender<Result<T, Fault>>,
    /// Held until it is answered.
    _room: Option<OwnedSemaphorePermit>,
}

impl<T, F> Step for Waiting<T, F>
where
    T: Send,
    F: FnOnce(&Write<'_>) -> rusqlite::Result<T> + Send,
{
    fn run(&mut self, write: &Write<'_>) -> Result<(), Fault> {
        let work = self.work.take().ok_or(Fault::Stopped)?;
        let outcome = in_savepoint(write, work).map_err(Fault::from);
        let failed = outcome.as_ref().err().cloned();
        self.outcome = Some(outcome);
        failed.map_or(Ok(()), Err)
    }

    fn answer(self: Box<Self>, committed: Result<(), Fault>) {
        let Self { outcome, reply, .. } = *self;
        // Whoever asked may have gone; what is durable stays so.
        let _ = reply.send(committed.and_then(|()| outcome.unwrap_or(Err(Fault::Stopped))));
    }
}

fn run(connection: Connection, waiting: &mpsc::Receiver<Box<dyn Step>>, signals: &Signals) {
    let started = Instant::now();
    let mut trouble = Trouble::default();
    while let Ok(first) = waiting.recv() {
        let mut group: Vec<_> = std::iter::once(first).chain(waiting.try_iter()).collect();
        let write =
            Write { connection: &connection, started, jobs_changed: Cell::new(false), data_changed: Cell::new(false) };
        let before = connection.total_changes();
        let committed = commit(&write, &mut group);
        if committed.is_err() && !connection.is_autocommit() {
            // It fails where SQLite has rolled back by itself, and then there is nothing to undo.
            let _ = connection.execute_batch("ROLLBACK");
        }
        trouble.note(&connection, &committed, connection.total_changes() > before);
        if write.jobs_changed.get() {
            signals.jobs.send_replace(());
        }
        if write.data_changed.get() {
            signals.data.send_replace(());
        }
        for step in group {
            step.answer(committed.clone());
        }
    }
    // The last connection to close writes the log back into the file and removes it.
    if let Err((_, error)) = connection.close() {
        tracing::warn!(error = %error, "the embedded database did not close cleanly; the next start recovers it");
    }
}

/// Whether groups get written at present: told in the log when it changes, not with each of them.
#[derive(Default)]
struct Trouble {
    present: bool,
    told: Option<Instant>,
}

/// A disk that is almost full takes one group and not the next: no more is told of it than this often.
const TELL_AGAIN: Duration = Duration::from_secs(60);

impl Trouble {
    /// `wrote`: a group that had nothing to write needs no room, and says nothing of the disk.
    fn note(&mut self, connection: &Connection, committed: &Result<(), Fault>, wrote: bool) {
        match committed {
            Ok(()) if self.present && wrote => {
                self.present = false;
                tracing::info!("the data directory can be written again");
            }
            Ok(()) => {}
            Err(fault) => {
                let new = !std::mem::replace(&mut self.present, true);
                if new && self.told.is_none_or(|told| told.elapsed() > TELL_AGAIN) {
                    self.told = Some(Instant::now());
                    let (Ok(problem) | Err(problem)) = fault.explain();
                    tracing::error!(error = %fault, "{problem}; what is fed is refused until that is mended");
                }
                // The log may hold what has room in the file: then it need not grow. Readers are not waited for.
                let _ = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
            }
        }
    }
}

/// Runs a group in one transaction. When this fails, none of it was written.
fn commit(write: &Write<'_>, group: &mut [Box<dyn Step>]) -> Result<(), Fault> {
    execute(write.connection, "BEGIN IMMEDIATE")?;
    for step in group {
        if let Err(fault) = step.run(write)
            // The disk is nobody's step alone, and where it fails SQLite may have rolled the whole transaction back.
            && (fault.is_of_the_disk() || write.connection.is_autocommit())
        {
            return Err(fault);
        }
    }
    Ok(execute(write.connection, "COMMIT")?)
}

fn in_savepoint<T>(write: &Write<'_>, work: impl FnOnce(&Write<'_>) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
    execute(write.connection, "SAVEPOINT step")?;
    let outcome = work(write);
    if outcome.is_ok() {
        execute(write.connection, "RELEASE step")?;
    } else if !write.connection.is_autocommit() {
        execute(write.connection, "ROLLBACK TO step")?;
        execute(write.connection, "RELEASE step")?;
    }
    outcome
}

fn execute(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.execute([]).map(|_| ())
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
