//! A question taken apart: its terms and their weights, the kind of answer it asks for, and what is expected of each term.

use std::sync::Arc;

use super::expected::{ExpectedTerm, expected_terms};
use super::language::{has_no_content, language};
use super::lexicon::{self, Classes, Lexeme, lexeme};
use super::table::TermFeatures;
use super::vectors::{DIMENSIONS, Sum};
use crate::index::{IndexError, Indexed, Snapshot, respelled, words};
use crate::question::Question;
use crate::words::{DATE_NOUNS, Language, MEASURES, NUMBER_NOUNS, PERSON_NOUNS, PLACE_NOUNS, REASON_NOUNS};

/// Terms of a question that are used; a longer question mostly repeats itself.
pub const MAX_TERMS: usize = 24;

/// What a question asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// What, which: anything.
    Thing = 0,
    /// Who.
    Person = 1,
    /// When, in what year.
    Date = 2,
    /// Where, which city.
    Place = 3,
    /// How many, what percentage.
    Number = 4,
    /// Why.
    Reason = 5,
    /// How.
    Manner = 6,
}

impl Kind {
    /// By its name in the lists of question words.
    fn named(name: &str) -> Self {
        match name {
            "person" => Self::Person,
            "date" => Self::Date,
            "place" => Self::Place,
            "number" => Self::Number,
            "reason" => Self::Reason,
            "manner" => Self::Manner,
            _ => Self::Thing,
        }
    }

    /// Whether its answers are numbers, dates or names, which are either the same or not.
    pub(super) fn has_values(self) -> bool {
        match self {
            Self::Thing | Self::Person | Self::Date | Self::Place | Self::Number => true,
            Self::Reason | Self::Manner => false,
        }
    }
}

/// A content term of the question.
#[derive(Debug)]
pub(super) struct QuestionTerm {
    /// What is known of it.
    pub(super) lexeme: Arc<Lexeme>,
    /// What the index knows of it.
    pub(super) indexed: Indexed,
    /// Its inverse document frequency.
    pub(super) weight: f32,
    /// Whether no passage holds it.
    pub(super) absent: bool,
    /// Whether it is part of a name.
    pub(super) name: bool,
    /// Whether a word that negates is before it.
    pub(super) negated: bool,
    /// Whether it is a number, a code or the letters that begin one, a Roman numeral, a single letter.
    pub(super) code: bool,
    /// The terms of the words before and after it.
    pub(super) beside: [Option<String>; 2],
}

/// How many words after one that negates a word can be negated by it: "not yet really open".
pub(super) const NEGATED_WITHIN: usize = 3;

/// A question as the index sees it.
#[derive(Debug)]
pub(super) struct ParsedQuestion {
    /// Its content terms in their order, each once.
    pub(super) terms: Vec<QuestionTerm>,
    /// The sum of their weights.
    pub(super) total: f32,
    /// What it asks for.
    pub(super) kind: Kind,
    /// The term that says of what kind the answer is: "city" in "Which city …?".
    pub(super) focus: Option<usize>,
    /// Whether it has a word that negates.
    pub(super) negates: bool,
    /// The weighted sum of its words' vectors.
    pub(super) meaning: Sum,
    /// All its words' terms, stop words too, in their order.
    pub(super) words: Vec<String>,
    /// Whether it begins with its question word.
    pub(super) asks_first: bool,
    /// Whether it has a question word: without one, yes and no are answers.
    pub(super) asks: bool,
    /// Which terms a sentence that answers it is expected to hold.
    pub(super) expected: Vec<ExpectedTerm>,
}

