//! Whatever is in memory, in segments, or on the way from one to the other, a question sees one index.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::datum::Timestamp;

/// What happens to an index.
#[derive(Debug, Clone)]
enum Step {
    /// A datum comes, or comes again with other passages.
    Put {
        datum: usize,
        passages: Vec<usize>,
    },
    Remove {
        datum: usize,
    },
    /// Several at once, with a commit.
    Batch(Vec<(usize, Option<Vec<usize>>)>),
    BeginMove,
    FinishMove,
}

/// Few data and passages, so that they meet.
const DATA: usize = 6;
const PASSAGES: [&str; 6] = [
    "Entropy was reversed by the last computer.",
    "The last computer asked for more data about entropy, and then for more time.",
    "Stars went out.",
    "Soup was cooked by the computer.",
    "Data, data, data: the computer wanted nothing but data.",
    "Nobody reversed entropy before the last star went out, said the computer to itself, for nobody else was left.",
];
const WORDS: [&str; 7] = ["entropy", "computer", "data", "star", "soup", "out", "nothing"];

fn step() -> impl Strategy<Value = Step> {
    let passages = || prop::collection::vec(0..PASSAGES.len(), 0..4);
    let change = (0..DATA, prop::option::weighted(0.7, passages()));
    prop_oneof![
        4 => (0..DATA, passages()).prop_map(|(datum, passages)| Step::Put { datum, passages }),
        2 => (0..DATA).prop_map(|datum| Step::Remove { datum }),
        1 => prop::collection::vec(change, 1..4).prop_map(Step::Batch),
        2 => Just(Step::BeginMove),
        2 => Just(Step::FinishMove),
    ]
}

fn datum(id: DatumId, passages: &[usize]) -> StoredDatum {
    let now = Timestamp::now();
    let passages = passages.iter().map(|at| PASSAGES[*at].to_owned()).collect();
    StoredDatum { id, text: String::new(), passages, received_at: now, processed_at: now, trace: None }
}

/// What is found by a word: each passage with its score, and who is said to say it.
fn found(snapshot: &Snapshot, word: &str) -> BTreeMap<String, (f32, DatumId)> {
    let term = snapshot.look_up(&term(word)).expect("a readable index");
    let hits = snapshot.search(&[&term], 100).expect("a readable index");
    let count = hits.len();
    let found: BTreeMap<_, _> = hits.into_iter().map(|hit| (hit.passage, (hit.score, hit.id))).collect();
    assert_eq!(found.len(), count, "a passage is found once");
    found
}

/// Everything that can be seen of an index, but which of several data a passage is said to be from.
fn seen(snapshot: &Snapshot) -> (Vec<Vec<String>>, [u64; 4]) {
    let passages = WORDS.iter().map(|word| found(snapshot, word).into_keys().collect()).collect();
    (passages, [snapshot.learned, snapshot.passages, snapshot.distinct_passages, snapshot.tokens])
}

/// How much the best passages have of two words, by BM25 and by how much they have.
fn covering(snapshot: &Snapshot, words: &[&str]) -> Vec<u32> {
    let terms: Vec<Indexed> = words.iter().map(|word| snapshot.look_up(&term(word)).expect("readable")).collect();
    let hits = snapshot.search_widely(&terms.iter().collect::<Vec<_>>(), 2, 2).expect("a readable index");
    hits.iter().map(|hit| hit.coverage).collect()
}

