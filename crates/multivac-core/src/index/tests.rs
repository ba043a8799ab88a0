use super::*;
use crate::datum::Timestamp;

fn datum(text: &str) -> StoredDatum {
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

fn put(datum: &StoredDatum) -> Change {
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
