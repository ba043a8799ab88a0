//! The features' names and values as plain data, below the modules that compute them (`features.rs`, `question.rs`) and the
//! one that reads them by position (`model.rs`). `fit.py` learns from the same names in the same order.

use std::collections::BTreeMap;

/// The ways in which a candidate can hold a term of the question, in the order of the bits of `held`: by a word spelled
/// alike in the sentence, in its passage, or in the sentence and its neighbours; by a word of clearly like meaning in the
/// sentence, or in its passage.
pub(super) const WAYS_TO_HOLD: usize = 5;

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

features! {
    /// What is known of one term of a question. Each field says its range.
    TermFeatures:
    /// Its inverse document frequency.
    weight,
    /// How rare it is in English at large.
    rarity,
    /// 0 or 1: it is part of a name.
    name,
    /// 0 or 1: it is a number.
    number,
    /// Its place among the terms, from 0.
    place,
    /// 0 or 1: it says of what kind the answer is.
    focus,
    /// 0 or 1: it is the last term.
    last,
    /// The kind of question: see `Kind`.
    kind,
    /// The number of terms.
    terms,
    /// 0 or 1: it ends in -ed, as verbs of the past do.
    ed,
    /// 0 or 1: it ends in -ing.
    ing,
    /// 0 or 1: it ends in -s.
    s,
    /// Its length in bytes.
    letters,
    /// How many terms weigh more.
    heavier,
    /// 0 or 1: no passage holds it.
    absent,
    /// 0 or 1: the question begins with its question word.
    asks_first,
}

