//! What speaks for a sentence, and what against it.
//!
//! Shares of the question are shares of its terms' weight, so they compare across questions and corpora.
//! Where a feature has no meaning (a question without names has no share of its names), it is -1.

use std::collections::BTreeMap;

use super::candidates::Candidate;
use super::expected::{self, ExpectedTerm};
use super::matching::{MatchCache, MatchedPassage, PassageWord, WAYS};
use super::question::{Kind, ParsedQuestion};
use super::vectors::{DIMENSIONS, Vector, cosine, unit};
use crate::index::Hit;

macro_rules! features {
    ($(#[$of:meta])* $kind:ident: $($(#[$doc:meta])* $name:ident,)*) => {
        $(#[$of])*
        #[derive(Debug, Clone, Copy, Default, PartialEq)]
        pub struct $kind {
            $($(#[$doc])* pub $name: f32,)*
        }

        impl $kind {
            /// The features' names, in their order.
            pub const NAMES: &[&str] = &[$(stringify!($name)),*];

            /// Their values, in the same order.
            #[must_use]
            pub fn values(&self) -> [f32; Self::NAMES.len()] {
                [$(self.$name),*]
            }
        }
    };
}

pub(super) use features;

features! {
    /// What is known of one candidate. Ranges are in the fields' words.
    Features:
    /// 0 to 1: the share of the question that the passage holds, by the same terms.
    passage_exact,
    /// 0 to 1: the same, and words that are written alike count in part.
    passage_spelling,
    /// 0 to 1: the same, and words of like meaning count in part.
    passage_meaning,
    /// 0 to 1: the same, and words of clearly like meaning count in part.
    passage_sense,
    /// 0 to 1: the share of the weightiest term that the passage lacks: one missing name may be the whole question.
    passage_lacks,
    /// -1 to 1: how near the passage's mean meaning is to the question's.
    passage_nearness,
    /// BM25 by the sum of the weights, 0 to some 2.
    passage_bm25,
    /// 0 to 1: BM25 by that of the best passage.
    passage_bm25_share,
    /// The logarithm of the passage's rank by BM25.
    passage_rank,
    /// 0 to 1, or -1: the share of the question's names that the passage holds.
    passage_names,
    /// 0 to 1, or -1: the share of the question's numbers that the passage holds: another year is another event.
    passage_numbers,
    /// The logarithm of its length in words: a long passage holds more words by chance.
    passage_length,
    /// 0 to 1: as of the passage, for the sentence itself.
    exact,
    /// 0 to 1: likewise.
    spelling,
    /// 0 to 1: likewise.
    meaning,
    /// 0 to 1: likewise.
    sense,
    /// 0 to 1: likewise.
    lacks,
    /// 0 to 1: the same, and words of clearly like meaning count in part.
    lacks_sense,
    /// -1 to 1: likewise.
    nearness,
    /// 0 to 1, or -1: likewise.
    names,
    /// 0 to 1, or -1: likewise.
    numbers,
    /// The logarithm of the sentence's length in words.
    length,
    /// 0 to 1: the share that the sentence and the one before it hold: "It" stands for what was named there.
    with_previous,
    /// -1 to 1: how near the mean meaning of both is to the question's.
    nearness_with_previous,
    /// 0 to 1: the share that the sentence and the one after it hold.
    with_next,
    /// 0 or 1: whether it is the passage's first; and how far down it stands.
    first,
    /// 0 to 1: its place in the passage.
    place,
    /// 0 or 1: it is a clause of a longer sentence.
    cut,
    /// 0 or 1: it begins with a word that points back: "He", "This".
    points_back,
    /// 0 to 1: the share of its content words that the question says: what else does it speak of?
    said,
    /// The logarithm of how many content words it adds to the question's.
    adds,
    /// 0 to 1, or -1: the share of the question's neighbouring terms that are near and in order here.
    pairs,
    /// The logarithm of words from the first to the last term met, by terms met.
    spread,
    /// Where the first term of the question is met, from 0 at the beginning: what a sentence begins with, it is about.
    onset,
    /// 0 or 1: it adds a word of the kind that is asked for; -1 for questions of no such kind.
    kind_found,
    /// The logarithm of how many such words it adds.
    kind_count,
    /// The logarithm of words from the nearest of them to a term of the question; -1 without.
    kind_distance,
    /// 0 to 1, or -1: how near it comes to the word that says of what kind the answer is.
    focus,
    /// -1 to 1: how near a word that it adds comes to that word's meaning: "Atlantic" to "ocean".
    focus_added,
    /// 0 to 1: how near it comes to the question's last term.
    last_term,
    /// How many of the question's terms the sentence does not come near.
    missed,
    /// How many of them the passage does not come near.
    passage_missed,
    /// 0 to 1: the share of the weightiest term that the sentence and its neighbours lack.
    lacks_around,
    /// 0 to 1: the share of the question that the sentence and its neighbours hold.
    around,
    /// The longest run of words, stop words too, that the question has as well.
    run,
    /// 0 or 1: one of question and sentence negates, and the other does not.
    negates,
    /// The names it adds, as a logarithm.
    adds_names,
    /// The numbers it adds, as a logarithm.
    adds_numbers,
    /// The kind of question: see `Kind`.
    kind,
    /// The logarithm of the question's length in words.
    question_length,
    /// 0 or 1: it begins with the word that asks.
    asks_first,
    /// The number of the question's terms.
    terms,
    /// The sum of their weights.
    weight,
    /// 0 to 1: the share of the question whose words no passage holds at all.
    absent,
    /// 0 to 1: the share of the weightiest term.
    heaviest,
    /// 0 to 1: the share of the question that is names.
    name_share,
    /// -1 to 1: how much more of the question this passage holds than the best other.
    passage_lead,
    /// -1 to 1: how much more of the question this sentence holds than the best of another passage.
    lead,
    /// -1 to 1: the same, and words of clearly like meaning count in part.
    lead_sense,
    /// -2 to 2: how much nearer its meaning is than that of the best of another passage.
    lead_nearness,
    /// -1 to 0: how much less it holds than the best sentence of its own passage.
    within,
    /// The logarithm of how many other passages hold nearly as much.
    rivals,
    /// Log-odds: what the terms that the sentence holds say for it, and those that it lacks; see `expectations`.
    odds,
    /// 0 to 1: the share of the terms that it is expected to hold.
    expected,
    /// Log-odds: as of the sentence, for the passage.
    passage_odds,
    /// 0 to 1: likewise.
    passage_expected,
    /// Log-odds: for the sentence and its neighbours.
    around_odds,
    /// 0 to 1: likewise.
    around_expected,
    /// Log-odds: for the sentence, by words of clearly like meaning.
    sense_odds,
    /// 0 to 1: likewise.
    sense_expected,
    /// Log-odds: for the passage, by words of clearly like meaning.
    passage_sense_odds,
    /// 0 to 1: likewise.
    passage_sense_expected,
    /// How far the sentence's log-odds are above the best of another passage.
    odds_lead,
    /// The same, for the passage.
    passage_odds_lead,
    /// The same, for the sentence and its neighbours.
    around_odds_lead,
}

impl Features {
    /// Those that weigh most, to three places; those that mean nothing here are left out.
    #[must_use]
    pub fn main(&self) -> BTreeMap<&'static str, f32> {
        let main = [
            ("passage_bm25_share", self.passage_bm25_share),
            ("passage_exact", self.passage_exact),
            ("passage_sense", self.passage_sense),
            ("exact", self.exact),
            ("sense", self.sense),
            ("lacks", self.lacks),
            ("around", self.around),
            ("names", self.names),
            ("numbers", self.numbers),
            ("kind_found", self.kind_found),
            ("lead_sense", self.lead_sense),
        ];
        let optional = ["names", "numbers", "kind_found"];
        let means = main.into_iter().filter(|(name, value)| *value != -1.0 || !optional.contains(name));
        means.map(|(name, value)| (name, (value * 1_000.0).round() / 1_000.0)).collect()
    }
}

/// How much of each term a passage and each part of it meet, from 0 to 1.
pub(super) struct Coverage {
    terms: usize,
    /// A row for the passage, then one for each part: the terms in each of the [`WAYS`].
    rows: Vec<f32>,
}

/// A row of [`Coverage`].
#[derive(Clone, Copy)]
struct CoverageRow<'a> {
    exact: &'a [f32],
    spelling: &'a [f32],
    meaning: &'a [f32],
    sense: &'a [f32],
}

impl Coverage {
    pub(super) fn of(met: &MatchCache<'_>, reading: &MatchedPassage) -> Self {
        let terms = met.asked.terms.len();
        let mut rows = vec![0.0; WAYS * terms * (1 + reading.parts.len())];
        let words = std::iter::once(&reading.words[..])
            .chain(reading.parts.iter().map(|part| &reading.words[part.words.clone()]));
        for (row, words) in rows.chunks_exact_mut((WAYS * terms).max(1)).zip(words) {
            for word in words {
                for (nearest, near) in row.iter_mut().zip(met.nearness(*word)) {
                    *nearest = if *near > *nearest { *near } else { *nearest };
                }
            }
        }
        Self { terms, rows }
    }

    fn parts(&self) -> usize {
        (self.rows.len() / (WAYS * self.terms).max(1)).saturating_sub(1)
    }

    fn row(&self, row: usize) -> CoverageRow<'_> {
        let way = |way: usize| &self.rows[(row * WAYS + way) * self.terms..][..self.terms];
        CoverageRow { exact: way(0), spelling: way(1), meaning: way(2), sense: way(3) }
    }

    fn passage(&self) -> CoverageRow<'_> {
        self.row(0)
    }

    fn part(&self, part: usize) -> CoverageRow<'_> {
        self.row(1 + part)
    }

    /// A part and those beside it.
    fn neighbours(&self, part: usize) -> impl Iterator<Item = CoverageRow<'_>> + Clone {
        (part.saturating_sub(1)..self.parts().min(part + 2)).map(|part| self.part(part))
    }

    /// The better of a part and those beside it for each term, by spelling.
    fn around(&self, part: usize) -> impl Iterator<Item = f32> + Clone {
        let neighbours = self.neighbours(part);
        (0..self.terms).map(move |term| neighbours.clone().map(|cover| cover.spelling[term]).fold(0.0, f32::max))
    }

    /// How much of the question a part holds, with its passage and its neighbours: the more, the closer it is looked at.
    pub(super) fn holds(&self, asked: &ParsedQuestion, part: usize) -> f32 {
        let of = |cover: CoverageRow<'_>| share(asked, cover.sense.iter().copied());
        of(self.part(part)) + of(self.passage()) + share(asked, self.around(part))
    }

    /// Whether each term is held, in each of the ways of [`expectations`].
    fn held(&self, part: usize) -> Vec<u8> {
        let (alike, near) = (|spelling: f32| spelling >= 0.6, |sense: f32| sense >= 0.35);
        let (own, passage) = (self.part(part), self.passage());
        let held = |term: usize| {
            let ways = [
                alike(own.spelling[term]),
                alike(passage.spelling[term]),
                alike(own.spelling[term]) || self.neighbours(part).any(|cover| alike(cover.sense[term])),
                near(own.sense[term]),
                near(passage.sense[term]),
            ];
            ways.into_iter().rev().fold(0, |bits, way| bits << 1 | u8::from(way))
        };
        (0..self.terms).map(held).collect()
    }
}

