use tantivy::index::{SegmentId, SegmentMeta};
use tantivy::indexer::MergePolicy;

use super::files::Merging;
use super::renewing::CHECK_INTERVAL;
use super::*;
use crate::datum::Timestamp;

pub(super) fn datum(text: &str) -> StoredDatum {
    let now = Timestamp::now();
    StoredDatum {
        id: DatumId::generate(),
        text: text.to_owned(),
        passages: vec![text.to_owned()],
        received_at: now,
        processed_at: now,
        trace: None,
    }
}

pub(super) fn put(datum: &StoredDatum) -> Change {
    Change::Put(Box::new(datum.clone()))
}

fn found(index: &Index, word: &str) -> Vec<DatumId> {
    let snapshot = index.snapshot();
    let term = snapshot.look_up(&term(word)).expect("a readable index");
    snapshot.search(&[&term], 10).expect("a readable index").into_iter().map(|hit| hit.id).collect()
}

#[test]
fn a_datum_is_found_by_any_form_of_its_words_until_it_is_removed() {
    let index = Index::new().expect("a new index");
    let (one, two) = (datum("Entropy was reversed."), datum("Soup was cooked."));
    index.apply(&[put(&one), put(&two)]).expect("applied");
    assert_eq!(found(&index, "reversing"), [one.id]);
    assert!(index.contains(one.id));
    index.apply(&[Change::Removed(one.id)]).expect("applied");
    assert!(found(&index, "reversing").is_empty());
    assert!(!index.contains(one.id));
    assert_eq!(index.snapshot().learned, 1);
}

#[test]
fn applying_again_changes_nothing() {
    let index = Index::new().expect("a new index");
    let one = datum("Entropy was reversed.");
    index.apply(&[put(&one), put(&one)]).expect("applied");
    index.apply(&[put(&one)]).expect("applied");
    assert_eq!(found(&index, "entropy"), [one.id]);
    let snapshot = index.snapshot();
    assert_eq!((snapshot.learned, snapshot.passages), (1, 1));
}

#[test]
fn removed_and_put_in_one_batch_the_last_word_counts() {
    let index = Index::new().expect("a new index");
    let one = datum("Entropy was reversed.");
    index.apply(&[put(&one), Change::Removed(one.id)]).expect("applied");
    assert!(found(&index, "entropy").is_empty());
    index.apply(&[Change::Removed(one.id), put(&one)]).expect("applied");
    assert_eq!(found(&index, "entropy"), [one.id]);
}

#[test]
fn the_same_text_is_found_once_and_as_long_as_one_datum_says_it() {
    let index = Index::new().expect("a new index");
    let (one, two) = (datum("Entropy was reversed."), datum("Entropy was reversed."));
    index.apply(&[put(&one), put(&two)]).expect("applied");
    assert_eq!(found(&index, "entropy"), [one.id]);
    let snapshot = index.snapshot();
    assert_eq!((snapshot.learned, snapshot.passages, snapshot.distinct_passages), (2, 2, 1));
    index.apply(&[Change::Removed(one.id)]).expect("applied");
    assert_eq!(found(&index, "entropy"), [two.id]);
    assert_eq!(index.snapshot().passages, 1);
    index.apply(&[Change::Removed(two.id)]).expect("applied");
    assert!(found(&index, "entropy").is_empty());
}

#[test]
fn a_snapshot_stays_as_it_was() {
    let index = Index::new().expect("a new index");
    let one = datum("Entropy was reversed.");
    index.apply(&[put(&one)]).expect("applied");
    let before = index.snapshot();
    index.apply(&[Change::Removed(one.id)]).expect("applied");
    let entropy = before.look_up(&term("entropy")).expect("a readable index");
    assert_eq!(before.search(&[&entropy], 10).expect("a readable index").len(), 1);
    assert!(index.snapshot().generation > before.generation);
}

/// The directory of an index is removed under it, as systems do that clean their temporary directories.
fn lose(index: &Index) {
    std::fs::remove_dir_all(index.files().directory.path()).expect("it is there");
}

#[test]
fn an_index_whose_files_are_removed_is_lost_and_answers_until_another_is_full() {
    let index = Index::new().expect("a new index");
    let (one, two) = (datum("Entropy was reversed."), datum("Soup was cooked."));
    index.apply(&[put(&one), put(&two)]).expect("applied");
    assert!(!index.is_lost());
    lose(&index);
    assert!(index.is_lost());
    assert_eq!(found(&index, "entropy"), [one.id], "its segments are still mapped");

    index.begin_anew().expect("a new directory");
    assert!(!index.is_lost());
    // Half of it is filled: that is not shown, as if it were all.
    index.apply(&[put(&two)]).expect("applied");
    assert_eq!((found(&index, "entropy"), found(&index, "soup")), (vec![one.id], vec![two.id]));
    assert_eq!(index.snapshot().learned, 2);
    assert!(index.contains(one.id));
    assert_eq!(index.present_but_not_in(&HashSet::new()), [two.id]);
    index.finish();
    assert!(found(&index, "entropy").is_empty() && !index.contains(one.id));
    assert_eq!((found(&index, "soup"), index.snapshot().learned), (vec![two.id], 1));
    index.apply(&[put(&one)]).expect("applied");
    assert_eq!(found(&index, "entropy"), [one.id]);
}