features! {
    /// What is known of one candidate. Each field says its range.
    ///
    /// Shares of the question are shares of its terms' weight, so they compare across questions and corpora. Where a
    /// feature has no meaning (a question without names has no share of its names), it is -1.
    Features:
    /// 0 to 1: the share of the question that the passage holds, by the same terms.
    passage_exact,
    /// 0 to 1: the same, and words that are spelled alike count in part.
    passage_spelling,
    /// 0 to 1: the same, and words of like meaning count in part.
    passage_meaning,
    /// 0 to 1: the same, and words of clearly like meaning count in part.
    passage_sense,
    /// 0 to 1: the share of the weightiest term that the passage lacks: one missing name may be the whole question.
    passage_lacks,
    /// -1 to 1: the cosine of the passage's mean word vector and the question's.
    passage_nearness,
    /// BM25 divided by the sum of the weights, 0 to about 2.
    passage_bm25,
    /// 0 to 1: BM25 divided by that of the best passage.
    passage_bm25_share,
    /// The logarithm of the passage's rank by BM25.
    passage_rank,
    /// 0 to 1, or -1: the share of the question's names that the passage holds.
    passage_names,
    /// 0 to 1, or -1: the share of the question's numbers that the passage holds: another year is another event.
    passage_numbers,
    /// The logarithm of its length in words: a long passage holds more words by chance.
    passage_length,
    /// 0 to 1: as `passage_exact`, for the sentence itself.
    exact,
    /// 0 to 1: as `passage_spelling`, for the sentence itself.
    spelling,
    /// 0 to 1: as `passage_meaning`, for the sentence itself.
    meaning,
    /// 0 to 1: as `passage_sense`, for the sentence itself.
    sense,
    /// 0 to 1: as `passage_lacks`, for the sentence itself.
    lacks,
    /// 0 to 1: the same, and words of clearly like meaning count in part.
    lacks_sense,
    /// -1 to 1: as `passage_nearness`, for the sentence itself.
    nearness,
    /// 0 to 1, or -1: as `passage_names`, for the sentence itself.
    names,
    /// 0 to 1, or -1: as `passage_numbers`, for the sentence itself.
    numbers,
    /// The logarithm of the sentence's length in words.
    length,
    /// 0 to 1: the share that the sentence and the one before it hold: "It" stands for what was named there.
    with_previous,
    /// -1 to 1: the cosine of the mean word vector of both and the question's.
    nearness_with_previous,
    /// 0 to 1: the share that the sentence and the one after it hold.
    with_next,
    /// 0 or 1: it is the passage's first sentence.
    first,
    /// 0 to 1: its place in the passage.
    place,
    /// 0 or 1: it is a clause of a longer sentence.
    cut,
    /// 0 or 1: it begins with a word that refers back: "He", "This".
    points_back,
    /// 0 to 1: the share of its content words that are in the question: the rest shows what else it is about.
    said,
    /// The logarithm of how many content words it has that the question has not.
    adds,
    /// 0 to 1, or -1: the share of the question's neighbouring terms that are near and in order here.
    pairs,
    /// The logarithm of the number of words from the first matching term to the last, divided by the number of matches.
    spread,
    /// 0 to 1: where the first matching term is, from 0 at the beginning: a sentence is mostly about what it begins with.
    onset,
    /// 0 or 1: it adds a word of the kind that is asked for; -1 for questions of no such kind.
    kind_found,
    /// The logarithm of how many such words it adds.
    kind_count,
    /// The logarithm of the number of words from the nearest of them to a term of the question; -1 without.
    kind_distance,
    /// 0 to 1, or -1: how similar its words are to the word that says of what kind the answer is.
    focus,
    /// -1 to 1: how similar in meaning to that word the words that it adds are: "Atlantic" to "ocean".
    focus_added,
    /// 0 to 1: how similar its words are to the question's last term.
    last_term,
    /// How many of the question's terms the sentence has nothing similar to.
    missed,
    /// How many of them the passage has nothing similar to.
    passage_missed,
    /// 0 to 1: the share of the weightiest term that the sentence and its neighbours lack.
    lacks_around,
    /// 0 to 1: the share of the question that the sentence and its neighbours hold.
    around,
    /// The longest run of words, stop words too, that the question has as well.
    run,
    /// 0 or 1: one of question and sentence negates, and the other does not.
    negates,
    /// The logarithm of how many names it adds.
    adds_names,
    /// The logarithm of how many numbers it adds.
    adds_numbers,
    /// The kind of question: see `Kind`.
    kind,
    /// The logarithm of the question's length in words.
    question_length,
    /// 0 or 1: the question begins with its question word.
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
    /// -2 to 2: how far its `nearness` is above that of the best of another passage.
    lead_nearness,
    /// -1 to 0: how much less it holds than the best sentence of its own passage.
    within,
    /// The logarithm of how many other passages hold nearly as much.
    rivals,
    /// Log-odds that the sentence is right, by the terms that it holds and those that it lacks; see `expected.rs`.
    odds,
    /// 0 to 1: the share of the terms that it is expected to hold.
    expected,
    /// Log-odds: as `odds`, for the passage.
    passage_odds,
    /// 0 to 1: as `expected`, for the passage.
    passage_expected,
    /// Log-odds: as `odds`, for the sentence and its neighbours.
    around_odds,
    /// 0 to 1: as `expected`, for the sentence and its neighbours.
    around_expected,
    /// Log-odds: as `odds`, by words of clearly like meaning.
    sense_odds,
    /// 0 to 1: as `expected`, by words of clearly like meaning.
    sense_expected,
    /// Log-odds: as `passage_odds`, by words of clearly like meaning.
    passage_sense_odds,
    /// 0 to 1: as `passage_expected`, by words of clearly like meaning.
    passage_sense_expected,
    /// 0 to 1: as `lacks`, by the words' cosines.
    lacks_meaning,
    /// 0 to 1: as `lacks_meaning`, for the passage.
    passage_lacks_meaning,
    /// 0 to 1: the share of the second weightiest term that the sentence lacks, by spelling or clearly like meaning.
    lacks_second,
    /// -1 to 1: as `lead`, by the words' cosines.
    lead_meaning,
    /// 0 to 1, or -1: the share of the question without its names that the sentence holds, by spelling.
    others,
    /// 0 to 1, or -1: the same, by the words' cosines.
    others_meaning,
    /// 0 to 1, or -1: as `others`, for the passage.
    passage_others,
    /// 0 to 1: as `around`, by the words' cosines.
    around_meaning,
    /// 0 or 1: the sentence is a record of its own.
    line,
    /// 0 to 1, or -1: the share of the question's codes (numbers, words with a digit or a sign) that the sentence holds.
    codes,
    /// 0 to 1, or -1: the same, for the sentence and what it is to be read with.
    codes_around,
    /// 0 or 1: it has another code where the question has one that it lacks.
    conflicts,
    /// 0 or 1: one of question and sentence negates a word that they share, and the other does not.
    negates_shared,
    /// 0 to 1, or -1: as `codes`, for the passage.
    codes_passage,
    /// 1: it lacks what the question requires; 0.5: it negates what the question does not; else 0. See `requirements.rs`.
    vetoed,
    /// How far the sentence's log-odds are above the best of another passage.
    odds_lead,
    /// The same, for the passage.
    passage_odds_lead,
    /// The same, for the sentence and its neighbours.
    around_odds_lead,
}

impl Features {
    /// The features that weigh most, rounded to three places, for the evidence; those without a meaning here are left out.
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
        let meaningful = main.into_iter().filter(|(name, value)| *value != -1.0 || !optional.contains(name));
        meaningful.map(|(name, value)| (name, (value * 1_000.0).round() / 1_000.0)).collect()
    }
}