fn check(index: &Index, live: &BTreeMap<DatumId, Vec<usize>>, is_exact: bool) {
    {
        let files = index.files();
        let is_any = !files.fresh.is_empty() || !files.hidden.is_empty();
        assert!(files.oldest.is_some() || files.is_moving() || !is_any, "it will be moved");
    }
    let fresh = Index::new().expect("a new index");
    let all: Vec<Change> = live.iter().map(|(id, passages)| Change::Put(Box::new(datum(*id, passages)))).collect();
    fresh.apply_in_segments(&last_changes(&all), None).expect("applied");
    let (snapshot, fresh) = (index.snapshot(), fresh.snapshot());
    assert_eq!(seen(&snapshot), seen(&fresh));
    for words in WORDS.windows(2).filter(|_| is_exact) {
        assert_eq!(covering(&snapshot, words), covering(&fresh, words), "{words:?}");
    }
    for word in WORDS {
        for ((passage, (score, id)), (_, (expected, _))) in found(&snapshot, word).iter().zip(found(&fresh, word)) {
            assert!(live[id].iter().any(|at| PASSAGES[*at] == passage), "{id} says: {passage}");
            // Segments count the words of what was removed from them until they are merged.
            assert!(!is_exact || (score - expected).abs() < 1e-4, "{word}: {passage}: {score}, not {expected}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn whatever_happens_it_answers_as_one_that_was_made_anew(steps in prop::collection::vec(step(), 1..24)) {
        let index = Index::new().expect("a new index");
        let ids: Vec<DatumId> = (0..DATA).map(|_| DatumId::generate()).collect();
        let (mut live, mut is_exact, mut moving) = (BTreeMap::new(), true, None);
        let mut before = Vec::new();
        for step in steps {
            let mut apply = |changes: &[(usize, Option<Vec<usize>>)], in_segments: bool| {
                for (at, passages) in changes {
                    is_exact &= match passages {
                        Some(passages) => live.insert(ids[*at], passages.clone()).is_none(),
                        None => live.remove(&ids[*at]).is_none(),
                    };
                }
                let changes: Vec<Change> = changes.iter().map(|(at, passages)| match passages {
                    Some(passages) => Change::Put(Box::new(datum(ids[*at], passages))),
                    None => Change::Removed(ids[*at]),
                }).collect();
                if in_segments {
                    index.apply_in_segments(&last_changes(&changes), None).expect("applied");
                } else {
                    index.apply(&changes).expect("applied");
                }
            };
            match step {
                Step::Put { datum, passages } => apply(&[(datum, Some(passages))], false),
                Step::Remove { datum } => apply(&[(datum, None)], false),
                // It waits for a move that is under way.
                Step::Batch(changes) => apply(&changes, moving.is_none()),
                Step::BeginMove if moving.is_none() => moving = index.begin_move(),
                Step::BeginMove => {}
                Step::FinishMove => {
                    if let Some(moved) = moving.take() {
                        index.finish_move(&mut index.writer.lock().expect("no panic"), &moved).expect("moved");
                    }
                }
            }
            check(&index, &live, is_exact);
            let snapshot = index.snapshot();
            before.push((seen(&snapshot), snapshot));
        }
        for (then, snapshot) in before {
            prop_assert_eq!(seen(&snapshot), then, "a snapshot stays as it was");
        }
    }
}

#[test]
fn a_move_that_fails_loses_nothing_and_doubles_nothing() {
    let index = Index::new().expect("a new index");
    let ids: Vec<DatumId> = (0..DATA).map(|_| DatumId::generate()).collect();
    let put = |at: usize| index.apply(&[Change::Put(Box::new(datum(ids[at], &[at])))]).expect("applied");
    put(0);
    index.move_fresh().expect("moved");
    put(1);
    // Files that cannot be made: as on a full disk.
    let path = index.files().directory.path().to_owned();
    let away = path.with_extension("away");
    std::fs::rename(&path, &away).expect("renamed");
    index.move_fresh().expect_err("there is no directory");
    put(2);
    index.apply(&[Change::Removed(ids[0])]).expect("applied");
    index.move_fresh().expect_err("there is no directory");
    std::fs::rename(&away, &path).expect("renamed");
    let live = BTreeMap::from([(ids[1], vec![1]), (ids[2], vec![2])]);
    check(&index, &live, false);
    index.move_fresh().expect("moved");
    assert!(index.snapshot().fresh.is_empty() && !index.is_lost());
    check(&index, &live, false);
}