impl CoverageRow<'_> {
    /// The share of the question that it and another hold together, by spelling.
    fn with(self, other: Self, asked: &ParsedQuestion) -> f32 {
        share(asked, self.spelling.iter().zip(other.spelling).map(|(a, b)| a.max(*b)))
    }
}

fn share(asked: &ParsedQuestion, cover: impl Iterator<Item = f32>) -> f32 {
    asked.terms.iter().zip(cover).map(|(term, cover)| term.weight * cover).sum::<f32>() / asked.total
}

fn lacks(asked: &ParsedQuestion, cover: impl Iterator<Item = f32>) -> f32 {
    let missing = asked.terms.iter().zip(cover).map(|(term, cover)| term.weight * (1.0 - cover));
    missing.fold(0.0, f32::max) / asked.total
}

/// The share of some of the terms, or -1 if there are none of them.
fn share_of(asked: &ParsedQuestion, cover: &[f32], which: impl Fn(usize) -> bool) -> f32 {
    let (mut held, mut all) = (0.0, 0.0);
    for (i, (term, cover)) in asked.terms.iter().zip(cover).enumerate() {
        if which(i) {
            held += term.weight * cover;
            all += term.weight;
        }
    }
    if all > 0.0 { held / all } else { -1.0 }
}

fn ln(count: usize) -> f32 {
    (1.0 + count as f32).ln()
}

