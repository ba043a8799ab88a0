//! Tests of `watched.rs`, on a real index.

use std::collections::BTreeMap;

use tokio::time::advance;

use super::*;
use crate::datum::{Datum, Timestamp};
use crate::index::Index;
use crate::process::process;
use crate::queue::Job;
use crate::store::Change;

const QUESTION: &str = "What do penguins eat?";

struct World {
    index: Arc<Index>,
    answers: WatchedAnswers,
}

impl World {
    fn new(max: usize) -> Self {
        let index = Arc::new(Index::new().expect("a new index"));
        let standing = StandingAnswer::new(QUESTION.parse().expect("a question"), 0.3, Arc::clone(&index));
        Self { index, answers: WatchedAnswers::new(Arc::new(standing), max) }
    }

    fn apply(&self, changes: &[Change]) {
        self.index.apply(changes).expect("applied");
    }

    fn learn(&self, text: &str) -> DatumId {
        let (id, change) = put(text);
        self.apply(&[change]);
        id
    }

    fn watch(&self, question: &str) -> Result<Watcher, TooManyWatched> {
        self.answers.watch(Some(question.parse().expect("a question")))
    }

    /// The standing answer is watched, and known.
    fn watcher(&self) -> Watcher {
        let watcher = self.answers.watch(None).expect("there is room");
        refresh(&watcher);
        watcher
    }
}

fn put(text: &str) -> (DatumId, Change) {
    let (id, now) = (DatumId::generate(), Timestamp::now());
    let job = Job { id, datum: Datum::accepted_before(text), received_at: now, trace: None };
    (id, Change::Put(Box::new(process(&job, now))))
}

fn refresh(watcher: &Watcher) {
    watcher.answer.refresh().expect("a readable index");
}

fn present(watcher: &Watcher) -> Arc<AnswerChange> {
    watcher.answer.present().expect("it was refreshed")
}

/// The only change since that one.
fn one_change(watcher: &Watcher, since: ChangeId) -> Arc<AnswerChange> {
    refresh(watcher);
    let changes = watcher.answer.changes_after(since).expect("they are kept");
    assert_eq!(changes.len(), 1);
    Arc::clone(&changes[0])
}

#[tokio::test]
async fn a_change_tells_what_the_answer_was_and_which_datum_tipped_it() {
    let world = World::new(1);
    let watcher = world.watcher();
    let first = present(&watcher);
    assert!(first.before.is_none() && first.because.is_none());

    let id = world.learn("Penguins eat krill.");
    let learned = one_change(&watcher, first.id);
    assert_eq!(learned.answer.text(), "Penguins eat krill.");
    assert_eq!(learned.before.as_deref(), Some(&*first.answer));
    assert_eq!(learned.because, Some(RecentChange { id, kind: Kind::Learned }));

    world.apply(&[Change::Removed(id)]);
    let retracted = one_change(&watcher, learned.id);
    assert_eq!(retracted.answer.answer, None);
    assert_eq!(retracted.because, Some(RecentChange { id, kind: Kind::Retracted }));
}

#[tokio::test]
async fn the_datum_that_tipped_it_is_found_among_many_that_came_and_went() {
    let world = World::new(1);
    let others: Vec<DatumId> = (0..20).map(|n| world.learn(&format!("Star number {n} went out."))).collect();
    let watcher = world.watcher();
    let first = present(&watcher);
    let (id, krill) = put("Penguins eat krill.");
    let mut batch: Vec<Change> = others.iter().take(5).map(|id| Change::Removed(*id)).collect();
    batch.push(krill);
    batch.extend((0..20).map(|n| put(&format!("Moon number {n} went out.")).1));
    world.apply(&batch);
    // What came in between is passed over.
    world.learn("Nothing eats penguins in the zoo.");
    let learned = one_change(&watcher, first.id);
    assert_eq!(learned.because, Some(RecentChange { id, kind: Kind::Learned }));

    let mut batch: Vec<Change> = others.iter().skip(5).map(|id| Change::Removed(*id)).collect();
    batch.insert(7, Change::Removed(id));
    world.apply(&batch);
    let retracted = one_change(&watcher, learned.id);
    assert_eq!(retracted.because, Some(RecentChange { id, kind: Kind::Retracted }));
}

