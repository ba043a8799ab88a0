use std::collections::BTreeMap;

use proptest::prelude::*;
use tantivy::query::Bm25Weight;
use tantivy::schema::IndexRecordOption;

use super::postings::{Scoring, scaled, unscaled};
use super::search::{Found, Limits, TIED, Wanted, best_in_segments};
use super::tests::{datum, put};
use super::*;

/// The terms of the tests' passages, which no stemming changes.
const TERMS: [&str; 5] = ["aa", "bb", "cc", "dd", "ee"];

/// An index of these passages, with a commit after each batch.
fn index_of(batches: &[Vec<String>]) -> Index {
    let index = Index::new().expect("a new index");
    for batch in batches {
        let changes: Vec<Change> = batch.iter().map(|text| put(&datum(text))).collect();
        index.apply_in_segments(&last_changes(&changes), None).expect("applied");
    }
    index
}

fn indexed(snapshot: &Snapshot, terms: &[&str]) -> Vec<Indexed> {
    terms.iter().map(|word| snapshot.look_up(&term(word)).expect("a readable index")).collect()
}

fn bm25(max: usize) -> Wanted {
    Wanted { scoring: Scoring::Bm25, above: 0, max }
}

fn best(snapshot: &Snapshot, terms: &[&str], max: usize, limits: Limits) -> Found {
    let terms = indexed(snapshot, terms);
    let weights: Vec<_> = terms.iter().map(|term| (term, snapshot.weight(term))).collect();
    best_in_segments(&snapshot.segments.searcher, &weights, &|_| false, bm25(max), limits).expect("a readable index")
}

/// The scores of all passages that hold any of the terms, best first, without any pruning.
fn scores_of_all(snapshot: &Snapshot, terms: &[&str]) -> Vec<u32> {
    scores_by(Scoring::Bm25, snapshot, terms)
}

fn scores_by(scoring: Scoring, snapshot: &Snapshot, terms: &[&str]) -> Vec<u32> {
    let mut scores: BTreeMap<(u32, u32), u32> = BTreeMap::new();
    for term in indexed(snapshot, terms) {
        let weight = snapshot.weight(&term);
        for (number, segment) in (0..).zip(snapshot.segments.searcher.segment_readers()) {
            let field = term.term.field();
            let lengths = segment.get_fieldnorms_reader(field).expect("readable");
            let list = segment.inverted_index(field).expect("readable");
            let list = list.read_block_postings(&term.term, IndexRecordOption::WithFreqs).expect("readable");
            let Some(mut list) = list else { continue };
            while list.block_len() > 0 {
                for (document, occurrences) in list.docs().iter().zip(list.freqs()) {
                    let score = scoring.score(&weight, lengths.fieldnorm_id(*document), *occurrences);
                    if !segment.is_deleted(*document) {
                        *scores.entry((number, *document)).or_default() += score;
                    }
                }
                list.advance();
            }
        }
    }
    let mut scores: Vec<u32> = scores.into_values().collect();
    scores.sort_unstable_by(|a, b| b.cmp(a));
    scores
}

fn scores(found: &Found) -> Vec<u32> {
    found.best.iter().map(|(score, _)| *score).collect()
}

fn first_scores(found: &Found, max: usize) -> Vec<u32> {
    let mut scores = scores(found);
    scores.truncate(max);
    scores
}

