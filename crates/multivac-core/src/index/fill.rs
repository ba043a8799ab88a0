//! How the index is filled before it follows: with what was kept of it, or with all that the store has.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::try_join_all;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use super::IndexError;
use super::follow::{APPLY_BATCH, APPLY_BYTES, Follower, Interrupted, Loaded, Progress, panicked};
use super::kept::WhyNot;
use super::loading::Loading;
use super::puller::PULL_BATCH;
use crate::observe::metrics;
use crate::runtime::retry::Retry;
use crate::store::{Change, Position, Scan, StoredDatum};

/// How often it is logged how far loading has come.
const LOG_INTERVAL: Duration = Duration::from_secs(5);

/// How often an index that was kept is tried to be read where the system does not let it, and the waits in between: for about a minute
/// in all, so that what passes by itself does not cost loading all anew.
const READ_ATTEMPTS: u32 = 8;
const READ_DELAYS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(8));

impl Follower {
    /// Goes on with an index that was kept, if there is one that the store knows: from which position. Nothing of it is visible
    /// before it has caught up: what was retracted since it was kept has left it by then.
    pub(super) async fn adopt_kept(&self, stop: &CancellationToken) -> Result<Option<Position>, Interrupted> {
        if self.index.is_kept() {
            let (store, runtime) = (Arc::clone(&self.store), Handle::current());
            // Commits are made on blocking threads.
            self.index.mark_by(Box::new(move |name, position| runtime.block_on(store.mark_index(name, position))));
        }
        self.open_found(stop).await?;
        let Some(found) = self.index.found() else { return Ok(None) };
        tokio::select! {
            () = stop.cancelled() => return Err(Interrupted::Stopped),
            () = self.fence.until_announced() => {}
        }
        let started = Instant::now();
        let marked = self.store.marked_index(&found.name).await?;
        if let Err(why_not) = found.check(marked) {
            let index = Arc::clone(&self.index);
            blocking(move || index.refuse_found(&why_not)).await?;
            return Ok(None);
        }
        let (position, changes) = self.catch_up(found.position(), stop).await?;
        self.fence.fill();
        self.index.finish();
        self.begin_at(position);
        let (data, duration_ms) = (self.index.snapshot().learned, started.elapsed().as_millis() as u64);
        metrics::INDEX_LOADED_RATIO.set(1.0);
        info!(data, changes, duration_ms, "goes on with the index that was kept");
        Ok(Some(position))
    }

    /// Reads the index that was kept, if that was not done yet.
    pub(super) async fn open_found(&self, stop: &CancellationToken) -> Result<(), Interrupted> {
        if !self.index.is_unread() {
            return Ok(());
        }
        self.progress.send_modify(|progress| progress.checking = true);
        let (shortest, longest) = READ_DELAYS;
        let opened = self.read_found(&mut Retry::new(shortest, longest), stop).await;
        self.progress.send_modify(|progress| progress.checking = false);
        opened
    }

    /// Reads it. Where the machine does not let it be read, that is tried again after the waits of `retry`, since loading all takes far
    /// longer. At last it is left as it is: whoever looks after the machine finds it at the next start.
    pub(super) async fn read_found(&self, retry: &mut Retry, stop: &CancellationToken) -> Result<(), Interrupted> {
        loop {
            let (index, stopped) = (Arc::clone(&self.index), stop.clone());
            let opened = tokio::task::spawn_blocking(move || index.open_found(&stopped)).await;
            if stop.is_cancelled() {
                return Err(Interrupted::Stopped);
            }
            let index = Arc::clone(&self.index);
            match opened {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => {
                    let is_told = retry.failed();
                    if retry.failures() >= READ_ATTEMPTS {
                        error!(%error, "the index that was kept cannot be read; its files are left as they are, and the index goes on in a temporary directory until a restart");
                        return Ok(blocking(move || index.leave_found()).await?);
                    }
                    if is_told {
                        warn!(%error, "the index that was kept cannot be read at present; its files are left as they are, and it is tried again");
                    }
                    if !retry.wait(stop).await {
                        return Err(Interrupted::Stopped);
                    }
                }
                Err(_) => {
                    let why_not = WhyNot::Damaged("reading it panicked".to_owned());
                    return Ok(blocking(move || index.refuse_found(&why_not)).await?);
                }
            }
        }
    }

    /// Applies what the store has had new since a position. To which position it came, by how many changes.
    async fn catch_up(&self, from: Position, stop: &CancellationToken) -> Result<(Position, usize), Interrupted> {
        let (mut position, mut count) = (from, 0);
        let goal = self.store.position().await?;
        let mut changes = self.store.follow(from).await?;
        while position < goal {
            let batch = tokio::select! {
                () = stop.cancelled() => return Err(Interrupted::Stopped),
                batch = changes.next(PULL_BATCH) => batch?,
            };
            position = position.max(batch.position);
            if batch.changes.is_empty() {
                break;
            }
            count += batch.changes.len();
            self.apply(batch.changes, Some(position)).await?;
        }
        Ok((position, count))
    }