impl ParsedQuestion {
    /// Takes a question apart, and weighs its terms by how rare they are in the index.
    pub(super) fn new(question: &Question, index: &Snapshot) -> Result<Self, IndexError> {
        let mut respellings = Respellings::default();
        let words: Vec<(&str, Arc<Lexeme>)> = words(question.as_str())
            .map(|(_, word)| Ok((word, respellings.known(word, index)?)))
            .collect::<Result<_, IndexError>>()?;
        let language = language(&words);
        let has_content = |lexeme: &Lexeme| match language {
            Some(language) => !has_no_content(language, &lexeme.lower),
            None => !lexeme.classes.stop,
        };
        // "Who is it?" has nothing but stop words: then these are the terms.
        let all_stop = !words.iter().any(|(_, lexeme)| has_content(lexeme));
        let (kind, question_word, noun) = match language {
            Some(language) => kind_in(language, &words),
            None => kind(&words),
        };
        let (mut terms, mut sum): (Vec<QuestionTerm>, _) = (Vec::new(), [0.0_f32; DIMENSIONS]);
        let mut focus = None;
        for (at, (word, lexeme)) in words.iter().enumerate() {
            if !has_content(lexeme) && !all_stop {
                continue;
            }
            if noun == Some(at) {
                focus = Some(terms.iter().position(|t| t.lexeme.term == lexeme.term).unwrap_or(terms.len()));
            }
            if terms.len() >= MAX_TERMS || terms.iter().any(|term| term.lexeme.term == lexeme.term) {
                continue;
            }
            let indexed = index.look_up(&lexeme.term)?;
            let weight = inverse_document_frequency(indexed.frequency, index.distinct_passages);
            if let Some(vector) = &lexeme.vector {
                vector.add_to(&mut sum, weight);
            }
            terms.push(QuestionTerm {
                lexeme: Arc::clone(lexeme),
                weight,
                absent: indexed.frequency == 0,
                indexed,
                name: word.starts_with(char::is_uppercase) && (at > 0 || question_word != Some(0)),
                negated: is_negated(words[..at].iter().map(|(_, lexeme)| lexeme.classes)),
                code: is_code(word, lexeme.classes, words.get(at + 1).map(|(_, next)| next.classes)),
                beside: [at.checked_sub(1), Some(at + 1)].map(|at| Some(words.get(at?)?.1.term.clone())),
            });
        }
        let mut parsed = Self {
            total: terms.iter().map(|term| term.weight).sum::<f32>().max(f32::MIN_POSITIVE),
            focus: focus.filter(|at| *at < terms.len()),
            terms,
            kind,
            negates: words.iter().any(|(_, lexeme)| lexeme.classes.negates),
            meaning: sum,
            words: words.iter().map(|(_, lexeme)| lexeme.term.clone()).collect(),
            asks_first: question_word == Some(0),
            asks: question_word.is_some(),
            expected: Vec::new(),
        };
        parsed.expected = expected_terms(&parsed.term_features());
        Ok(parsed)
    }

    /// What is known of its terms.
    pub(super) fn term_features(&self) -> Vec<TermFeatures> {
        let flag = |is: bool| f32::from(u8::from(is));
        let features = |(at, term): (usize, &QuestionTerm)| {
            let word = &term.lexeme.lower;
            TermFeatures {
                weight: term.weight,
                rarity: term.lexeme.rarity,
                name: flag(term.name),
                number: flag(term.lexeme.classes.number),
                place: at as f32,
                focus: flag(self.focus == Some(at)),
                last: flag(at + 1 == self.terms.len()),
                kind: f32::from(self.kind as u8),
                terms: self.terms.len() as f32,
                ed: flag(word.ends_with("ed")),
                ing: flag(word.ends_with("ing")),
                s: flag(word.ends_with('s')),
                letters: word.len() as f32,
                heavier: self.terms.iter().filter(|other| other.weight > term.weight).count() as f32,
                absent: flag(term.absent),
                asks_first: flag(self.asks_first),
            }
        };
        self.terms.iter().enumerate().map(features).collect()
    }
}

/// The longest abbreviation that makes one code with the number after it, in letters.
const CODE_PREFIX: usize = 4;

/// Whether a word is a number or a code, given the classes of the next one: it has a digit or a sign, begins a code ("LH" in
/// "LH 447"), is a Roman numeral or a single letter ("vitamin C").
fn is_code(word: &str, classes: Classes, next: Option<Classes>) -> bool {
    let capitals = word.bytes().all(|b| b.is_ascii_uppercase());
    let is_roman = word.len() > 1 && word.bytes().all(|b| matches!(b, b'I' | b'V' | b'X' | b'L'));
    let begins_code = word.len() <= CODE_PREFIX && next.is_some_and(|next| next.code);
    classes.code || capitals && (is_roman || begins_code || word.len() == 1 && word != "I")
}

