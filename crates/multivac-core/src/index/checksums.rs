//! Whether the files of an index are whole, as their checksums say.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tantivy::index::{SegmentComponent, SegmentMeta};
use tokio_util::sync::CancellationToken;

use super::kept::WhyNot;

/// Reads all files of the last commit. Stopped, it ends after the file that it is at.
pub(super) fn check(index: &tantivy::Index, stop: &CancellationToken) -> Result<(), WhyNot> {
    let damaged = |what: String| WhyNot::Damaged(what);
    let segments = index.searchable_segment_metas().map_err(|error| damaged(error.to_string()))?;
    let files: Vec<PathBuf> = segments.iter().flat_map(files_of).collect();
    let next = AtomicUsize::new(0);
    let check = || {
        while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            if stop.is_cancelled() {
                return Err(WhyNot::Stopped);
            }
            match index.directory().validate_checksum(file) {
                Ok(true) => {}
                Ok(false) => return Err(damaged(format!("{} has another checksum", file.display()))),
                Err(error) => return Err(damaged(error.to_string())),
            }
        }
        Ok(())
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let checks: Vec<_> = (0..threads).map(|_| scope.spawn(check)).collect();
        checks.into_iter().try_for_each(|check| check.join().map_err(|_| damaged("it cannot be read".to_owned()))?)
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