#[test]
fn an_index_is_lost_with_any_of_its_files() {
    let index = Index::new().expect("a new index");
    index.apply(&[put(&datum("Entropy was reversed."))]).expect("applied");
    index.move_fresh().expect("moved");
    for extension in ["idx", "pos", "term", "store", "fast", "fieldnorm", "json"] {
        let files = std::fs::read_dir(index.files().directory.path()).expect("it is there");
        let file = files.map(|file| file.expect("it is there").path()).find(|path| {
            path.extension().is_some_and(|end| end == extension)
                && path.file_name().is_some_and(|name| name != ".managed.json")
        });
        let file = file.expect("there is one");
        let kept = file.with_extension("kept");
        std::fs::rename(&file, &kept).expect("renamed");
        assert!(index.is_lost(), "without {}", file.display());
        std::fs::rename(&kept, &file).expect("renamed");
        assert!(!index.is_lost());
    }
}

#[test]
fn a_snapshot_lets_go_of_segments_that_were_merged_since() {
    let index = Index::new().expect("a new index");
    let (one, two) = (datum("Entropy was reversed."), datum("Soup was cooked."));
    for datum in [&one, &two] {
        index.apply(&[put(datum)]).expect("applied");
        index.move_fresh().expect("moved");
    }
    let before = index.snapshot();
    assert_eq!(before.segments.searcher.segment_readers().len(), 2);
    {
        let mut writer = index.writer.lock().expect("no panic");
        let mut files = index.files();
        let segments = files.index.searchable_segment_ids().expect("a readable index");
        writer.as_mut().expect("it has committed").merge(&segments).wait().expect("merged");
        files.checked = Instant::now().checked_sub(CHECK_INTERVAL).expect("the machine runs for longer");
    }
    assert!(index.check().is_ok());
    let after = index.snapshot();
    assert_eq!(after.segments.searcher.segment_readers().len(), 1);
    assert_eq!((after.generation, after.learned), (before.generation, 2), "it holds the same");
    assert_eq!((found(&index, "entropy"), found(&index, "soup")), (vec![one.id], vec![two.id]));
}

#[test]
fn large_texts_do_not_wait_in_memory() {
    let index = Index::new().expect("a new index");
    let large = datum(&"Entropy was reversed. ".repeat(LARGE_SIZE / 20));
    index.apply(&[put(&datum("Soup was cooked.")), put(&large)]).expect("applied");
    assert!(index.snapshot().fresh.is_empty());
    assert_eq!(found(&index, "entropy"), [large.id]);
    index.apply(&[put(&datum("Stars went out."))]).expect("applied");
    assert_eq!(index.snapshot().fresh.len(), 1, "small ones do");
}

#[test]
fn a_load_that_broke_off_leaves_no_files_for_the_next() {
    let index = Index::new().expect("a new index");
    let files = || std::fs::read_dir(index.files().directory.path()).expect("it is there").count();
    let data: Vec<StoredDatum> = (0..50).map(|n| datum(&format!("Star {n} went out."))).collect();
    let before = files();
    for _ in 0..3 {
        index.begin_loading().expect("begun").add(&data).expect("added");
    }
    let loading = index.begin_loading().expect("begun");
    let left = files() - before;
    assert!(left <= 2, "{left} files, while nothing is in it");
    loading.add(&data).expect("added");
    index.finish_loading(loading, crate::store::Position(1)).expect("loaded");
    assert_eq!(index.snapshot().learned, 50);
}

#[test]
fn large_segments_are_not_merged_again() {
    let index = Index::new().expect("a new index");
    let files = index.files();
    let merged = |sizes: &[u32]| {
        let new = |size: &u32| files.index.new_segment_meta(SegmentId::generate_random(), *size);
        let segments: Vec<SegmentMeta> = sizes.iter().map(new).collect();
        let candidates = Merging.compute_merge_candidates(&segments);
        let size_of = |id: &SegmentId| segments.iter().find(|segment| segment.id() == *id).map(SegmentMeta::max_doc);
        let mut merged: Vec<u32> = candidates.iter().flat_map(|merge| &merge.0).filter_map(size_of).collect();
        merged.sort_unstable();
        merged
    };
    assert!(merged(&[300; 4]).is_empty());
    assert_eq!(merged(&[300; 5]), [300; 5]);
    // What fills an index makes such segments, which were merged until now.
    assert!(merged(&[102_400; 13]).is_empty());
    assert_eq!(merged(&[[400_000; 6], [20_000; 6]].concat()), [20_000; 6]);
    // Loading leaves many of a size: not all of them at once, which would take the room of the whole index once more.
    assert_eq!(merged(&[90_000; 30]).len(), 7);
    // Of a large index, a sixteenth.
    assert_eq!(merged(&[[2_000_000; 6], [500_000; 6]].concat()), [500_000; 6]);
}