/// Whether a word is negated, given the classes of the words before it: one that negates is near, and no content word is
/// between.
pub(super) fn is_negated(before: impl DoubleEndedIterator<Item = Classes>) -> bool {
    before
        .rev()
        .take(NEGATED_WITHIN)
        .take_while(|classes| classes.stop || classes.negates)
        .any(|classes| classes.negates)
}

/// The words of a question that may be spelled in another way, each looked up once: a long question may have hundreds.
#[derive(Default)]
struct Respellings<'a>(foldhash::HashMap<&'a str, Arc<Lexeme>>);

impl<'a> Respellings<'a> {
    /// What is known of a word: in its other spelling, where the data have that one alone. After as many as a question may have
    /// terms, words are taken as they are spelled.
    fn known(&mut self, word: &'a str, index: &Snapshot) -> Result<Arc<Lexeme>, IndexError> {
        if let Some(known) = self.0.get(word) {
            return Ok(Arc::clone(known));
        }
        let lexeme = lexeme(word);
        let respelled = respelled(word).filter(|_| self.0.len() < MAX_TERMS).map(|word| lexicon::lexeme(&word));
        let Some(respelled) = respelled else { return Ok(lexeme) };
        let other = index.look_up(&lexeme.term)?.frequency == 0 && index.look_up(&respelled.term)?.frequency > 0;
        let known = if other { respelled } else { lexeme };
        self.0.insert(word, Arc::clone(&known));
        Ok(known)
    }
}

/// The kind of a question, which of its words is the question word, and which is the noun that says of what kind the
/// answer is.
fn kind(words: &[(&str, Arc<Lexeme>)]) -> (Kind, Option<usize>, Option<usize>) {
    let lower = |at: usize| words.get(at).map_or("", |(_, lexeme)| lexeme.lower.as_str());
    let asks =
        |word: &str| matches!(word, "who" | "whom" | "whose" | "when" | "where" | "what" | "which" | "why" | "how");
    // Within a sentence "when", "where" and "how" are mostly no question words, unless there is no other.
    let likely = |at: &usize| asks(lower(*at)) && (*at == 0 || !matches!(lower(*at), "when" | "where" | "how"));
    let Some(at) = (0..words.len()).find(likely).or_else(|| (0..words.len()).find(|at| asks(lower(*at)))) else {
        return (Kind::Thing, None, None);
    };
    // The first content word soon after it: "what was the main city", "how many people".
    let noun = (at + 1..words.len().min(at + 4)).find(|&n| !words[n].1.classes.stop);
    let next = noun.map_or("", &lower);
    let kind = match lower(at) {
        "who" | "whom" | "whose" => Kind::Person,
        "when" => Kind::Date,
        "where" => Kind::Place,
        "why" => Kind::Reason,
        "how" if MEASURES.contains(lower(at + 1)) => Kind::Number,
        "how" => Kind::Manner,
        _ if DATE_NOUNS.contains(next) => Kind::Date,
        _ if NUMBER_NOUNS.contains(next) => Kind::Number,
        _ if PLACE_NOUNS.contains(next) => Kind::Place,
        _ if PERSON_NOUNS.contains(next) => Kind::Person,
        _ if REASON_NOUNS.contains(next) => Kind::Reason,
        _ => Kind::Thing,
    };
    let names_kind = matches!(lower(at), "what" | "which" | "whose") || kind == Kind::Number;
    (kind, Some(at), noun.filter(|_| names_kind))
}

/// The same of a question in another language than English; its first question word decides.
fn kind_in(language: &Language, words: &[(&str, Arc<Lexeme>)]) -> (Kind, Option<usize>, Option<usize>) {
    let asks = |at: usize| Some(Kind::named(language.question_words.get(words.get(at)?.1.lower.as_str())?));
    let Some((at, first)) = (0..words.len()).find_map(|at| Some((at, asks(at)?))) else {
        return (Kind::Thing, None, None);
    };
    // "Wie viele" is how many.
    let kind = asks(at + 1).filter(|next| *next == Kind::Number).unwrap_or(first);
    let noun = (at + 1..words.len().min(at + 4)).find(|noun| !has_no_content(language, &words[*noun].1.lower));
    (kind, Some(at), noun.filter(|_| matches!(kind, Kind::Thing | Kind::Number)))
}