    /// Loads all live data, after what is not live any more has left the index.
    pub(super) async fn load(&self, stop: &CancellationToken) -> Result<Position, Interrupted> {
        tokio::select! {
            () = stop.cancelled() => return Err(Interrupted::Stopped),
            () = self.fence.until_announced() => {}
        }
        // Announced once more, which is a write: so the position lies behind a change that could not be read.
        self.store.announce(&self.replica, Some(self.fence.passed())).await?;
        let position = self.store.position().await?;
        let started = Instant::now();
        self.fence.fill();
        // An index that is begun anew is shown when it is full. Until then the one before answers, from which nothing can be
        // removed any more; so this replica has passed nothing yet.
        let data = if self.index.is_filling() || self.index.is_blank() {
            if self.index.is_empty() {
                self.begin_at(position);
            }
            let data = self.load_all(position, stop).await?;
            self.begin_at(position);
            data
        } else {
            let live = self.store.live_ids().await?;
            self.remove_all_but(&live).await?;
            self.begin_at(position);
            self.load_again(stop).await?
        };
        metrics::INDEX_LOAD_SECONDS.set(started.elapsed().as_secs_f64());
        info!(data, duration_ms = started.elapsed().as_millis() as u64, "loaded the store into the index");
        Ok(position)
    }

    /// Loads all into an index in which nothing is, in parts at the same time. How many data there are.
    async fn load_all(&self, position: Position, stop: &CancellationToken) -> Result<u64, Interrupted> {
        let index = Arc::clone(&self.index);
        let loading = blocking(move || index.begin_loading()).await?;
        let loading = Arc::new(loading);
        let count = Count::begin(self).await;
        let parts = self.store.scan_in_parts(load_parts()).await?;
        let adding = TaskTracker::new();
        let load_part = async |mut scan: Scan<'_>| {
            let mut under_way = None;
            while let Some(data) = scan.next().await.transpose()? {
                if stop.is_cancelled() {
                    return Err(Interrupted::Stopped);
                }
                // The next batch is read while the one before is added.
                if let Some(added) = under_way.replace(add(&adding, &loading, &count, data)) {
                    added.await.unwrap_or_else(panicked)?;
                }
            }
            match under_way {
                Some(added) => Ok(added.await.unwrap_or_else(panicked)?),
                None => Ok::<_, Interrupted>(()),
            }
        };
        let loaded = try_join_all(parts.into_iter().map(load_part)).await;
        // Whatever came of it: there can be one writer at a time, and each batch under way holds this one.
        adding.close();
        adding.wait().await;
        loaded?;
        let index = Arc::clone(&self.index);
        let loading = Arc::into_inner(loading).expect("no batch is under way any more");
        blocking(move || index.finish_loading(loading, position)).await?;
        Ok(count.end())
    }

    /// Loads all into an index out of which is answered meanwhile. How many data there are.
    async fn load_again(&self, stop: &CancellationToken) -> Result<u64, Interrupted> {
        let mut live = HashSet::new();
        let mut scan = self.store.scan();
        let count = Count::begin(self).await;
        let (mut changes, mut bytes) = (Vec::new(), 0);
        while let Some(batch) = scan.next().await {
            if stop.is_cancelled() {
                return Err(Interrupted::Stopped);
            }
            let batch = batch?;
            count.add(batch.len());
            for datum in batch {
                live.insert(datum.id);
                bytes += datum.text.len();
                changes.push(Change::Put(Box::new(datum)));
            }
            if changes.len() >= APPLY_BATCH || bytes >= APPLY_BYTES {
                self.apply(std::mem::take(&mut changes), None).await?;
                bytes = 0;
            }
        }
        self.apply(changes, None).await?;
        // What is no datum any more, such as a document whose text somebody has made a number.
        self.remove_all_but(&live).await?;
        Ok(count.end())
    }
}

/// Into how many parts the store is divided: each processor has one to work at while another is read.
fn load_parts() -> usize {
    2 * std::thread::available_parallelism().map_or(1, usize::from).min(4)
}

/// Adds a batch to an index that is being loaded, on a blocking thread.
fn add(
    adding: &TaskTracker,
    loading: &Arc<Loading>,
    count: &Arc<Count>,
    data: Vec<StoredDatum>,
) -> JoinHandle<Result<(), IndexError>> {
    let (loading, count) = (Arc::clone(loading), Arc::clone(count));
    adding.spawn_blocking(move || {
        loading.add(&data)?;
        count.add(data.len());
        Ok(())
    })
}

/// The result of what blocks.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, IndexError> + Send + 'static,
) -> Result<T, IndexError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(panicked)
}

/// Counts what is loaded, and shows it.
struct Count {
    progress: watch::Sender<Progress>,
    loaded: AtomicU64,
    of: u64,
    began: Instant,
    logged: Mutex<Instant>,
}

impl Count {
    async fn begin(follower: &Follower) -> Arc<Self> {
        // Only to be shown.
        let of = follower.store.estimate().await.unwrap_or(0);
        let began = Instant::now();
        let (progress, logged) = (follower.progress.clone(), Mutex::new(began));
        let count = Self { progress, loaded: AtomicU64::new(0), of, began, logged };
        count.add(0);
        Arc::new(count)
    }

    fn add(&self, data: usize) {
        let data = self.loaded.fetch_add(data as u64, Ordering::Relaxed) + data as u64;
        let loaded = Loaded { data, of: self.of.max(data) };
        self.progress.send_modify(|progress| progress.loading = Some(loaded));
        metrics::INDEX_LOADED_RATIO.set(data as f64 / loaded.of.max(1) as f64);
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.elapsed() >= LOG_INTERVAL {
            *logged = Instant::now();
            let per_second = (data as f64 / self.began.elapsed().as_secs_f64()) as u64;
            info!(data, about = loaded.of, per_second, "loading the store into the index");
        }
    }

    /// How many data it were in the end.
    fn end(&self) -> u64 {
        self.progress.send_modify(|progress| progress.loading = None);
        metrics::INDEX_LOADED_RATIO.set(1.0);
        self.loaded.load(Ordering::Relaxed)
    }
}
