//! Whether the files of an index are whole, as their checksums say.

use std::iter;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tantivy::index::{SegmentComponent, SegmentMeta};
use tokio_util::sync::CancellationToken;

use super::kept::WhyNot;

/// Reads all files of the last commit. Stopped, it ends after the file that it is at.
pub(super) fn check(index: &tantivy::Index, stop: &CancellationToken) -> Result<(), WhyNot> {
    let segments = index.searchable_segment_metas().map_err(|error| WhyNot::of(&error))?;
    let files: Vec<PathBuf> = segments.iter().flat_map(files_of).collect();
    on_all_processors(&files, stop, &|file, (): &mut ()| match index.directory().validate_checksum(file) {
        Ok(true) => Ok(()),
        Ok(false) => Err(WhyNot::Damaged(format!("{} has another checksum", file.display()))),
        Err(error) => Err(WhyNot::of(&error.into())),
    })
    .map(|_| ())
}

/// Does work on each of these, on all processors at once as far as the system gives threads; what each thread has made out of those
/// that it took. Where it fails with one, or is stopped, no other is begun.
pub(super) fn on_all_processors<I: Sync, T: Default + Send>(
    items: &[I],
    stop: &CancellationToken,
    work: &(impl Fn(&I, &mut T) -> Result<(), WhyNot> + Sync),
) -> Result<Vec<T>, WhyNot> {
    let next = AtomicUsize::new(0);
    let share = || {
        let mut made = T::default();
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            let done = if stop.is_cancelled() { Err(WhyNot::Stopped) } else { work(item, &mut made) };
            if done.is_err() {
                next.store(items.len(), Ordering::Relaxed);
            }
            done?;
        }
        Ok(made)
    };
    let others = thread::available_parallelism().map_or(0, |all| all.get() - 1);
    thread::scope(|scope| {
        let others: Vec<_> =
            (0..others).map_while(|_| thread::Builder::new().spawn_scoped(scope, share).ok()).collect();
        let own = iter::once_with(share);
        let panicked = |_| WhyNot::Damaged("reading it panicked".to_owned());
        own.chain(others.into_iter().map(|other| other.join().map_err(panicked)?)).collect()
    })
}

/// The files that a segment has.
pub(super) fn files_of(segment: &SegmentMeta) -> impl Iterator<Item = PathBuf> {
    let deletes = segment.has_deletes().then_some(SegmentComponent::Delete);
    let always = [
        SegmentComponent::Terms,
        SegmentComponent::Postings,
        SegmentComponent::Positions,
        SegmentComponent::FieldNorms,
        SegmentComponent::FastFields,
        SegmentComponent::Store,
    ];
    always.into_iter().chain(deletes).map(|part| segment.relative_path(part))
}