/// BM25's inverse document frequency (Robertson and Spärck Jones 1976, with the 1 that keeps it positive), with a
/// thousand imaginary passages beside the real ones, in three of which each term occurs: in a handful of passages,
/// counts alone do not show how rare a word is.
fn inverse_document_frequency(frequency: u64, passages: u64) -> f32 {
    let (n, df) = (passages as f64 + 1_000.0, frequency as f64 + 3.0);
    (1.0 + (n - df + 0.5) / (df + 0.5)).ln() as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::Index;

    fn parsed(question: &str) -> ParsedQuestion {
        let index = Index::new().expect("a new index");
        ParsedQuestion::new(&question.parse().expect("a question"), &index.snapshot()).expect("a readable index")
    }

    #[test]
    fn the_question_word_says_what_is_asked_for() {
        for (question, kind) in [
            ("Who built Multivac?", Kind::Person),
            ("When was it built?", Kind::Date),
            ("In what year was it built?", Kind::Date),
            ("Which city is it in?", Kind::Place),
            ("How many stars are left?", Kind::Number),
            ("What is the population of Earth?", Kind::Number),
            ("Why do stars die?", Kind::Reason),
            ("How can entropy be reversed?", Kind::Manner),
            ("What is entropy?", Kind::Thing),
            ("Multivac was built by whom?", Kind::Person),
            ("entropy", Kind::Thing),
        ] {
            assert_eq!(parsed(question).kind, kind, "{question}");
        }
    }

    #[test]
    fn a_question_in_another_language_has_its_own_stop_words_and_question_words() {
        for (question, kind, terms) in [
            ("Wer gründete die Stadt Łódź?", Kind::Person, &["gründete", "stadt", "łódź"][..]),
            ("Wie viele Brücken hat die Stadt?", Kind::Number, &["brücken", "stadt"]),
            ("Quand l'école a-t-elle ouvert ?", Kind::Date, &["l'école", "ouvert"]),
            ("¿Dónde vive el alcalde?", Kind::Place, &["vive", "alcalde"]),
            ("Perché il ponte è chiuso?", Kind::Reason, &["ponte", "chiuso"]),
            ("Quem construiu a ponte?", Kind::Person, &["construiu", "ponte"]),
            ("Wanneer is de brug gebouwd?", Kind::Date, &["brug", "gebouwd"]),
            ("Кто построил маяк?", Kind::Person, &["построил", "маяк"]),
            ("도서관은 어디에 있습니까?", Kind::Place, &["도서", "서관"]),
            ("한글은 누가 만들었습니까?", Kind::Person, &["한글", "만들"]),
            ("Who directed Die Hard?", Kind::Person, &["directed", "die", "hard"]),
        ] {
            let parsed = parsed(question);
            assert_eq!(parsed.kind, kind, "{question}");
            assert_eq!(
                parsed.terms.iter().map(|term| term.lexeme.lower.as_str()).collect::<Vec<_>>(),
                terms,
                "{question}"
            );
        }
    }

    #[test]
    fn stop_words_count_only_where_there_is_nothing_else() {
        let words =
            |question: &str| parsed(question).terms.iter().map(|term| term.lexeme.lower.clone()).collect::<Vec<_>>();
        assert_eq!(words("How can the entropy be reversed?"), ["entropy", "reversed"]);
        assert_eq!(words("Who is it?"), ["who", "is", "it"]);
    }

    #[test]
    fn a_focus_says_of_what_kind_the_answer_is() {
        let parsed = parsed("Which ancient city did Troy's king leave?");
        assert_eq!(parsed.focus.map(|at| parsed.terms[at].lexeme.lower.as_str()), Some("ancient"));
        assert!(parsed.terms.iter().any(|term| term.name && term.lexeme.lower == "troy"));
    }
}