fn flag(is: bool) -> f32 {
    f32::from(u8::from(is))
}

/// Whether a text asks instead of saying.
pub(super) fn asks(text: &str) -> bool {
    text.trim_end_matches(['"', '\'', '”', '’', ')', ' ']).ends_with(['?', '？', '؟'])
}

/// The features of these parts, given as (passage, part), in their order; without those that only [`compare`] can tell.
pub(super) fn of(
    met: &MatchCache<'_>,
    hits: &[Hit],
    readings: &[MatchedPassage],
    covers: &[Coverage],
    parts: impl Iterator<Item = (usize, usize)>,
) -> Vec<Candidate> {
    let asked = met.asked;
    let best_bm25 = hits.iter().map(|hit| hit.score).fold(f32::MIN_POSITIVE, f32::max);
    let question = of_question(asked);
    let mut passages: Vec<Option<Features>> = vec![None; hits.len()];
    let candidate = |(passage, part): (usize, usize)| {
        let (hit, reading, covers) = (&hits[passage], &readings[passage], &covers[passage]);
        let of_passage = *passages[passage].get_or_insert_with(|| Features {
            passage_bm25: hit.score / asked.total,
            passage_bm25_share: hit.score / best_bm25,
            passage_rank: ln(passage),
            ..of_passage(met, reading, covers.passage(), question)
        });
        let held = covers.held(part);
        let features = of_part(met, reading, part, covers, of_passage);
        let features = of_expectations(&asked.expectations, &held, features);
        Candidate { passage, part, features, held }
    };
    parts.map(candidate).collect()
}

