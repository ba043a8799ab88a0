//! The features of candidates: what counts for a sentence, and what against it. `table.rs` says what each means.

use super::coverage::{Coverage, CoverageRow, largest_gap, second_gap, share, share_of};
use super::expected::{ExpectedTerm, log_odds_and_share};
use super::matching::{MatchCache, MatchedPassage, PassageWord};
use super::question::{Kind, ParsedQuestion, QuestionTerm};
use super::requirements::Requirements;
use super::table::Features;
use super::vectors::{DIMENSIONS, Sum, cosine};
use crate::index::Hit;

/// A sentence that may answer, or a clause of a long one.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    /// Which of the passages it is in.
    pub(super) passage: usize,
    /// Which part of it.
    pub(super) part: usize,
    pub(super) features: Features,
    /// For each term a bit for each of the [`WAYS_TO_HOLD`](super::table::WAYS_TO_HOLD) in which it is held.
    pub(super) held: Vec<u8>,
}

fn ln(count: usize) -> f32 {
    (1.0 + count as f32).ln()
}

fn flag(is: bool) -> f32 {
    f32::from(u8::from(is))
}

/// The candidates at these places, given as (passage, part), in their order; without the features that only [`compare`] can
/// compute.
pub(super) fn candidates(
    cache: &MatchCache<'_>,
    hits: &[Hit],
    passages: &[MatchedPassage<'_>],
    coverages: &[Coverage<'_>],
    places: impl Iterator<Item = (usize, usize)>,
) -> Vec<Candidate> {
    let question = cache.question;
    let best_bm25 = hits.iter().map(|hit| hit.score).fold(f32::MIN_POSITIVE, f32::max);
    let of_question = question_features(question);
    let mut of_passages: Vec<Option<Features>> = vec![None; hits.len()];
    let candidate = |(at, part): (usize, usize)| {
        let (hit, passage, coverage) = (&hits[at], &passages[at], &coverages[at]);
        let of_passage = *of_passages[at].get_or_insert_with(|| Features {
            passage_bm25: hit.score / question.total,
            passage_bm25_share: hit.score / best_bm25,
            passage_rank: ln(at),
            ..passage_features(cache, passage, coverage.passage(), of_question)
        });
        let held = coverage.held(part);
        let features = part_features(cache, passage, part, coverage, of_passage);
        let features = expected_features(&question.expected, &held, features);
        Candidate { passage: at, part, features, held }
    };
    places.map(candidate).collect()
}

fn question_features(question: &ParsedQuestion) -> Features {
    let heaviest = question.terms.iter().map(|term| term.weight).fold(0.0, f32::max);
    let weight_of = |which: fn(&QuestionTerm) -> bool| {
        question.terms.iter().filter(|term| which(term)).map(|term| term.weight).sum::<f32>() / question.total
    };
    Features {
        kind: f32::from(question.kind as u8),
        question_length: ln(question.words.len()),
        asks_first: flag(question.asks_first),
        terms: question.terms.len() as f32,
        weight: question.total,
        absent: weight_of(|term| term.absent),
        heaviest: heaviest / question.total,
        name_share: weight_of(|term| term.name),
        ..Features::default()
    }
}

fn expected_features(expected: &[ExpectedTerm], held: &[u8], features: Features) -> Features {
    let of = |way| log_odds_and_share(expected, held, way);
    let ((odds, expected), (passage_odds, passage_expected), (around_odds, around_expected)) = (of(0), of(1), of(2));
    let ((sense_odds, sense_expected), (passage_sense_odds, passage_sense_expected)) = (of(3), of(4));
    Features {
        odds,
        expected,
        passage_odds,
        passage_expected,
        around_odds,
        around_expected,
        sense_odds,
        sense_expected,
        passage_sense_odds,
        passage_sense_expected,
        ..features
    }
}

fn passage_features(
    cache: &MatchCache<'_>,
    passage: &MatchedPassage<'_>,
    row: CoverageRow<'_>,
    of_question: Features,
) -> Features {
    let question = cache.question;
    Features {
        passage_exact: share(question, row.exact.iter().copied()),
        passage_spelling: share(question, row.spelling.iter().copied()),
        passage_meaning: share(question, row.meaning.iter().copied()),
        passage_sense: share(question, row.sense.iter().copied()),
        passage_lacks: largest_gap(question, row.spelling.iter().copied()),
        passage_missed: row.missed(),
        passage_lacks_meaning: largest_gap(question, row.meaning.iter().copied()),
        passage_others: share_of(question, row.spelling, |i| !question.terms[i].name),
        passage_nearness: nearness(cache, &passage.words),
        passage_names: share_of(question, row.spelling, |i| question.terms[i].name),
        passage_numbers: share_of(question, row.exact, |i| question.terms[i].lexeme.classes.number),
        passage_length: ln(passage.words.len()),
        ..of_question
    }
}

/// The sum of some words' vectors, each as often as it is rare.
fn sum(cache: &MatchCache<'_>, words: &[PassageWord]) -> Sum {
    let mut sum = [0.0; DIMENSIONS];
    for word in words {
        let lexeme = &cache.word(*word).lexeme;
        if let (Some(vector), false) = (&lexeme.vector, lexeme.classes.stop) {
            vector.add_to(&mut sum, lexeme.rarity);
        }
    }
    sum
}

/// The cosine of the question's mean word vector and that of some words; 0 where one of them has none.
fn nearness(cache: &MatchCache<'_>, words: &[PassageWord]) -> f32 {
    cosine(&sum(cache, words), &cache.question.meaning)
}

fn part_features(
    cache: &MatchCache<'_>,
    passage: &MatchedPassage<'_>,
    at: usize,
    coverage: &Coverage<'_>,
    of_passage: Features,
) -> Features {
    let question = cache.question;
    let (part, row) = (&passage.parts[at], coverage.part(at));
    let words = &passage.words[part.words.clone()];
    let with = |other: Option<usize>| {
        let alone = || share(question, row.spelling.iter().copied());
        other.map_or_else(alone, |other| row.share_with(coverage.part(other), question))
    };
    let content = words.iter().filter(|word| !cache.word(**word).lexeme.classes.stop).count();
    let added = words.iter().filter(|word| cache.word(**word).added).count();
    let matches: Vec<usize> = (0..words.len()).filter(|&i| cache.word(words[i]).matches).collect();
    let of_kind: Vec<usize> = words_of_kind(question.kind, cache, words).collect();
    let distance = of_kind.iter().flat_map(|&i| matches.iter().map(move |&j| i.abs_diff(j))).min();
    // What is read before it: for a record of its own that is not the one before.
    let previous = if part.line { part.lead } else { at.checked_sub(1) };
    let next = Some(at + 1).filter(|next| !part.line && passage.parts.get(*next).is_some_and(|next| !next.line));
    let own = sum(cache, words);
    let mut with_previous = own;
    if let Some(previous) = previous {
        let before = sum(cache, &passage.words[passage.parts[previous].words.clone()]);
        with_previous.iter_mut().zip(before).for_each(|(sum, value)| *sum += value);
    }
    let focus_added = words.iter().map(|word| cache.word(*word)).filter(|word| word.added);
    let focus_added = focus_added.map(|word| word.focus_similarity).fold(-1.0, f32::max);
    let required = Requirements::new(cache, passage, at, coverage);
    let negates = words.iter().any(|word| cache.word(*word).lexeme.classes.negates);
    let spread = match (matches.first(), matches.last()) {
        (Some(first), Some(last)) => ((1 + last - first) as f32 / matches.len() as f32).ln(),
        _ => -1.0,
    };
    Features {
        exact: share(question, row.exact.iter().copied()),
        spelling: share(question, row.spelling.iter().copied()),
        meaning: share(question, row.meaning.iter().copied()),
        sense: share(question, row.sense.iter().copied()),
        lacks: largest_gap(question, row.spelling.iter().copied()),
        lacks_sense: largest_gap(question, row.sense.iter().copied()),
        nearness: cosine(&own, &question.meaning),
        names: share_of(question, row.spelling, |i| question.terms[i].name),
        numbers: share_of(question, row.exact, |i| question.terms[i].lexeme.classes.number),
        length: ln(words.len()),
        with_previous: with(previous),
        nearness_with_previous: cosine(&with_previous, &question.meaning),
        with_next: with(next),
        first: flag(at == 0),
        place: at as f32 / passage.parts.len() as f32,
        cut: flag(part.cut),
        points_back: flag(words.first().is_some_and(|word| cache.word(*word).lexeme.classes.points_back)),
        said: (content - added) as f32 / content.max(1) as f32,
        adds: ln(added),
        pairs: pairs(cache, words, &matches),
        spread,
        onset: matches.first().map_or(1.0, |first| *first as f32 / words.len() as f32),
        kind_found: if question.kind == Kind::Thing { -1.0 } else { flag(!of_kind.is_empty()) },
        kind_count: ln(of_kind.len()),
        kind_distance: distance.map_or(-1.0, ln),
        focus: question.focus.map_or(-1.0, |focus| row.meaning[focus]),
        focus_added,
        last_term: row.meaning.last().copied().unwrap_or(0.0),
        missed: row.missed(),
        lacks_around: largest_gap(question, coverage.around(at)),
        around: share(question, coverage.around(at)),
        lacks_meaning: largest_gap(question, row.meaning.iter().copied()),
        lacks_second: second_gap(question, row.sense.iter().copied()),
        others: share_of(question, row.spelling, |i| !question.terms[i].name),
        others_meaning: share_of(question, row.meaning, |i| !question.terms[i].name),
        around_meaning: share(question, coverage.meaning_around(at)),
        line: flag(part.line),
        codes: required.codes,
        codes_around: required.codes_around,
        conflicts: flag(required.conflicts),
        negates_shared: flag(required.affirms || required.denies),
        codes_passage: required.codes_passage,
        vetoed: required.veto(),
        run: longest_run(cache, words) as f32,
        negates: flag(negates != question.negates),
        adds_names: ln(words_of_kind(Kind::Person, cache, words).count()),
        adds_numbers: ln(words_of_kind(Kind::Number, cache, words).count()),
        ..of_passage
    }
}

/// The longest run of words that the question and the sentence share.
fn longest_run(cache: &MatchCache<'_>, words: &[PassageWord]) -> usize {
    // For each place in the question, the length of the run that ends there and at the sentence's current word.
    let mut runs = vec![0; cache.question.words.len()];
    let mut longest = 0;
    let mut running = false;
    for word in words {
        let places = &cache.word(*word).places;
        if places.is_empty() && !running {
            continue;
        }
        running = !places.is_empty();
        let next: Vec<(usize, usize)> =
            places.iter().map(|&at| (at, 1 + at.checked_sub(1).map_or(0, |before| runs[before]))).collect();
        runs.fill(0);
        for (at, length) in next {
            runs[at] = length;
            longest = longest.max(length);
        }
    }
    longest
}

/// The words of the kind that is asked for which the question itself does not have.
fn words_of_kind(kind: Kind, cache: &MatchCache<'_>, words: &[PassageWord]) -> impl Iterator<Item = usize> {
    let is = move |i: usize| {
        let word = cache.word(words[i]);
        let classes = word.lexeme.classes;
        let name = words[i].capital && !classes.stop && !classes.number && !classes.date;
        match kind {
            Kind::Thing => !classes.stop,
            Kind::Person => name,
            Kind::Date => classes.date,
            Kind::Place => {
                let leads = |j: usize| cache.word(words[j]).lexeme.classes.leads_place;
                name && (1..=3).any(|back| i >= back && leads(i - back))
            }
            Kind::Number => classes.number,
            Kind::Reason => classes.reason,
            Kind::Manner => classes.manner,
        }
    };
    (0..words.len()).filter(move |&i| !cache.word(words[i]).in_question && is(i))
}

/// The share of the question's neighbouring terms that are within three words of each other, in the same order.
fn pairs(cache: &MatchCache<'_>, words: &[PassageWord], matches: &[usize]) -> f32 {
    let terms = cache.question.terms.len();
    if terms < 2 {
        return -1.0;
    }
    let similar = |i: usize, term: usize| cache.spelling(words[i], term) > 0.0;
    let is_pair = |term: &usize| {
        matches.iter().any(|&i| similar(i, *term) && (i + 1..words.len().min(i + 4)).any(|j| similar(j, term + 1)))
    };
    (0..terms - 1).filter(is_pair).count() as f32 / (terms - 1) as f32
}

/// Stands for the log-odds of another passage where there is none: clearly worse than any.
const NO_ODDS: f32 = -10.0;

/// Fills in the features that compare a candidate with the others.
pub(super) fn compare(found: &mut [Candidate]) {
    let passages = found.iter().map(|candidate| candidate.passage + 1).max().unwrap_or(0);
    let mut best_odds = vec![[NO_ODDS; 3]; passages];
    let odds = |f: &Features| [f.odds, f.passage_odds, f.around_odds];
    let mut best_part = vec![0.0_f32; passages];
    let mut best_sense = vec![0.0_f32; passages];
    let mut best_nearness = vec![-1.0_f32; passages];
    let mut best_meaning = vec![0.0_f32; passages];
    let mut whole = vec![0.0_f32; passages];
    for Candidate { passage, features, .. } in found.iter() {
        best_part[*passage] = best_part[*passage].max(features.spelling);
        best_sense[*passage] = best_sense[*passage].max(features.sense);
        best_nearness[*passage] = best_nearness[*passage].max(features.nearness);
        best_meaning[*passage] = best_meaning[*passage].max(features.meaning);
        whole[*passage] = features.passage_spelling;
        for (best, odds) in best_odds[*passage].iter_mut().zip(odds(features)) {
            *best = best.max(odds);
        }
    }
    let best_other = |values: &[f32], but: usize| {
        values.iter().enumerate().filter(|(i, _)| *i != but).map(|(_, value)| *value).fold(-1.0, f32::max)
    };
    for Candidate { passage, features, .. } in found.iter_mut() {
        let near = |other: &&f32| **other >= features.passage_spelling - 0.1;
        let rivals = whole.iter().filter(near).count().saturating_sub(1);
        features.passage_lead = features.passage_spelling - best_other(&whole, *passage);
        features.lead = features.spelling - best_other(&best_part, *passage);
        features.lead_sense = features.sense - best_other(&best_sense, *passage);
        features.lead_nearness = features.nearness - best_other(&best_nearness, *passage);
        features.lead_meaning = features.meaning - best_other(&best_meaning, *passage);
        features.within = features.spelling - best_part[*passage];
        features.rivals = ln(rivals);
        let mut other = [NO_ODDS; 3];
        for (_, best) in best_odds.iter().enumerate().filter(|(i, _)| i != passage) {
            other = std::array::from_fn(|i| other[i].max(best[i]));
        }
        let [sentence, whole, around] = odds(features);
        features.odds_lead = sentence - other[0];
        features.passage_odds_lead = whole - other[1];
        features.around_odds_lead = around - other[2];
    }
}