fn batches() -> impl Strategy<Value = Vec<Vec<String>>> {
    // The first terms are rare, the last are almost everywhere.
    let word = prop_oneof![
        1 => Just("aa"), 2 => Just("bb"), 6 => Just("cc"), 20 => Just("dd"), 40 => Just("ee"), 30 => Just("other")
    ];
    let passage = proptest::collection::vec(word, 1..12).prop_map(|words| words.join(" "));
    let batch = proptest::collection::vec(passage, 1..300);
    proptest::collection::vec(batch, 1..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_search_finds_what_scoring_all_passages_finds(
        batches in batches(),
        terms in proptest::sample::subsequence(&TERMS[..], 1..=5),
        max in 1..20_usize,
        brought in 1..400_u64,
        looked_up in 0..400_u64,
    ) {
        let snapshot = index_of(&batches).snapshot();
        let all = scores_of_all(&snapshot, &terms);
        let expected = &all[..all.len().min(max)];
        let within = best(&snapshot, &terms, max, Limits::USUAL);
        prop_assert!(within.exact);
        // Those that are as good as the last come with it.
        let last = expected.last().copied().unwrap_or_default();
        let with_equal = all.iter().filter(|score| **score >= last).count().min(max + TIED);
        prop_assert_eq!(scores(&within), &all[..with_equal]);
        // Where a limit cut something off that could have been among the best, it says so.
        let limited = best(&snapshot, &terms, max, Limits { brought, looked_up });
        prop_assert!(!limited.exact || first_scores(&limited, max) == expected);
        // Where all may be brought, nothing is cut off, however few may be looked up.
        let brought = indexed(&snapshot, &terms).iter().map(|term| term.frequency).sum();
        let all_brought = best(&snapshot, &terms, max, Limits { brought, looked_up });
        prop_assert!(all_brought.exact);
        prop_assert_eq!(first_scores(&all_brought, max), expected);
    }

    #[test]
    fn those_that_have_most_of_the_terms_are_found_beside_the_best(
        batches in batches(),
        terms in proptest::sample::subsequence(&TERMS[..], 2..=5),
        max in 1..6_usize,
        covering in 1..6_usize,
    ) {
        let snapshot = index_of(&batches).snapshot();
        let indexed = indexed(&snapshot, &terms);
        let hits = snapshot.search_widely(&indexed.iter().collect::<Vec<_>>(), max, covering).expect("a readable index");
        let best: Vec<u32> = hits.iter().take(max).map(|hit| (hit.score * 65_536.0) as u32).collect();
        prop_assert_eq!(&best[..], &scores_of_all(&snapshot, &terms)[..best.len()]);
        let mut coverages: Vec<u32> = hits.iter().map(|hit| hit.coverage).collect();
        coverages.sort_unstable_by(|a, b| b.cmp(a));
        let expected = &scores_by(Scoring::Coverage, &snapshot, &terms);
        let count = if max < covering { 0 } else { covering.min(expected.len()).min(coverages.len()) };
        prop_assert_eq!(&coverages[..count], &expected[..count]);
        // They have the score that the first search would have given them.
        let bm25 = scores_of_all(&snapshot, &terms);
        prop_assert!(hits.iter().all(|hit| bm25.iter().any(|score| unscaled(*score) == hit.score)));
    }

    #[test]
    fn which_of_equal_passages_are_found_does_not_depend_on_where_they_lie(
        words in proptest::collection::vec(0..3_usize, 20..120),
        cuts in proptest::collection::vec((1..40_usize, any::<bool>()), 3..8),
        max in 1..20_usize,
    ) {
        let data: Vec<StoredDatum> =
            words.iter().enumerate().map(|(at, word)| datum(&format!("{} ee {at}", TERMS[*word]))).collect();
        let found = |data: &mut dyn Iterator<Item = &StoredDatum>| {
            let index = Index::new().expect("a new index");
            for (count, in_segments) in cuts.iter().cycle() {
                let changes: Vec<Change> = data.take(*count).map(put).collect();
                if changes.is_empty() {
                    break;
                }
                match in_segments {
                    true => index.apply_in_segments(&last_changes(&changes), None).expect("applied"),
                    false => index.apply(&changes).expect("applied"),
                }
            }
            let snapshot = index.snapshot();
            let terms = indexed(&snapshot, &["aa", "ee"]);
            let hits = snapshot.search(&terms.iter().collect::<Vec<_>>(), max).expect("a readable index");
            hits.into_iter().map(|hit| hit.id).collect::<Vec<_>>()
        };
        prop_assert_eq!(found(&mut data.iter()), found(&mut data.iter().rev()));
    }
}

#[test]
fn a_search_looks_at_no_more_than_its_limits() {
    // Every passage has all terms, no two terms bring out the same ones as the best, and nothing can be ruled out.
    let passage = |at: usize| {
        let words = TERMS.iter().enumerate().map(|(term, word)| format!("{word} ").repeat(1 + (at / (term + 1)) % 7));
        words.collect::<String>() + &at.to_string()
    };
    let batches: Vec<Vec<String>> =
        (0..3).map(|batch| (batch * 2_000..(batch + 1) * 2_000).map(passage).collect()).collect();
    let snapshot = index_of(&batches).snapshot();
    let segments = snapshot.segments.searcher.segment_readers().len() as u64;
    // The best of each segment are looked up with all terms, and so are as many that were brought.
    let least = (segments + 1) * 16 * TERMS.len() as u64;
    for (brought, looked_up) in [(500, 400), (7_000, 1_000), (13_000, 2_000)] {
        let found = best(&snapshot, &TERMS, 16, Limits { brought, looked_up });
        // Each segment's share is rounded up.
        assert!((1..=brought + segments).contains(&found.looked_at.brought), "{:?}", found.looked_at);
        assert!((1..=looked_up + least).contains(&found.looked_at.looked_up), "{:?}", found.looked_at);
        assert!(!found.exact && found.best.len() >= 16);
        let again = best(&snapshot, &TERMS, 16, Limits { brought, looked_up });
        assert_eq!(found.best, again.best, "the same index gives the same answer");
    }
}

#[test]
fn a_passage_that_is_known_to_be_the_best_is_found_whatever_a_limit_drops() {
    // By "aa" alone, which brings them, the long ones are the worst; by all three they are the best.
    let long = |n: usize| format!("aa {} {} {n}", "bb ".repeat(12), "cc ".repeat(12));
    let filled = |n: usize| format!("other words that fill {n}");
    let with = |word: &'static str, count: usize| (0..count).map(move |n| format!("{word} {n}"));
    let first = (0..20).map(long).chain((0..2_000).map(filled)).chain(with("bb", 200)).chain(with("cc", 1_500));
    let snapshot = index_of(&[first.collect(), with("aa", 150).collect()]).snapshot();
    let terms = &TERMS[..3];
    let found = best(&snapshot, terms, 4, Limits { brought: 170, looked_up: 30 });
    assert!(!found.exact);
    assert_eq!(first_scores(&found, 4), scores_of_all(&snapshot, terms)[..4]);
}

#[test]
fn a_long_passage_with_two_rare_words_is_found_beside_short_ones_with_one_of_them() {
    let long = format!("{} aa {} bb", "many other words ".repeat(20), "and more ".repeat(20));
    let with_one = (0..80).map(|n| format!("{} {n}", if n % 2 == 0 { "aa" } else { "bb" }));
    let filled = (0..300).map(|n| format!("other words that fill {n}"));
    let data: Vec<StoredDatum> = with_one.chain([long]).chain(filled).map(|text| datum(&text)).collect();
    let long = data[80].id;
    for in_segments in [0, 40, 200, data.len()] {
        let index = Index::new().expect("a new index");
        let (moved, fresh): (Vec<Change>, Vec<Change>) =
            (data[..in_segments].iter().map(put).collect(), data[in_segments..].iter().map(put).collect());
        index.apply_in_segments(&last_changes(&moved), None).expect("applied");
        index.apply(&fresh).expect("applied");
        let snapshot = index.snapshot();
        let terms = indexed(&snapshot, &["aa", "bb"]);
        let terms: Vec<_> = terms.iter().collect();
        assert!(snapshot.search(&terms, 16).expect("readable").iter().all(|hit| hit.id != long));
        let hits = snapshot.search_widely(&terms, 16, 4).expect("readable");
        assert_eq!(hits.iter().map(|hit| hit.id).skip(16).collect::<Vec<_>>(), [long], "{in_segments} in segments");
    }
}

#[test]
fn a_hidden_passage_makes_room_for_the_next_best() {
    let passages: Vec<String> = (1..40).map(|count| "aa ".repeat(count) + "bb").collect();
    let snapshot = index_of(&[passages]).snapshot();
    let terms = indexed(&snapshot, &["aa", "bb"]);
    let weights: Vec<_> = terms.iter().map(|term| (term, snapshot.weight(term))).collect();
    let find = |is_hidden: &dyn Fn(tantivy::DocAddress) -> bool, max| {
        let found = best_in_segments(&snapshot.segments.searcher, &weights, is_hidden, bm25(max), Limits::USUAL);
        let mut best = found.expect("a readable index").best;
        best.truncate(max);
        best
    };
    let all = find(&|_| false, 20);
    let hidden: Vec<_> = all.iter().step_by(2).map(|(_, at)| *at).collect();
    let seen: Vec<_> = all.iter().skip(1).step_by(2).copied().collect();
    assert_eq!(find(&|at| hidden.contains(&at), 10), seen);
}

#[test]
fn a_term_that_all_passages_have_still_counts_for_something() {
    for passages in [1, 36_000, 72_000, 20_000_000, 4_000_000_000] {
        let weight = Bm25Weight::for_one_term_without_explain(passages, passages, 20.0);
        assert!(scaled(&weight, 255, 1) > 0, "of {passages}");
    }
}

#[test]
fn what_is_left_after_many_were_retracted_is_found_by_a_word_that_they_had() {
    let index = Index::new().expect("a new index");
    // Half of what stays has the word, and all of what goes.
    let data: Vec<StoredDatum> =
        (0..400).map(|n| datum(&format!("{} number {n}", if n < 300 || n % 2 == 0 { "aa" } else { "bb" }))).collect();
    index.apply_in_segments(&last_changes(&data.iter().map(put).collect::<Vec<_>>()), None).expect("applied");
    let gone: Vec<Change> = data[..300].iter().map(|datum| Change::Removed(datum.id)).collect();
    index.apply(&gone).expect("applied");
    index.move_fresh().expect("moved");
    let snapshot = index.snapshot();
    let [aa, number] = [indexed(&snapshot, &["aa"]), indexed(&snapshot, &["number"])].map(|mut term| term.remove(0));
    assert_eq!(snapshot.search(&[&aa], 100).expect("readable").len(), 50);
    // Three quarters are gone of what has it, and it is as rare among all as it is: not in every passage.
    let score = |term| scaled(&snapshot.weight(term), 0, 1);
    assert!(score(&aa) > 10 * score(&number), "{} and {}", score(&aa), score(&number));
}