fn of_question(asked: &ParsedQuestion) -> Features {
    let heaviest = asked.terms.iter().map(|term| term.weight).fold(0.0, f32::max);
    let weight_of = |which: fn(&super::question::QuestionTerm) -> bool| {
        asked.terms.iter().filter(|term| which(term)).map(|term| term.weight).sum::<f32>() / asked.total
    };
    Features {
        kind: f32::from(asked.kind as u8),
        question_length: ln(asked.words.len()),
        asks_first: flag(asked.asks_first),
        terms: asked.terms.len() as f32,
        weight: asked.total,
        absent: weight_of(|term| term.absent),
        heaviest: heaviest / asked.total,
        name_share: weight_of(|term| term.name),
        ..Features::default()
    }
}

fn of_expectations(expectations: &[ExpectedTerm], held: &[u8], features: Features) -> Features {
    let met = |way| expected::met(expectations, held, way);
    let ((odds, expected), (passage_odds, passage_expected), (around_odds, around_expected)) = (met(0), met(1), met(2));
    let ((sense_odds, sense_expected), (passage_sense_odds, passage_sense_expected)) = (met(3), met(4));
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

fn of_passage(met: &MatchCache<'_>, reading: &MatchedPassage, cover: CoverageRow<'_>, question: Features) -> Features {
    let asked = met.asked;
    Features {
        passage_exact: share(asked, cover.exact.iter().copied()),
        passage_spelling: share(asked, cover.spelling.iter().copied()),
        passage_meaning: share(asked, cover.meaning.iter().copied()),
        passage_sense: share(asked, cover.sense.iter().copied()),
        passage_lacks: lacks(asked, cover.spelling.iter().copied()),
        passage_missed: missed(cover),
        passage_nearness: nearness(met, &reading.words),
        passage_names: share_of(asked, cover.spelling, |i| asked.terms[i].name),
        passage_numbers: share_of(asked, cover.exact, |i| asked.terms[i].lexeme.classes.number),
        passage_length: ln(reading.words.len()),
        ..question
    }
}

fn nearness(met: &MatchCache<'_>, words: &[PassageWord]) -> f32 {
    let Some(meaning) = &met.asked.meaning else { return 0.0 };
    let mut sum: Vector = [0.0; DIMENSIONS];
    for word in words {
        let lexeme = &met.word(*word).lexeme;
        if let (Some(vector), false) = (&lexeme.vector, lexeme.classes.stop) {
            sum.iter_mut().zip(vector).for_each(|(sum, value)| *sum += value * lexeme.rarity);
        }
    }
    unit(sum).map_or(0.0, |mean| cosine(&mean, meaning))
}

fn of_part(
    met: &MatchCache<'_>,
    reading: &MatchedPassage,
    at: usize,
    covers: &Coverage,
    passage: Features,
) -> Features {
    let asked = met.asked;
    let (part, cover) = (&reading.parts[at], covers.part(at));
    let words = &reading.words[part.words.clone()];
    let content = words.iter().filter(|word| !met.word(**word).lexeme.classes.stop).count();
    let fresh = words.iter().filter(|word| met.word(**word).fresh).count();
    let touching: Vec<usize> = (0..words.len()).filter(|&i| met.word(words[i]).touches).collect();
    let added: Vec<usize> = kind_words(asked.kind, met, words).collect();
    let distance = added.iter().flat_map(|&i| touching.iter().map(move |&j| i.abs_diff(j))).min();
    let previous = at.checked_sub(1).map_or(part.words.start, |i| reading.parts[i].words.start);
    let focus_added = words.iter().map(|word| met.word(*word)).filter(|word| word.fresh);
    let focus_added = focus_added.map(|word| word.to_focus).fold(-1.0, f32::max);
    let negates = words.iter().any(|word| met.word(*word).lexeme.classes.negates);
    let spread = match (touching.first(), touching.last()) {
        (Some(first), Some(last)) => ((1 + last - first) as f32 / touching.len() as f32).ln(),
        _ => -1.0,
    };
    Features {
        exact: share(asked, cover.exact.iter().copied()),
        spelling: share(asked, cover.spelling.iter().copied()),
        meaning: share(asked, cover.meaning.iter().copied()),
        sense: share(asked, cover.sense.iter().copied()),
        lacks: lacks(asked, cover.spelling.iter().copied()),
        lacks_sense: lacks(asked, cover.sense.iter().copied()),
        nearness: nearness(met, words),
        names: share_of(asked, cover.spelling, |i| asked.terms[i].name),
        numbers: share_of(asked, cover.exact, |i| asked.terms[i].lexeme.classes.number),
        length: ln(words.len()),
        with_previous: at
            .checked_sub(1)
            .map_or_else(|| share(asked, cover.spelling.iter().copied()), |i| cover.with(covers.part(i), asked)),
        nearness_with_previous: nearness(met, &reading.words[previous..part.words.end]),
        with_next: if at + 1 < reading.parts.len() {
            cover.with(covers.part(at + 1), asked)
        } else {
            share(asked, cover.spelling.iter().copied())
        },
        first: flag(at == 0),
        place: at as f32 / reading.parts.len() as f32,
        cut: flag(part.cut),
        points_back: flag(words.first().is_some_and(|word| met.word(*word).lexeme.classes.points_back)),
        said: (content - fresh) as f32 / content.max(1) as f32,
        adds: ln(fresh),
        pairs: pairs(met, words, &touching),
        spread,
        onset: touching.first().map_or(1.0, |first| *first as f32 / words.len() as f32),
        kind_found: if asked.kind == Kind::Thing { -1.0 } else { flag(!added.is_empty()) },
        kind_count: ln(added.len()),
        kind_distance: distance.map_or(-1.0, ln),
        focus: asked.focus.map_or(-1.0, |focus| cover.meaning[focus]),
        focus_added,
        last_term: cover.meaning.last().copied().unwrap_or(0.0),
        missed: missed(cover),
        lacks_around: lacks(asked, covers.around(at)),
        around: share(asked, covers.around(at)),
        run: run(met, words) as f32,
        negates: flag(negates != asked.negates),
        adds_names: ln(kind_words(Kind::Person, met, words).count()),
        adds_numbers: ln(kind_words(Kind::Number, met, words).count()),
        ..passage
    }
}

fn missed(cover: CoverageRow<'_>) -> f32 {
    cover.sense.iter().filter(|sense| **sense < 0.5).count() as f32
}

/// The longest run of words in which the question and the sentence agree.
fn run(met: &MatchCache<'_>, words: &[PassageWord]) -> usize {
    // For each place in the question, how many words up to it agree with those up to here.
    let mut runs = vec![0; met.asked.words.len()];
    let mut longest = 0;
    let mut running = false;
    for word in words {
        let places = &met.word(*word).places;
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

/// The words of the kind that is asked for, which the question does not say itself.
fn kind_words(kind: Kind, met: &MatchCache<'_>, words: &[PassageWord]) -> impl Iterator<Item = usize> {
    let is = move |i: usize| {
        let word = met.word(words[i]);
        let classes = word.lexeme.classes;
        let name = words[i].capital && !classes.stop && !classes.number && !classes.date;
        match kind {
            Kind::Thing => !classes.stop,
            Kind::Person => name,
            Kind::Date => classes.date,
            Kind::Place => {
                let leads = |j: usize| met.word(words[j]).lexeme.classes.leads_place;
                name && (1..=3).any(|back| i >= back && leads(i - back))
            }
            Kind::Number => classes.number,
            Kind::Reason => classes.reason,
            Kind::Manner => classes.manner,
        }
    };
    (0..words.len()).filter(move |&i| !met.word(words[i]).said && is(i))
}

/// The share of the question's neighbouring terms that stand within three words of each other, in the same order.
fn pairs(met: &MatchCache<'_>, words: &[PassageWord], touching: &[usize]) -> f32 {
    let terms = met.asked.terms.len();
    if terms < 2 {
        return -1.0;
    }
    let touches = |i: usize, term: usize| met.spelling(words[i], term) > 0.0;
    let is_pair = |term: &usize| {
        touching
            .iter()
            .any(|&i| touches(i, *term) && (i + 1..words.len().min(i + 4)).any(|j| j != i && touches(j, term + 1)))
    };
    (0..terms - 1).filter(is_pair).count() as f32 / (terms - 1) as f32
}

/// Where there is no other passage: clearly worse.
const NO_ODDS: f32 = -10.0;

/// What can only be said beside the others.
pub(super) fn compare(found: &mut [Candidate]) {
    let passages = found.iter().map(|candidate| candidate.passage + 1).max().unwrap_or(0);
    let mut best_odds = vec![[NO_ODDS; 3]; passages];
    let odds = |f: &Features| [f.odds, f.passage_odds, f.around_odds];
    let mut best_part = vec![0.0_f32; passages];
    let mut best_sense = vec![0.0_f32; passages];
    let mut best_nearness = vec![-1.0_f32; passages];
    let mut whole = vec![0.0_f32; passages];
    for Candidate { passage, features, .. } in found.iter() {
        best_part[*passage] = best_part[*passage].max(features.spelling);
        best_sense[*passage] = best_sense[*passage].max(features.sense);
        best_nearness[*passage] = best_nearness[*passage].max(features.nearness);
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