#[tokio::test]
async fn a_datum_that_leaves_the_answer_as_it_is_makes_no_change() {
    let world = World::new(1);
    world.learn("Penguins eat krill.");
    let mut watcher = world.watcher();
    let first = present(&watcher);
    world.learn("Multivac was built by Adell and Lupov.");
    world.learn("Penguins eat krill.");
    refresh(&watcher);
    assert_eq!(watcher.answer.changes_after(first.id).expect("nothing is missing").len(), 0);
    assert_eq!((present(&watcher).id, present(&watcher).answer.learned), (first.id, 3), "and yet it is up to date");
    let nothing = tokio::time::timeout(Duration::ZERO, watcher.changed()).await;
    assert!(nothing.is_err());
}

#[tokio::test]
async fn a_change_is_told_without_what_was_retracted_since_unless_that_is_its_answer() {
    let world = World::new(1);
    let watcher = world.watcher();
    let nothing = present(&watcher);
    let krill = world.learn("Penguins eat krill.");
    let rocks = world.learn("Nobody knows what penguins eat on the rocks of the south.");
    let change = one_change(&watcher, nothing.id);
    let shown = |answer: &Answer| answer.evidence.iter().map(|evidence| evidence.id).collect::<Vec<_>>();
    assert_eq!((change.answer.text(), shown(&change.answer)), ("Penguins eat krill.", vec![krill, rocks]));
    world.learn("Multivac was built by Adell and Lupov.");
    assert!(change.still_holds(&world.index));

    world.apply(&[Change::Removed(rocks)]);
    assert!(!change.still_holds(&world.index));
    let left = change.without_retracted(&world.index).expect("its answer stands");
    assert_eq!((left.text(), shown(&left)), ("Penguins eat krill.", vec![krill]));
    refresh(&watcher);
    assert_eq!(present(&watcher).id, change.id, "no other change comes of that");

    world.apply(&[Change::Removed(krill)]);
    assert_eq!(change.without_retracted(&world.index), None);
    assert_eq!(
        nothing.without_retracted(&world.index).as_ref(),
        Some(&*nothing.answer),
        "that there was none stays true"
    );
    assert_ne!(one_change(&watcher, change.id).id, change.id);
}

/// Has the answer change `count` times.
fn flip(world: &World, watcher: &Watcher, count: usize) {
    let mut last = None;
    for _ in 0..count {
        match last.take() {
            Some(id) => world.apply(&[Change::Removed(id)]),
            None => last = Some(world.learn("Penguins eat krill.")),
        }
        refresh(watcher);
    }
}

#[tokio::test(start_paused = true)]
async fn changes_are_kept_for_a_minute() {
    let world = World::new(1);
    let watcher = world.watcher();
    let first = present(&watcher).id;
    flip(&world, &watcher, 2);
    advance(Duration::from_secs(40)).await;
    flip(&world, &watcher, 1);
    let numbers = |id: &ChangeId| {
        let changes = watcher.answer.changes_after(*id)?;
        Some(changes.iter().map(|change| change.id.number).collect::<Vec<_>>())
    };
    assert_eq!(numbers(&first), Some(vec![1, 2, 3]));
    advance(Duration::from_secs(20)).await;
    assert_eq!(numbers(&first), Some(vec![1, 2, 3]), "a minute, to the moment");
    advance(Duration::from_millis(1)).await;
    assert_eq!(numbers(&first), None, "not all of them are known");
    assert_eq!(numbers(&ChangeId { number: 2, ..first }), Some(vec![3]));
    assert_eq!(numbers(&ChangeId { number: 3, ..first }), Some(vec![]));
    assert_eq!(numbers(&ChangeId { number: 4, ..first }), None, "it has not been");
    assert_eq!(numbers(&ChangeId { epoch: !first.epoch, ..first }), None, "another's");
}

