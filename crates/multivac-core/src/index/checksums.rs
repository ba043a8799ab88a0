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
    let next = AtomicUsize::new(0);
    let check = || {
        while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            if stop.is_cancelled() {
                return Err(WhyNot::Stopped);
            }
            match index.directory().validate_checksum(file) {
                Ok(true) => {}
                Ok(false) => return Err(WhyNot::Damaged(format!("{} has another checksum", file.display()))),
                Err(error) => return Err(WhyNot::of(&error.into())),
            }
        }
        Ok(())
    };
    by_all_processors(&check).map(|_| ())
}

/// Has work that is divided among those who do it done on all processors at once, as far as the system gives threads.
pub(super) fn by_all_processors<T: Send>(work: &(impl Fn() -> Result<T, WhyNot> + Sync)) -> Result<Vec<T>, WhyNot> {
    let others = thread::available_parallelism().map_or(0, |all| all.get() - 1);
    thread::scope(|scope| {
        let others = (0..others).map_while(|_| thread::Builder::new().spawn_scoped(scope, work).ok());
        let others: Vec<_> = others.collect();
        let own = iter::once_with(work);
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
