//! Read connections, each on a thread of its own.
//!
//! In the write-ahead log neither readers nor the writer wait for each other. The threads belong to the open directory
//! and not to a Tokio runtime: each HTTP worker has a runtime with few blocking threads, and those are for other work.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use rusqlite::{Connection, OpenFlags};
use tokio::sync::{Semaphore, oneshot};

use super::error::DatabaseError;

/// How many threads read. Reads are short, and there is one file, so more would only compete for the disk.
const READERS: usize = 4;

/// How many reads may run or wait for a thread; further callers wait before they send theirs.
const MAX_PENDING_READS: usize = 64;

/// Owns the reading threads. Dropped, it waits until each has finished its read and closed its connection.
pub(super) struct Readers {
    pending: Arc<Pending>,
    permits: Arc<Semaphore>,
    threads: Vec<JoinHandle<()>>,
}

/// A read whose result goes to its caller.
type Read = Box<dyn FnOnce(&mut Reader) + Send>;

/// The reads that wait for a thread. A channel would do, but its one receiver would have to be locked by each idle thread
/// in turn, which wakes two threads for each read.
#[derive(Default)]
struct Pending {
    queue: Mutex<ReadQueue>,
    changed: Condvar,
}

#[derive(Default)]
struct ReadQueue {
    reads: VecDeque<Read>,
    closed: bool,
}

impl Pending {
    fn push(&self, read: Read) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).reads.push_back(read);
        self.changed.notify_one();
    }

    /// Lets the threads end when nothing waits any more.
    fn close(&self) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.changed.notify_all();
    }

    /// Waits for the next read; `None` when closed and empty.
    fn pop(&self) -> Option<Read> {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let is_idle = |queue: &mut ReadQueue| queue.reads.is_empty() && !queue.closed;
        let mut queue = self.changed.wait_while(queue, is_idle).unwrap_or_else(PoisonError::into_inner);
        queue.reads.pop_front()
    }
}

impl Readers {
    /// Starts the threads.
    pub(super) fn start(path: &Path) -> io::Result<Self> {
        // Made before the threads, so that those that run end when one cannot be started.
        let permits = Arc::new(Semaphore::new(MAX_PENDING_READS));
        let mut readers = Self { pending: Arc::default(), permits, threads: Vec::with_capacity(READERS) };
        for number in 0..READERS {
            let pending = Arc::clone(&readers.pending);
            let reader = Reader { path: path.to_owned(), connection: None };
            let thread = std::thread::Builder::new().name(format!("multivac-reader-{number}"));
            readers.threads.push(thread.spawn(move || reader.run(&pending))?);
        }
        Ok(readers)
    }

    /// Runs `work` on one of the threads. Each statement sees one snapshot.
    ///
    /// Dropping the future drops a read that has not begun. A read that panics is an error, and its thread goes on.
    pub(super) async fn read<T, F>(&self, work: F) -> Result<T, DatabaseError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let permit = Arc::clone(&self.permits).acquire_owned().await.expect("it is never closed");
        let (reply, result) = oneshot::channel();
        let read = move |reader: &mut Reader| {
            let _permit = permit;
            if !reply.is_closed() {
                // The caller may have stopped waiting meanwhile.
                let _ = reply.send(reader.read(work));
            }
        };
        self.pending.push(Box::new(read));
        // The reply is dropped unsent only by unwinding.
        result.await.map_err(|_| DatabaseError::ReadPanicked)?
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.pending.close();
        for thread in self.threads.drain(..) {
            thread.join().expect("a reader catches every panic");
        }
    }
}

/// What one thread holds.
struct Reader {
    path: PathBuf,
    /// None before the first read, and after one that failed.
    connection: Option<Connection>,
}

impl Reader {
    /// Runs reads until the [`Readers`] are dropped.
    fn run(mut self, pending: &Pending) {
        while let Some(read) = pending.pop() {
            // A panic is in the log already (`observe/logs.rs`), and its caller gets an error. What it may have left in a
            // bad state is the connection alone, which was taken out of `self` and is closed by unwinding.
            let _ = catch_unwind(AssertUnwindSafe(|| read(&mut self)));
        }
    }

    fn read<T>(&mut self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, DatabaseError> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => connect(&self.path)?,
        };
        let result = work(&connection)?;
        self.connection = Some(connection);
        Ok(result)
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    Ok(connection)
}

#[cfg(test)]
#[path = "readers_tests.rs"]
mod tests;