#[tokio::test]
async fn what_is_kept_is_bounded_in_bytes_and_in_number() {
    let world = World::new(1);
    let watcher = world.watcher();
    let first = present(&watcher);
    let mut history = watcher.answer.history();
    for (passage, kept) in [(2_000, 45), (0, MAX_CHANGES)] {
        let id = DatumId::generate();
        let passage_text = "x".repeat(passage);
        let one = Evidence {
            id,
            passage: passage_text,
            matched: vec![],
            score: 0.5,
            stance: None,
            features: BTreeMap::new(),
        };
        let answer =
            Arc::new(Answer { evidence: vec![one; if passage > 0 { 10 } else { 0 }], ..Answer::clone(&first.answer) });
        for number in 1..=2_000 {
            history.keep(Arc::new(AnswerChange {
                id: ChangeId { number, ..first.id },
                answer: Arc::clone(&answer),
                before: Some(Arc::clone(&answer)),
                because: None,
                generation: number,
                written: OnceLock::new(),
                at: Instant::now(),
            }));
        }
        assert_eq!(history.changes.len(), kept);
        assert_eq!(history.changes.back().map(|change| change.id.number), Some(2_000));
        let bytes: usize = history.changes.iter().map(|change| change.size()).sum();
        assert!(history.bytes == bytes && bytes <= MAX_BYTES, "{bytes}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_question_has_its_place_until_another_needs_it_after_the_last_watcher_has_left() {
    let world = World::new(2);
    let one = world.watch("one?").expect("there is room");
    let two = world.watch("two?").expect("there is room");
    assert!(world.watch("two?").is_ok(), "it is watched already");
    assert!(world.answers.watch(None).is_ok(), "the standing one has a place of its own");
    assert_eq!(world.watch("three?").err(), Some(TooManyWatched));
    let epoch = |watcher: &Watcher| watcher.answer.epoch;
    let of_one = epoch(&one);
    drop(one);
    let again = world.watch("one?").expect("it is kept");
    assert_eq!(epoch(&again), of_one);
    drop(again);
    assert!(world.watch("three?").is_ok(), "nobody watches the first any more");
    let one = world.watch("one?").expect("nobody watches the third any more");
    assert_ne!(epoch(&one), of_one, "it was forgotten");
    drop((one, two));
}

#[tokio::test(start_paused = true)]
async fn a_question_that_nobody_has_watched_for_a_minute_is_forgotten() {
    let world = World::new(2);
    let watcher = world.watcher();
    let mut another = world.watch("Who built Multivac?").expect("there is room");
    assert_eq!(world.answers.behind().len(), 1, "the other is known");
    drop(watcher);
    advance(Duration::from_secs(59)).await;
    refresh(&another);
    world.learn("Multivac was built by Adell and Lupov.");
    assert_eq!(world.answers.behind().len(), 2, "for one who comes back");
    advance(Duration::from_secs(2)).await;
    let behind = world.answers.behind();
    assert_eq!(behind.len(), 1);
    assert_eq!(behind[0].question().as_str(), "Who built Multivac?");
    refresh(&another);
    another.changed().await;
    assert_eq!(world.answers.behind().len(), 0, "worked out once for a state of the index");
}

#[test]
fn an_id_is_read_as_it_is_written_and_nothing_else_is() {
    let id = ChangeId { epoch: 0xabc, number: 17 };
    assert_eq!(id.to_string(), "0000000000000abc-17");
    assert_eq!("0000000000000abc-17".parse(), Ok(id));
    for text in [
        "",
        "-",
        "abc-17",
        "0000000000000ABC-17",
        "0000000000000abc-017",
        "0000000000000abc-+17",
        "0000000000000abc",
        "0000000000000abc-",
        "0000000000000abc-18446744073709551616",
        "0000000000000abc--1",
        "é-1",
    ] {
        assert_eq!(text.parse::<ChangeId>(), Err(NoChangeId), "{text}");
    }
}

proptest::proptest! {
    #[test]
    fn any_text_is_an_id_or_none(text in "([0-9a-f]{0,17}-?[0-9]{0,21}|.{0,30})") {
        if let Ok(id) = text.parse::<ChangeId>() {
            proptest::prop_assert_eq!(id.to_string(), text);
        }
    }
}
